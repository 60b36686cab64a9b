"""All layers at once, forward and back, of a model whose weights do not learn: how a CPU reads windows.

`model` has the equations. Here they are one differentiable function, with gradients by the embeddings and by
the state, and with weights that get none. Rows of any lengths lie end to end, so that nothing is computed for
padding, and rows from which nothing learns cost no more than their forward pass.

Legend: B rows, T steps, M tokens of all rows, S tokens of the rows that learn, D hidden size, H heads, N head
size, L layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sttx_train.rwkv7.elementwise import parts, share, with_zeros
from sttx_train.rwkv7.loops import kernels
from sttx_train.rwkv7.matrices import Matrix
from sttx_train.wkv.compiled import go_back_rows, kept_states, read_rows

_VECTORS = (
    *("att.x_r", "att.x_w", "att.x_k", "att.x_v", "att.x_a", "att.x_g"),
    *("att.w0", "att.a0", "att.k_k", "att.k_a", "att.v0"),
    *("att.r_k", "att.ln_x.weight", "att.ln_x.bias", "ffn.x_k"),
)


class Rows(NamedTuple):
    """Rows of tokens that lie end to end.

    Attributes:
        places: ``[M]`` where each token is in the padded batch; None if nothing is padding.
        previous: ``[M]`` the token before each, as `elementwise.previous_of` counts.
        starts: bool ``[M]``, true where a document starts.
        bounds: ``[B + 1]`` the first token of each row, and the end of the last one.
        learning: how many of the first rows are learned from.
    """

    places: Tensor | None
    previous: Tensor
    starts: Tensor
    bounds: Tensor
    learning: int

    @property
    def learned(self) -> int:
        """S, the tokens that are learned from."""
        return int(self.bounds[self.learning])


def rows_of(
    rows: int, steps: int, lengths: Tensor | None, starts: Tensor | None, learning: int | None = None
) -> Rows:
    """Return the rows of a padded batch.

    Args:
        rows: B.
        steps: T.
        lengths: number of real tokens of each row ``[B]``; None if none is padding.
        starts: bool ``[B, T]``, true where a document starts; None for nowhere.
        learning: how many of the first rows are learned from; all when None.
    """
    places = None
    counts = torch.full((rows,), steps) if lengths is None else lengths
    if lengths is not None:
        places = (torch.arange(steps) < lengths.unsqueeze(1)).view(-1).nonzero().squeeze(1)
    bounds = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    total = int(bounds[-1])
    begin = torch.zeros(total, dtype=torch.bool) if starts is None else starts.reshape(-1)
    begin = begin if starts is None or places is None else begin[places]
    previous = torch.arange(-1, total - 1)
    previous[bounds[:-1]] = -1 - torch.arange(rows)
    previous[begin] = -1 - rows
    return Rows(places, previous, begin.contiguous(), bounds, rows if learning is None else learning)


class Layer(NamedTuple):
    """Weights of a block: matrices by their names, vectors stacked as the loops read them."""

    matrices: dict[str, Matrix]
    shares: Tensor
    inputs: Tensor
    output: Tensor
    inner_share: Tensor
    norms: dict[str, tuple[Tensor, Tensor]]


class Weights(NamedTuple):
    """Weights of all blocks, and the sizes beside them."""

    layers: list[Layer]
    last_norm: tuple[Tensor, Tensor]
    heads: int
    eps: float
    head_eps: float


def weights_of(
    parameters: Mapping[str, Tensor], layers: int, heads: int, eps: float, head_eps: float, *, tiled: bool
) -> Weights:
    """Return the weights of a model from its parameters, by their published names.

    Args:
        parameters: those of the blocks and the last norm.
        layers: L.
        heads: H.
        eps: epsilon of every LayerNorm.
        head_eps: epsilon of the norm of each head's output.
        tiled: pack matrices for the processor's matrix unit when they are first needed.
    """
    found = {name: parameter.detach() for name, parameter in parameters.items()}
    norm = (found["ln_out.weight"], found["ln_out.bias"])
    return Weights([_layer(found, layer, tiled) for layer in range(layers)], norm, heads, eps, head_eps)


def _layer(found: Mapping[str, Tensor], layer: int, tiled: bool) -> Layer:
    start = f"blocks.{layer}."
    own = {name.removeprefix(start): x for name, x in found.items() if name.startswith(start)}
    zeros = torch.zeros_like(own["att.w0"])
    table = torch.stack([own.get(name, zeros).reshape(-1) for name in _VECTORS])
    norms = {
        name: (own[f"{name}.weight"], own[f"{name}.bias"])
        for name in ("ln0", "ln1", "ln2")
        if f"{name}.bias" in own
    }
    matrices = {  # torch keeps those of its linear layers as [outputs, inputs]
        name.removesuffix(".weight"): Matrix(x.t() if name.endswith(".weight") else x, tiled=tiled)
        for name, x in own.items()
        if x.ndim == 2 and name != "att.r_k"
    }
    return Layer(matrices, table[:6], table[6:11], table[11:14], table[14:15], norms)


def read_whole(
    weights: Weights, rows: Rows, x: Tensor, att_shift: Tensor, wkv: Tensor, ffn_shift: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what the head reads ``[B, T, D]``, 0 where padding is, and the three parts of the new state.

    Args:
        weights: the model's.
        rows: how the tokens lie.
        x: embeddings ``[B, T, D]``, float32 on the CPU.
        att_shift: ``[L, B, D]``.
        wkv: ``[L, B, H, N, N]``.
        ffn_shift: ``[L, B, D]``.
    """
    inputs = (x, att_shift, wkv, ffn_shift)
    learns = torch.is_grad_enabled() and any(one.requires_grad for one in inputs)
    return _Whole.apply(weights, rows if learns else rows._replace(learning=0), *inputs)


class _Whole(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Weights, rows: Rows, *inputs: Tensor) -> tuple[Tensor, ...]:
        x_BTD, att_shift, wkv, ffn_shift = (one.detach() for one in inputs)
        x = x_BTD.reshape(-1, x_BTD.shape[-1])
        x = x if rows.places is None else x[rows.places]
        embedded = _Norm(x, weights.layers[0].norms["ln0"], weights.eps)
        x, value, blocks = embedded.y, None, []
        state = wkv.transpose(-1, -2).clone(memory_format=torch.contiguous_format)
        shifts, last = (torch.empty_like(att_shift), torch.empty_like(ffn_shift)), rows.bounds[1:] - 1
        for index, layer in enumerate(weights.layers):
            block = _Block(weights, layer, rows, value)
            x = block.forward(x, att_shift[index], state[index], ffn_shift[index])
            shifts[0][index], shifts[1][index] = block.norms[0].y[last], block.norms[1].y[last]
            value = block.first_v
            blocks += [block] if rows.learning else []
        final = _Norm(x, weights.last_norm, weights.eps)
        ctx.read, ctx.shape = (rows, embedded, blocks, final), x_BTD.shape
        hidden = _padded(final.y, rows, x_BTD.shape)
        return hidden, shifts[0], state.transpose(-1, -2).contiguous(), shifts[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        rows, embedded, blocks, final = ctx.read
        dhidden, datt_shift, dwkv, dffn_shift = gradients
        learned, last = rows.learned, rows.bounds[1 : rows.learning + 1] - 1
        d = dhidden.reshape(-1, dhidden.shape[-1])
        d = final.backward(d[:learned] if rows.places is None else d[rows.places[:learned]])
        found = [torch.zeros_like(one) for one in gradients[1:]]
        states = dwkv[:, : rows.learning].transpose(-1, -2).clone(memory_format=torch.contiguous_format)
        first_v = torch.zeros(0)
        for index, block in reversed(list(enumerate(blocks))):
            shifts = datt_shift[index, : rows.learning], dffn_shift[index, : rows.learning]
            before = found[0][index, : rows.learning], found[2][index, : rows.learning]
            further = index > 0 or any(ctx.needs_input_grad[i] for i in (2, 3))
            d, first_v = block.backward(d, first_v, states[index], last, shifts, before, further)
        found[1][:, : rows.learning] = states.transpose(-1, -2)
        dx = None
        if ctx.needs_input_grad[2]:
            dx = _padded(embedded.backward(d), rows, ctx.shape)
        return None, None, dx, *found


class _Norm:
    """A LayerNorm of tokens, which keeps what going back needs."""

    def __init__(self, x: Tensor, affine: tuple[Tensor, Tensor], eps: float) -> None:
        self.x, self.affine = x, affine
        self.y, *self.scales = torch.native_layer_norm(x, x.shape[-1:], *affine, eps)

    def backward(self, d: Tensor) -> Tensor:
        """Return the gradient by the first tokens, given that by what they became."""
        count, mask = len(d), [True, False, False]
        scales = (one[:count] for one in self.scales)
        back = torch.ops.aten.native_layer_norm_backward
        return back(d, self.x[:count], d.shape[-1:], *scales, *self.affine, mask)[0]


class _Block:
    """One block's pass over all tokens, which keeps what going back needs.

    Args:
        weights: the model's.
        layer: the block's.
        rows: how the tokens lie.
        first_v: layer 0's value; None in layer 0.

    Attributes:
        first_v: layer 0's value, also there.
        norms: of the two halves.
    """

    def __init__(self, weights: Weights, layer: Layer, rows: Rows, first_v: Tensor | None) -> None:
        self.weights, self.layer, self.rows = weights, layer, rows
        self.mixed, self.first_v = first_v is not None, first_v
        self.norms: list[_Norm] = []

    def forward(self, x: Tensor, att_shift: Tensor, state: Tensor, ffn_shift: Tensor) -> Tensor:
        """Return the output ``[M, D]``; the state after the tokens replaces the one before."""
        of, norms, eps = self.layer.matrices, self.layer.norms, self.weights.eps
        self.norms = [_Norm(x, norms["ln1"], eps)]
        middle = of["att.output"](self._attend(self.norms[0].y, att_shift, state), plus=x)
        self.norms.append(_Norm(middle, norms["ln2"], eps))
        mixed = self._mix(self.norms[1].y, ffn_shift, self.layer.inner_share)
        self.inner = of["ffn.key"](mixed[0]).relu_()
        return of["ffn.value"](self.inner.square(), plus=middle)

    def _mix(self, x: Tensor, shift: Tensor, shares: Tensor) -> Tensor:
        mixes = x.new_empty(len(shares), *x.shape)
        share(kernels().mix, len(x), x, with_zeros(shift), self.rows.previous, shares, mixes)
        return mixes

    def _attend(self, x: Tensor, shift: Tensor, state: Tensor) -> Tensor:
        """Return the gated output of time mixing, before its last matrix."""
        of, (M, D), H = self.layer.matrices, x.shape, self.weights.heads
        x_r, x_w, x_k, x_v, x_a, x_g = self._mix(x, shift, self.layer.shares)
        r, k, v = of["att.receptance"](x_r), of["att.key"](x_k), of["att.value"](x_v)
        self.w_inner, self.g_inner = of["att.w1"](x_w).tanh_(), of["att.g1"](x_g).sigmoid_()
        raw_w, raw_a = of["att.w2"](self.w_inner), of["att.a2"](of["att.a1"](x_a))
        first_v, raw_v = (self.first_v, of["att.v2"](of["att.v1"](x_v))) if self.mixed else (v, raw_w)
        assert first_v is not None
        self.first_v, self.k, self.v = first_v, k, v
        self.found = x.new_empty(5, M, D)  # w, k, v, a, b
        self.inner_found = x.new_empty(3, M, D), x.new_empty(M, H)  # sigmoids, and norms of keys
        inputs = (k, v, raw_w, raw_a, first_v, raw_v, self.layer.inputs)
        share(kernels().prepare, M, *inputs, self.found, *self.inner_found, number=self.mixed)
        w, k, new_v, a, b = self.found
        self.parts = (r, w, k, new_v if self.mixed else v, a, b)
        self.kept = kept_states(self.rows.bounds[: self.rows.learning + 1], state)
        self.y, self.gate = x.new_empty(M, H, D // H), of["att.g2"](self.g_inner)
        sequences = [one.view(self.y.shape) for one in self.parts]
        read_rows(sequences, self.rows.starts, self.rows.bounds, state, self.kept, self.y)
        out, (r, _, k, v, _, _) = torch.empty_like(x), self.parts
        arguments = (self.y, r, k, v, self.gate, self.layer.output, out)
        share(kernels().finish, M, *arguments, number=self.weights.head_eps)
        return out

    def backward(
        self,
        d: Tensor,
        first_v: Tensor,
        dstate: Tensor,
        last: Tensor,
        shifts: tuple[Tensor, Tensor],
        before: tuple[Tensor, Tensor],
        further: bool,
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients by the block's input ``[S, D]`` and by layer 0's value.

        Args:
            d: gradient by the output ``[S, D]``.
            first_v: what is known of the gradient by layer 0's value; empty if nothing is.
            dstate: gradient by the state after the tokens, which that by the one before replaces.
            last: the last token of each row.
            shifts: gradients by the last inputs of both halves.
            before: receive those by the inputs before the first ones.
            further: whether the gradient by the input is wanted.
        """
        of, S = self.layer.matrices, len(d)
        inner = of["ffn.value"].back(d).mul_(self.inner[:S]).mul_(2)
        dmixed = of["ffn.key"].back(inner).unsqueeze(0)
        dx = self._mix_back(dmixed, self.layer.inner_share, before[1])
        dx[last] += shifts[1]
        d = d + self.norms[1].backward(dx)
        given, back = self._recurrence_back(of["att.output"].back(d), dstate)
        if not further:
            return d, first_v
        dmixed, first_v = self._inputs_back(given, back, first_v)
        dx = self._mix_back(dmixed, self.layer.shares, before[0])
        dx[last] += shifts[0]
        return d + self.norms[0].backward(dx), first_v

    def _mix_back(self, dmixed: Tensor, shares: Tensor, before: Tensor) -> Tensor:
        """Return the gradient by the tokens; write that by the tokens before the first ones."""
        dx, none = torch.empty_like(dmixed[0]), shares.new_empty(0, *shares.shape)
        arguments = (dx, dx, self.rows.previous, shares, dmixed, dx, before, none)
        share(kernels().mix_back, len(dx), *arguments)
        return dx

    def _recurrence_back(self, dout: Tensor, dstate: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients by what the recurrence reads ``[5, S, D]``, and by receptance and gate."""
        S, D = dout.shape
        r, _, k, v, _, _ = self.parts
        back, sums = dout.new_empty(5, S, D), dout.new_zeros(len(parts(S)), 3, D)  # y, r, k, v, gate
        arguments = (self.y, r, k, v, self.gate, self.layer.output, dout, back, sums)
        share(kernels().finish_back, S, *arguments, number=self.weights.head_eps)
        given, dr, heads = dout.new_empty(5, S, D), torch.empty_like(dout), (S, *self.y.shape[1:])
        found = [one.view(heads) for one in (dr, *given)]
        sequences = [one.view(self.y.shape) for one in self.parts]
        go_back_rows(
            sequences, self.rows.starts, self.rows.bounds, self.kept, back[0].view(heads), dstate, found
        )
        given[1:3] += back[2:4]
        return given, torch.stack([dr.add_(back[1]), back[4]])

    def _inputs_back(self, given: Tensor, others: Tensor, first_v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients by the six mixtures, and that by layer 0's value."""
        of, (_, S, D), aten = self.layer.matrices, given.shape, torch.ops.aten
        back, sums = given.new_empty(6, S, D), given.new_zeros(len(parts(S)), 5, D)
        first, shares = self.first_v, self.layer.inputs
        assert first is not None
        arguments = (self.k, self.v, first, shares, self.found, *self.inner_found, given, back, sums)
        share(kernels().prepare_back, S, *arguments, number=self.mixed)
        dk, dv, draw_w, draw_a, dfirst_v, draw_v = back
        (dr, dgate), dmixed = others, given.new_empty(6, S, D)
        if self.mixed:
            first_v = dfirst_v + first_v if len(first_v) else dfirst_v
        elif len(first_v):
            dv += first_v
        for place, one, name in ((0, dr, "receptance"), (2, dk, "key"), (3, dv, "value")):
            of[f"att.{name}"].back(one, out=dmixed[place])
        if self.mixed:
            dmixed[3] += of["att.v1"].back(of["att.v2"].back(draw_v))
        dw = aten.tanh_backward(of["att.w2"].back(draw_w), self.w_inner[:S])
        of["att.w1"].back(dw, out=dmixed[1])
        of["att.a1"].back(of["att.a2"].back(draw_a), out=dmixed[4])
        dg = aten.sigmoid_backward(of["att.g2"].back(dgate), self.g_inner[:S])
        of["att.g1"].back(dg, out=dmixed[5])
        return dmixed, first_v


def _padded(tokens: Tensor, rows: Rows, shape: torch.Size) -> Tensor:
    """Return the first tokens, or all, where they are in the padded batch; 0 elsewhere."""
    if rows.places is None and len(tokens) == shape[0] * shape[1]:
        return tokens.view(shape)
    found = tokens.new_zeros(shape[0] * shape[1], shape[2])
    found[slice(len(tokens)) if rows.places is None else rows.places[: len(tokens)]] = tokens
    return found.view(shape)

"""RWKV-7 "Goose" in plain torch: the equations. Knows nothing of files, learning or phrases.

Source: Peng et al., "RWKV-7 Goose with Expressive Dynamic State Evolution" (2025), and the author's ``rwkv``
package, whose outputs tests compare with. Parameters have the names of the published ``.pth`` files.

Legend: B rows, T time, D hidden size, H heads, N head size, V vocabulary, L layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from weakref import WeakKeyDictionary, ref

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sttx_train.forms.form import module_of
from sttx_train.forms.matrix import StoredMatrix, install
from sttx_train.fused import FusedStep, StepChoice, choose_step
from sttx_train.fused.tiles import tiles_reason
from sttx_train.rwkv7.config import RWKV7Config, parameter_shapes, stored_forms
from sttx_train.rwkv7.elementwise import gated_output, recurrence_inputs, shifted_mixes
from sttx_train.rwkv7.init import initialize as fill_parameters
from sttx_train.rwkv7.language_model import Block, LanguageModel, shifted
from sttx_train.rwkv7.matrices import MOST_TILED, Matrix
from sttx_train.rwkv7.state import RecurrentState
from sttx_train.rwkv7.whole import Weights, read_whole, rows_of, weights_of
from sttx_train.wkv import Backend, InnerSteps, KernelChoice, LayerState, folded, inner_wkv, recurrence, wkv

DECAY_SCALE = 0.6065306597126334  # exp(-0.5): log decay = -DECAY_SCALE * sigmoid(.), so decay > 0.545


class TimeMix(nn.Module):
    """The recurrent half of a block: a generalized delta rule with vector-valued gating."""

    x_r: nn.Parameter
    x_w: nn.Parameter
    x_k: nn.Parameter
    x_v: nn.Parameter
    x_a: nn.Parameter
    x_g: nn.Parameter
    w0: nn.Parameter
    w1: nn.Parameter
    w2: nn.Parameter
    a0: nn.Parameter
    a1: nn.Parameter
    a2: nn.Parameter
    v0: nn.Parameter
    v1: nn.Parameter
    v2: nn.Parameter

    def __init__(self, config: RWKV7Config, layer: int) -> None:
        super().__init__()
        width, heads, size = config.hidden_size, config.num_heads, config.head_size
        self.layer, self.heads, self.size = layer, heads, size
        for name in "rwkvag":
            setattr(self, f"x_{name}", nn.Parameter(torch.empty(width)))
        ranks = {"w": config.decay_rank, "a": config.a_rank, "v": config.v_rank}
        if layer == 0:
            del ranks["v"]  # layer 0 computes v_first, so it has nothing to mix in
        for name, rank in ranks.items():
            setattr(self, f"{name}0", nn.Parameter(torch.empty(width)))
            setattr(self, f"{name}1", nn.Parameter(torch.empty(width, rank)))
            setattr(self, f"{name}2", nn.Parameter(torch.empty(rank, width)))
        self.g1 = nn.Parameter(torch.empty(width, config.gate_rank))
        self.g2 = nn.Parameter(torch.empty(config.gate_rank, width))
        self.k_k = nn.Parameter(torch.empty(width))
        self.k_a = nn.Parameter(torch.empty(width))
        self.r_k = nn.Parameter(torch.empty(heads, size))
        self.inner: InnerSteps | None = None
        if config.inner_steps:
            self.inner = InnerSteps(config.inner_steps, config.inner_momentum, config.inner_batch)
            self.inner_rate = nn.Parameter(torch.empty(heads))
        self.receptance = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.ln_x = nn.GroupNorm(heads, width, eps=config.group_norm_eps)

    def forward(
        self,
        x: Tensor,
        shift_BD: Tensor,
        state: LayerState,
        v_first: Tensor | None,
        valid_BT1: Tensor | None,
        starts_BT: Tensor | None,
        backend: Backend,
    ) -> tuple[Tensor, LayerState, Tensor]:
        """Return the output ``[B, T, D]``, the recurrence's new state and layer 0's value."""
        if backend == "compiled" and x.dtype == torch.float32:
            return self._compiled(x, shift_BD, state, v_first, valid_BT1, starts_BT)
        B, T, D = x.shape
        delta = shifted(x, shift_BD, starts_BT) - x
        r = self.receptance(torch.addcmul(x, delta, self.x_r))
        k = self.key(torch.addcmul(x, delta, self.x_k))
        x_v = torch.addcmul(x, delta, self.x_v)
        v = self.value(x_v)
        w = torch.tanh(torch.addcmul(x, delta, self.x_w) @ self.w1) @ self.w2
        log_w = -DECAY_SCALE * torch.sigmoid(self.w0 + w)
        a = torch.sigmoid(self.a0 + torch.addcmul(x, delta, self.x_a) @ self.a1 @ self.a2)
        g = torch.sigmoid(torch.addcmul(x, delta, self.x_g) @ self.g1) @ self.g2
        if v_first is None:
            v_first = v
        else:
            v = torch.lerp(v, v_first, torch.sigmoid(self.v0 + x_v @ self.v1 @ self.v2).to(v.dtype))
        kk = F.normalize((k * self.k_k).view(B, T, self.heads, self.size), dim=-1).view(B, T, D)
        k = k * (1 + (a - 1) * self.k_a)
        b = kk * a
        v_in = v
        if valid_BT1 is not None:  # a padded step must not change the state
            log_w, kk, b, v_in = log_w * valid_BT1, kk * valid_BT1, b * valid_BT1, v * valid_BT1
        heads = (B, T, self.heads, self.size)
        r_in, log_w, k_in, v_in, a, b = (one.view(heads) for one in (r, log_w, k, v_in, -kk, b))
        operands = (r_in, log_w, k_in, v_in, a, b)
        if self.inner is None:
            y, matrices_BHNN = wkv(*operands, state.wkv, starts_BT, backend=backend)
            state = LayerState(matrices_BHNN)
        else:
            valid_BT = None if valid_BT1 is None else valid_BT1.squeeze(-1)
            y, state = inner_wkv(
                *operands, state, self.inner_rate, self.inner, starts_BT, valid_BT, backend=backend
            )
        y = self.ln_x(y.reshape(B * T, D).to(self.ln_x.weight.dtype)).view(B, T, D)
        bonus = (r.view(heads) * k.view(heads) * self.r_k).sum(-1, keepdim=True) * v.view(heads)
        assert v_first is not None
        return self.output((y + bonus.view(B, T, D)) * g), state, v_first

    def _compiled(
        self,
        x: Tensor,
        shift_BD: Tensor,
        state: LayerState,
        v_first: Tensor | None,
        valid_BT1: Tensor | None,
        starts_BT: Tensor | None,
    ) -> tuple[Tensor, LayerState, Tensor]:
        """Do what `forward` does, with all that is not a product of matrices compiled."""
        shares = (self.x_r, self.x_w, self.x_k, self.x_v, self.x_a, self.x_g)
        x_r, x_w, x_k, x_v, x_a, x_g = shifted_mixes(x, shift_BD, starts_BT, shares)
        r, k, own_v = self.receptance(x_r), self.key(x_k), self.value(x_v)
        raw_w, raw_a = torch.tanh(x_w @ self.w1) @ self.w2, x_a @ self.a1 @ self.a2
        g = torch.sigmoid(x_g @ self.g1) @ self.g2
        residual = None if v_first is None else (v_first, x_v @ self.v1 @ self.v2, self.v0)
        w, k, v, a, b = recurrence_inputs(
            k, own_v, raw_w, raw_a, self.w0, self.a0, self.k_k, self.k_a, self.size, residual
        )
        v_in = v
        if valid_BT1 is not None:  # a padded step must not change the state
            w, a, b, v_in = 1 + (w - 1) * valid_BT1, a * valid_BT1, b * valid_BT1, v * valid_BT1
        heads = (*x.shape[:2], self.heads, self.size)
        r_in, w, k_in, v_in, a, b = (one.view(heads) for one in (r, w, k, v_in, a, b))
        if self.inner is not None:
            b, k_in = folded(a, b, k_in, self.inner_rate, self.inner.steps)
        y, matrices_BHNN = recurrence(r_in, w, k_in, v_in, a, b, state.wkv, starts_BT)
        y = gated_output(y, r, k, v, g, self.r_k, self.ln_x.weight, self.ln_x.bias, self.ln_x.eps)
        return self.output(y), LayerState(matrices_BHNN), own_v if v_first is None else v_first


class ChannelMix(nn.Module):
    """The feed-forward half of a block: squared ReLU over a token-shifted input."""

    def __init__(self, config: RWKV7Config) -> None:
        super().__init__()
        self.x_k = nn.Parameter(torch.empty(config.hidden_size))
        self.key = nn.Linear(config.hidden_size, config.ffn_size, bias=False)
        self.value = nn.Linear(config.ffn_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor, shift_BD: Tensor, starts_BT: Tensor | None) -> Tensor:
        """Return the output ``[B, T, D]``."""
        delta = shifted(x, shift_BD, starts_BT) - x
        return self.value(torch.relu(self.key(torch.addcmul(x, delta, self.x_k))).square())


class RWKV7(LanguageModel):
    """An RWKV-7 language model.

    Args:
        config: the sizes.
        backend: which wkv kernel runs (``recurrent``, ``chunked``, ``compiled``, ``fla``, or ``auto``).
        initialize: fill the parameters with the published initialization. False is for loaders, which
            overwrite them all: the parameters are then uninitialized memory. Parameters on the device
            ``meta`` have no memory, and are never filled.
        seed: of the random matrices; torch's global generator draws them when None.
    """

    config: RWKV7Config

    def __init__(
        self,
        config: RWKV7Config,
        *,
        backend: Backend = "auto",
        initialize: bool = True,
        seed: int | None = None,
    ) -> None:
        super().__init__(
            config,
            lambda layer: Block(config, layer, TimeMix(config, layer), ChannelMix(config)),
            backend=backend,
        )
        fill = initialize and not self.emb.weight.is_meta
        if fill:
            fill_parameters(self, seed=seed)
        if forms := stored_forms(config):
            install(self, forms, fill=fill)

    def hidden(
        self,
        x_BTD: Tensor,
        state: RecurrentState | None = None,
        lengths_B: Tensor | None = None,
        starts_BT: Tensor | None = None,
        *,
        learning: int | None = None,
    ) -> tuple[Tensor, RecurrentState]:
        """As in `LanguageModel`; all blocks are one function where no weight of theirs learns."""
        if x_BTD.dtype != torch.float32 or (weights := self._whole()) is None:
            return super().hidden(x_BTD, state, lengths_B, starts_BT, learning=learning)
        B, T, _ = x_BTD.shape
        state = state or RecurrentState.zeros(self.config, B)
        rows = rows_of(B, T, lengths_B, starts_BT, learning)
        hidden, *after = read_whole(weights, rows, x_BTD, state.att_shift, state.wkv, state.ffn_shift)
        return hidden, RecurrentState(att_shift=after[0], wkv=after[1], ffn_shift=after[2])

    def kernel(self, device: torch.device) -> KernelChoice:
        """As in `LanguageModel`; the reason says whether the processor's matrix unit multiplies."""
        choice = super().kernel(device)
        apart = stored_forms(self.config) or self.config.inner_steps
        if apart or choice.backend != "compiled" or device.type != "cpu" or tiles_reason():
            return choice
        return choice._replace(reason=f"{choice.reason}; AMX multiplies weights that bfloat16 holds")

    def logits(self, hidden: Tensor) -> Tensor:
        """As in `LanguageModel`."""
        learns = self.head.weight.requires_grad
        if learns or hidden.dtype != torch.float32 or not hidden.numel() or not self.reads_whole:
            return super().logits(hidden)
        rows = hidden.reshape(-1, hidden.shape[-1])
        return _WHOLE[self].head(self.head.weight).differentiable(rows).view(*hidden.shape[:-1], -1)

    @property
    def reads_whole(self) -> bool:
        """As in `LanguageModel`."""
        return self._whole() is not None

    def _whole(self) -> Weights | None:
        """Return the weights for `read_whole`; None where they learn, or where it does not run."""
        fits = self.kernel(self.device).backend == "compiled" and self.dtype == torch.float32
        if not fits or self.recompute or torch.is_autocast_enabled("cpu"):
            return None
        known, kind = _WHOLE.get(self), self.ln_out.weight.data_ptr()
        if known is None or known.kind != kind:
            named = [*self.blocks.named_parameters(prefix="blocks"), *self.ln_out.named_parameters("ln_out")]
            known = _WHOLE[self] = _Known(kind, dict(named))
        if hasattr(next(self.blocks.parameters()), "full_tensor"):  # split over processes
            return None
        learn = any(one.requires_grad for one in known.parameters.values())
        if (learn and torch.is_grad_enabled()) or stored_forms(self.config) or self.config.inner_steps:
            return None
        return known.weights(self.config, again=learn)

    @property
    def step_choice(self) -> StepChoice:
        """Whether :meth:`step` takes the compiled step where no gradient is wanted, and why."""
        if self.config.inner_steps:
            return StepChoice(False, "the compiled step takes no inner steps")
        count = sum(map(math.prod, parameter_shapes(self.config).values()))
        choice = choose_step(dict(self.named_parameters()), self.backend, count=count)
        if choice.fused and self.config.forms:
            return StepChoice(True, f"{choice.reason}, with expanded weights")
        return choice

    def dense_weights(self) -> dict[str, Tensor]:
        """Return all weights by their published names, detached; matrices that have a form are expanded."""
        if not self.config.forms:
            return super().dense_weights()
        weights: dict[str, Tensor] = dict(self.named_parameters())
        with torch.no_grad():
            for name, _ in self.config.forms:
                stored = self.get_submodule(module_of(name))
                assert isinstance(stored, StoredMatrix)
                weights[name] = stored.weight
            return {name: weights[name].detach() for name in parameter_shapes(self.config)}

    def step(self, ids_B: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        """Read one token of each row; return the logits ``[B, V]`` and the new state, as `forward` does.

        In ``torch.inference_mode`` all layers are one compiled call, if `step_choice` says so.
        """
        if not torch.is_inference_mode_enabled() or (fused := self._fused()) is None:
            logits_BTV, state = self(ids_B.unsqueeze(1), state)
            return logits_BTV[:, 0], state
        parts = (state.att_shift, state.wkv, state.ffn_shift)
        logits_BV, (att_shift, wkv_, ffn_shift) = fused(self.emb(ids_B), parts)
        return logits_BV, RecurrentState(att_shift=att_shift, wkv=wkv_, ffn_shift=ffn_shift)

    def prepare_step(self) -> None:
        """Compile the step, once on a machine, and pack its weights; do nothing where it does not run."""
        if self.step_choice.fused:
            with torch.inference_mode():
                self.step(torch.zeros(1, dtype=torch.long), RecurrentState.zeros(self.config))

    def _fused(self) -> FusedStep | None:
        """Return the compiled step of these weights; None where it does not run."""
        kind: _Kind = (self.ln_out.weight.data_ptr(), self.dtype, self.backend)
        known = _STEPS.get(self)
        if known is None or known[0] != kind:
            known = _STEPS[self] = (kind, self._new_step() if self.step_choice.fused else None)
        return known[1]

    def _new_step(self) -> FusedStep:
        config = self.config
        return FusedStep(
            {**dict(self.named_parameters()), **dict(self.named_buffers())},
            expand=_expand(self) if config.forms else None,
            head_size=config.head_size,
            eps=config.layer_norm_eps,
            head_eps=config.group_norm_eps,
        )


def _expand(model: RWKV7) -> Callable[[], Mapping[str, Tensor]]:
    """Return what expands a model's weights, without keeping the model alive."""
    held = ref(model)

    def expand() -> Mapping[str, Tensor]:
        alive = held()
        assert alive is not None, "only the model itself takes its compiled step"
        return alive.dense_weights()

    return expand


class _Known:
    """A model's weights as `read_whole` takes them, made again after torch has changed one of them.

    Args:
        kind: changes if the weights are others.
        parameters: those of the blocks and the last norm, by name.
    """

    def __init__(self, kind: int, parameters: dict[str, nn.Parameter]) -> None:
        self.kind, self.parameters = kind, parameters
        self._tiled = sum(one.numel() for one in parameters.values()) <= MOST_TILED
        self._weights: tuple[int, Weights] | None = None
        self._head: tuple[int, Matrix] | None = None

    def weights(self, config: RWKV7Config, *, again: bool) -> Weights:
        """Return the weights as they are now.

        Args:
            config: the model's.
            again: make them again in any case: torch's own fused optimizers do not count their changes.
        """
        now = sum(one._version for one in self.parameters.values())  # each of them only grows
        if again or self._weights is None or self._weights[0] != now:
            sizes = (config.num_layers, config.num_heads, config.layer_norm_eps, config.group_norm_eps)
            self._weights = now, weights_of(self.parameters, *sizes, tiled=self._tiled and not again)
        return self._weights[1]

    def head(self, weight: Tensor) -> Matrix:
        """Return the head's matrix as it is now."""
        if self._head is None or self._head[0] != weight._version:
            self._head = weight._version, Matrix(weight.detach().t(), tiled=self._tiled)
        return self._head[1]


_WHOLE: WeakKeyDictionary[RWKV7, _Known] = WeakKeyDictionary()
"""Not in the model, as `_STEPS`."""

_Kind = tuple[int, torch.dtype, Backend]
_STEPS: WeakKeyDictionary[RWKV7, tuple[_Kind, FusedStep | None]] = WeakKeyDictionary()
"""The compiled step of each model and what it was made for. Not in the model: its copies make their own."""

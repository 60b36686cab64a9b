"""The elementwise parts of time mixing as differentiable functions, each one compiled pass over the tokens.

In torch each is a dozen operations that read and write all activations. These are for float32 on a CPU;
`model` has the same equations in torch, for everything else, and tests compare them.

Legend: B rows, T steps, M = B * T tokens, D hidden size, H heads, N head size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sttx_train.parts import parts_of, run_parts
from sttx_train.rwkv7.loops import kernels


class Recurrence(NamedTuple):
    """What the recurrence reads, each ``[B, T, D]``: decay, key, value, and both directions."""

    w: Tensor
    k: Tensor
    v: Tensor
    a: Tensor
    b: Tensor


def shifted_mixes(
    x: Tensor, before: Tensor, starts: Tensor | None, shares: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Return mixtures of each token with the token before it, ``x + (previous - x) * share``, one a share.

    Args:
        x: ``[B, T, D]``.
        before: the tokens before the first ones ``[B, D]``.
        starts: bool ``[B, T]``, true where a document starts: the token before it is taken as 0.
        shares: vectors ``[D]``.
    """
    return _Mixes.apply(x, before, starts, *shares)


def recurrence_inputs(
    k: Tensor,
    v: Tensor,
    raw_w: Tensor,
    raw_a: Tensor,
    w0: Tensor,
    a0: Tensor,
    k_k: Tensor,
    k_a: Tensor,
    size: int,
    residual: tuple[Tensor, Tensor, Tensor] | None,
) -> Recurrence:
    """Return what the recurrence reads.

    Args:
        k: keys ``[B, T, D]``.
        v: values, same shape.
        raw_w: what the token adds to the decay's bias, same shape.
        raw_a: what the token adds to the learning rate's bias, same shape.
        w0: the decay's bias ``[D]``.
        a0: the learning rate's bias ``[D]``.
        k_k: scale of the key to remove by ``[D]``.
        k_a: how much the learning rate scales the key ``[D]``.
        size: N.
        residual: layer 0's value, what the token adds to the bias of its share, and that bias; None in
            layer 0.
    """
    return Recurrence(*_Inputs.apply(size, k, v, raw_w, raw_a, w0, a0, k_k, k_a, *(residual or (None,) * 3)))


def gated_output(
    y: Tensor,
    r: Tensor,
    k: Tensor,
    v: Tensor,
    gate: Tensor,
    r_k: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
) -> Tensor:
    """Return ``(norm(y) * weight + bias + (r * k * r_k).sum() * v) * gate``, norm and sum over each head.

    Args:
        y: what the recurrence read ``[B, T, H, N]``.
        r: receptance ``[B, T, D]``.
        k: keys, same shape.
        v: values, same shape.
        gate: same shape.
        r_k: weight of the current token ``[H, N]``.
        weight: the norm's scale ``[D]``.
        bias: the norm's shift ``[D]``.
        eps: the norm's epsilon.
    """
    return _Output.apply(eps, y, r, k, v, gate, r_k, weight, bias)


class _Mixes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, before: Tensor, starts: Tensor | None, *shares: Tensor) -> Any:
        B, T, D = x.shape
        x, before = _dense(x).view(B * T, D), with_zeros(_dense(before))
        previous = previous_of(B, T, starts)
        table = torch.stack([share.detach() for share in shares])
        mixes = torch.empty(len(shares), B * T, D)
        share(kernels().mix, B * T, x, before, previous, table, mixes)
        ctx.save_for_backward(x, before, previous, table)
        return mixes.view(-1, B, T, D).unbind(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, before, previous, table = ctx.saved_tensors
        dx, dbefore = torch.empty_like(x), torch.zeros_like(before[:-1])
        sums = x.new_zeros(len(parts(len(x))), *table.shape)
        stacked = torch.stack([_dense(one) for one in gradients])
        given = stacked.view(len(table), *x.shape)
        share(kernels().mix_back, len(x), x, before, previous, table, given, dx, dbefore, sums)
        return dx.view(stacked[0].shape), dbefore, None, *sums.sum(0).unbind(0)


class _Inputs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, size: int, *inputs: Any) -> Any:
        B, T, D = inputs[0].shape
        k, v, raw_w, raw_a = (_dense(x).view(B * T, D) for x in inputs[:4])
        w0, a0, k_k, k_a = (_dense(x) for x in inputs[4:8])
        ctx.mixed = inputs[8] is not None
        first_v, raw_v, v0 = v, raw_w, w0  # not read
        if ctx.mixed:
            first_v, raw_v, v0 = (*(_dense(x).view(B * T, D) for x in inputs[8:10]), _dense(inputs[10]))
        shares = torch.stack([w0, a0, k_k, k_a, v0])
        found = torch.empty(5, B * T, D)  # w, k, v, a, b
        inner = torch.empty(3, B * T, D)  # sigmoids: of the decay, the learning rate, the value's share
        norms = torch.empty(B * T, D // size)
        arguments = (k, v, raw_w, raw_a, first_v, raw_v, shares)
        share(kernels().prepare, B * T, *arguments, found, inner, norms, number=ctx.mixed)
        ctx.save_for_backward(k, v, first_v, shares, found, inner, norms)
        w, new_k, new_v, a, b = found.view(5, B, T, D).unbind(0)
        return w, new_k, new_v if ctx.mixed else v.view(B, T, D), a, b

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        k, v, first_v, shares, found, inner, norms = ctx.saved_tensors
        given = torch.stack([_dense(one) for one in gradients]).view(5, *k.shape)
        back = torch.empty(6, *k.shape)  # k, v, raw_w, raw_a, first_v, raw_v
        sums = k.new_zeros(len(parts(len(k))), 5, k.shape[-1])
        arguments = (k, v, first_v, shares, found, inner, norms, given, back, sums)
        share(kernels().prepare_back, len(k), *arguments, number=ctx.mixed)
        dk, dv, draw_w, draw_a, dfirst_v, draw_v = back.view(6, *gradients[0].shape).unbind(0)
        w0, a0, k_k, k_a, v0 = sums.sum(0).unbind(0)
        residual = (dfirst_v, draw_v, v0) if ctx.mixed else (None,) * 3
        return None, dk, dv, draw_w, draw_a, w0, a0, k_k, k_a, *residual


class _Output(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, eps: float, y: Tensor, *inputs: Tensor) -> Tensor:
        B, T, H, N = y.shape
        y, *sequences, r_k, weight, bias = (_dense(x) for x in (y, *inputs))
        y, sequences = y.view(B * T, H, N), [x.view(B * T, H * N) for x in sequences]
        shares = torch.stack([r_k.view(-1), weight, bias])
        out = torch.empty(B * T, H * N)
        share(kernels().finish, B * T, y, *sequences, shares, out, number=eps)
        ctx.save_for_backward(y, *sequences, shares)
        ctx.eps = eps
        return out.view(B, T, H * N)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        y, *sequences, shares = ctx.saved_tensors
        M, H, N = y.shape
        B, T, D = gradient.shape
        back = torch.empty(5, M, D)  # y, r, k, v, gate
        sums = y.new_zeros(len(parts(M)), 3, D)
        arguments = (y, *sequences, shares, _dense(gradient).view(M, D), back, sums)
        share(kernels().finish_back, M, *arguments, number=ctx.eps)
        dy, *others = back.view(5, B, T, D).unbind(0)
        r_k, weight, bias = sums.sum(0).unbind(0)
        return None, dy.view(B, T, H, N), *others, r_k.view(H, N), weight, bias


def previous_of(rows: int, steps: int, starts: Tensor | None) -> Tensor:
    """Return for each token of a batch which token is before it, ``[B * T]``.

    Args:
        rows: B.
        steps: T.
        starts: bool ``[B, T]``, true where a document starts; None for nowhere.

    Returns:
        The index of a token; or -1 - r for row r of `with_zeros`, which ends with zeros.
    """
    found = torch.arange(-1, rows * steps - 1).view(rows, steps)
    found[:, 0] = -1 - torch.arange(rows)
    if starts is not None:
        found[starts] = -1 - rows
    return found.view(-1)


def with_zeros(before_BD: Tensor) -> Tensor:
    """Return the tokens before the first ones and then zeros, for where documents start ``[B + 1, D]``."""
    return torch.cat([before_BD, before_BD.new_zeros(1, before_BD.shape[1])])


def parts(tokens: int) -> list[tuple[int, int]]:
    """Return the first token of each thread's part, and the one after its last."""
    return parts_of(tokens, min(torch.get_num_threads(), tokens // 16))


def share(kernel: Callable[..., None], tokens: int, *tensors: Tensor, number: float = 0) -> None:
    """Run a kernel of `loops` over all tokens, a part of them on each of torch's threads."""
    arrays = [x.numpy() for x in tensors]
    run_parts(kernel, [(*arrays, number, *at, part) for part, at in enumerate(parts(tokens))])


def _dense(x: Tensor) -> Tensor:
    """Return the numbers as float32 in one piece of memory."""
    return x.detach().float().contiguous()

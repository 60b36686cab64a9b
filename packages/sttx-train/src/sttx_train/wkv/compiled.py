"""The wkv recurrence token by token, compiled, with its gradients: the CPU's fast path. Knows no model.

The state of a head stays in the cache while its tokens pass. Forward, the order of operations is fixed, so
that a row gives the same bits alone, in any batch and with any number of threads. The state here is
[key, value], the transpose of the public layout, so that the inner loops run over neighboring numbers.

The backward pass keeps the state before every 16th step and computes those between again. With D the gradient
of the state after a step and u = S a (the value that is removed):

    D += dy r^T        dr = S'^T dy      dv = D k       dk = D^T v
    db = D^T u         du = D b          dw = sum over values of D * S
    da = S^T du        D of the step before = D diag(w) + du a^T

Legend: B rows, T steps, H heads, N head size, G segments of 16 steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.autograd.function import once_differentiable

from sttx_core.experts.kept import compiled_once, digest_of
from sttx_train.fused import lanes
from sttx_train.fused.lanes import HEAD
from sttx_train.parts import parts_of, run_parts
from sttx_train.wkv import registers
from sttx_train.wkv.registers import advance, combine, gradients, retreat

SEGMENT = 16  # steps whose states are computed again at once: 256 kB in float32, which a core's cache holds
_inlined: Any = njit(inline="always")
"""Compiles a function into each function that calls it, by the rules of that one."""


def wkv_compiled(
    r: Tensor,
    log_w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    state: Tensor,
    starts: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Same contract as :func:`~sttx_train.wkv.recurrent.wkv_recurrent`, on a CPU, with first gradients only.

    float64 is computed in float64, everything shorter in float32.
    """
    return recurrence(r, torch.exp(log_w), k, v, a, b, state, starts)


def recurrence(
    r: Tensor, w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, state: Tensor, starts: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Do what :func:`wkv_compiled` does with the decay itself, ``w``, in place of its logarithm."""
    dtype = state.dtype
    exact = dtype if dtype == torch.float64 else torch.float32
    tensors = [x.to(exact) for x in (r, w, k, v, a, b, state)]
    if not torch.is_grad_enabled():  # of what requires gradients, states would be kept even so
        tensors = [x.detach() for x in tensors]
    y, final = _Recurrence.apply(*tensors, starts)
    return y.to(dtype), final.to(dtype)


class _Recurrence(torch.autograd.Function):
    """The recurrence and its gradients by all seven inputs; the decay is given, not its logarithm."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        *sequences, state, starts = inputs
        B, T, H, N = sequences[0].shape
        sequences = [_dense(x).view(B * T, H, N) for x in sequences]
        starts = torch.zeros(B * T, dtype=torch.bool) if starts is None else _dense(starts).view(B * T)
        bounds = torch.arange(B + 1) * T
        carried = _dense(state.transpose(-1, -2), copy=True)
        kept = kept_states(bounds if any(ctx.needs_input_grad) else bounds[:1], carried)
        y = state.new_empty(B * T, H, N)
        read_rows(sequences, starts, bounds, carried, kept, y)
        ctx.save_for_backward(*sequences, starts, bounds, kept)
        return y.view(B, T, H, N), carried.transpose(-1, -2).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        dy, dstate = gradients
        *sequences, starts, bounds, kept = ctx.saved_tensors
        found = [torch.empty_like(x) for x in sequences]
        d = _dense(dstate.transpose(-1, -2), copy=True)
        go_back_rows(sequences, starts, bounds, kept, _dense(dy).view(sequences[0].shape), d, found)
        return *(x.view(dy.shape) for x in found), d.transpose(-1, -2), None


def read_rows(
    sequences: Sequence[Tensor], starts: Tensor, bounds: Tensor, state: Tensor, kept: Tensor, y: Tensor
) -> None:
    """Read rows of any lengths, laid end to end.

    Args:
        sequences: r, w (the decay itself), k, v, a, b, each ``[M, H, N]``.
        starts: bool ``[M]``, true where a document starts.
        bounds: ``[R + 1]`` the first token of each row, and the end of the last one.
        state: ``[R, H, N, N]``, ``[key, value]``; the one after each row replaces it.
        kept: receives states of the first rows that `go_back_rows` needs, from `kept_states`.
        y: ``[M, H, N]`` receives what was read.
    """
    kernel = forward_kernel(state.shape[-1], state.dtype)
    _share(kernel, state.shape[0] * state.shape[1], *sequences, starts, bounds, state, kept, y)


def go_back_rows(
    sequences: Sequence[Tensor],
    starts: Tensor,
    bounds: Tensor,
    kept: Tensor,
    dy: Tensor,
    dstate: Tensor,
    found: Sequence[Tensor],
) -> None:
    """Compute the gradients of the first rows, those whose states were kept.

    Args:
        sequences: what was read.
        starts: as it was read.
        bounds: as it was read.
        kept: what `read_rows` kept.
        dy: gradient of y, of these rows.
        dstate: gradient of each row's last state, which the gradient of its first state replaces.
        found: six tensors like dy, which receive the gradients of the sequences.
    """
    kernel = backward_kernel(kept.shape[-1], kept.dtype)
    _share(kernel, kept.shape[0] * kept.shape[1], *sequences, starts, bounds, kept, dy, dstate, *found)


def kept_states(bounds: Tensor, state: Tensor) -> Tensor:
    """Return room for the states that gradients of rows need: ``[R, H, G, N, N]``."""
    longest = int((bounds[1:] - bounds[:-1]).max()) if len(bounds) > 1 else 0
    rows, heads, size, _ = state.shape
    return state.new_empty(len(bounds) - 1, heads, -(-longest // SEGMENT), size, size)


def forward_kernel(size: int, dtype: torch.dtype = torch.float32) -> Callable[..., None]:
    """Return what reads, for heads of a size; it is compiled, or read from disk, when it is first called."""
    return _reading_64() if _in_registers(size, dtype) else _reading()


def backward_kernel(size: int, dtype: torch.dtype = torch.float32) -> Callable[..., None]:
    """Return what computes gradients, for heads of a size; as `forward_kernel`."""
    return _going_back_64() if _in_registers(size, dtype) else _going_back()


def _in_registers(size: int, dtype: torch.dtype) -> bool:
    return size == HEAD and dtype == torch.float32


def _dense(x: Tensor, copy: bool = False) -> Tensor:
    """Return the numbers in one piece of memory; a copy if the caller will overwrite them."""
    x = x.detach()
    return x.clone(memory_format=torch.contiguous_format) if copy else x.contiguous()


def _share(kernel: Callable[..., None], heads: int, *tensors: Tensor) -> None:
    """Run a kernel over all rows' heads, a part of them on each of torch's threads."""
    arrays = [x.numpy() for x in tensors]
    run_parts(kernel, [(*arrays, *part) for part in parts_of(heads, torch.get_num_threads())])


@_inlined
def _combine(weights, matrix, total, size):
    """Write the sum of the matrix's lines, each with its weight; four at a time."""
    for j in range(size):
        total[j] = 0
    for i in range(0, size - 3, 4):
        p, q, r, s = weights[i], weights[i + 1], weights[i + 2], weights[i + 3]
        for j in range(size):
            upper, lower = (
                p * matrix[i, j] + q * matrix[i + 1, j],
                r * matrix[i + 2, j] + s * matrix[i + 3, j],
            )
            total[j] += upper + lower
    for i in range(size // 4 * 4, size):
        for j in range(size):
            total[j] += weights[i] * matrix[i, j]


@_inlined
def _step(old, w, removed, b, v, k, new, size):
    """Write the state after a step; ``new`` may be ``old``."""
    for i in range(size):
        keep, write, add = w[i], b[i], k[i]
        for j in range(size):
            new[i, j] = old[i, j] * keep + removed[j] * write + v[j] * add


@_inlined
def _add_outer(x, y, matrix, size):
    """Add the outer product of two vectors to a matrix."""
    for i in range(size):
        scale = x[i]
        for j in range(size):
            matrix[i, j] += scale * y[j]


@_inlined
def _step_back(d, w, a, du, size):
    """Turn the gradient of the state after a step into that of the state before it."""
    for i in range(size):
        keep, weight = w[i], a[i]
        for j in range(size):
            d[i, j] = d[i, j] * keep + weight * du[j]


@_inlined
def _sum_over_values(d, before, after, vectors, found, size):
    """Write the gradients that are sums over values: those of r, k, b, w and a."""
    dy, v, removed, du = vectors
    dr, dk, db, dw, da = found
    for i in range(size):
        r_i = k_i = b_i = w_i = a_i = d.dtype.type(0)
        for j in range(size):
            r_i += after[i, j] * dy[j]
            k_i += d[i, j] * v[j]
            b_i += d[i, j] * removed[j]
            w_i += d[i, j] * before[i, j]
            a_i += before[i, j] * du[j]
        dr[i], dk[i], db[i], dw[i], da[i] = r_i, k_i, b_i, w_i, a_i


@cache
def _reading() -> Callable[..., None]:
    """Return the forward kernel for heads of any size."""

    def read(r, w, k, v, a, b, starts, bounds, state, kept, y, first, last):
        """Read all steps with the heads from ``first`` to ``last - 1``, counted over all rows."""
        heads, size = r.shape[1], r.shape[2]
        removed = np.empty(size, r.dtype)
        for pair in range(first, last):
            row, head = pair // heads, pair % heads
            matrix = state[row, head]
            for m in range(bounds[row], bounds[row + 1]):
                t = m - bounds[row]
                if starts[m]:
                    matrix[:] = 0
                if row < kept.shape[0] and t % SEGMENT == 0:
                    kept[row, head, t // SEGMENT] = matrix
                at = (m, head)
                _combine(a[at], matrix, removed, size)
                _step(matrix, w[at], removed, b[at], v[at], k[at], matrix, size)
                _combine(r[at], matrix, y[at], size)

    return compiled_once(read)


@cache
def _going_back() -> Callable[..., None]:
    """Return the backward kernel for heads of any size."""

    def go_back(r, w, k, v, a, b, starts, bounds, kept, dy, d, dr, dw, dk, dv, da, db, first, last):
        """Go back over all steps; ``d`` is the gradient of the last state, and then of the first."""
        heads, size = r.shape[1], r.shape[2]
        states, none = np.empty((SEGMENT + 1, size, size), r.dtype), np.zeros((size, size), r.dtype)
        removed, du = np.empty((SEGMENT, size), r.dtype), np.empty(size, r.dtype)
        for pair in range(first, last):
            row, head = pair // heads, pair % heads
            matrix = d[row, head]
            for segment in range((bounds[row + 1] - bounds[row] - 1) // SEGMENT, -1, -1):
                start = bounds[row] + segment * SEGMENT
                end = min(start + SEGMENT, bounds[row + 1])
                states[0] = kept[row, head, segment]
                for m in range(start, end):
                    at, i = (m, head), m - start
                    before = none if starts[m] else states[i]
                    _combine(a[at], before, removed[i], size)
                    _step(before, w[at], removed[i], b[at], v[at], k[at], states[i + 1], size)
                for m in range(end - 1, start - 1, -1):
                    at, i = (m, head), m - start
                    before = none if starts[m] else states[i]
                    _add_outer(r[at], dy[at], matrix, size)
                    _combine(k[at], matrix, dv[at], size)
                    _combine(b[at], matrix, du, size)
                    others = (dr[at], dk[at], db[at], dw[at], da[at])
                    _sum_over_values(
                        matrix, before, states[i + 1], (dy[at], v[at], removed[i], du), others, size
                    )
                    if starts[m]:
                        matrix[:] = 0
                    else:
                        _step_back(matrix, w[at], a[at], du, size)

    return compiled_once(go_back, reorder=True)


@cache
def _reading_64() -> Callable[..., None]:
    """Return the forward kernel for heads of 64 in float32: one pass over the state a step."""
    sources = digest_of(lanes.__file__, registers.__file__)

    def read(r, w, k, v, a, b, starts, bounds, state, kept, y, first, last):
        heads, removed = r.shape[1], np.empty(HEAD, np.float32)
        for pair in range(first, last if sources else 0):
            row, head = pair // heads, pair % heads
            matrix, end = state[row, head], bounds[row + 1]
            for m in range(bounds[row], end):
                t = m - bounds[row]
                if starts[m]:
                    matrix[:] = 0
                if row < kept.shape[0] and t % SEGMENT == 0:
                    kept[row, head, t // SEGMENT] = matrix
                if t == 0 or starts[m]:
                    combine(a[m, head], matrix, removed)
                at, after = (m, head), (min(m + 1, end - 1), head)
                advance(matrix, matrix, w[at], removed, b[at], v[at], k[at], r[at], y[at], a[after], removed)

    return compiled_once(read)


@cache
def _going_back_64() -> Callable[..., None]:
    """Return the backward kernel for heads of 64 in float32."""
    sources = digest_of(lanes.__file__, registers.__file__)

    def go_back(r, w, k, v, a, b, starts, bounds, kept, dy, d, dr, dw, dk, dv, da, db, first, last):
        heads, none = r.shape[1], np.zeros((HEAD, HEAD), np.float32)
        states = np.empty((SEGMENT + 1, HEAD, HEAD), np.float32)
        removed, du = np.empty((SEGMENT + 1, HEAD), np.float32), np.empty(HEAD, np.float32)
        for pair in range(first, last if sources else 0):
            row, head = pair // heads, pair % heads
            matrix = d[row, head]
            for segment in range((bounds[row + 1] - bounds[row] - 1) // SEGMENT, -1, -1):
                start = bounds[row] + segment * SEGMENT
                end = min(start + SEGMENT, bounds[row + 1])
                states[0] = kept[row, head, segment]
                for m in range(start, end):
                    at, after, i = (m, head), (min(m + 1, end - 1), head), m - start
                    before = none if starts[m] else states[i]
                    if i == 0 or starts[m]:
                        combine(a[at], before, removed[i])
                    new, gone, later = states[i + 1], removed[i], removed[i + 1]
                    advance(before, new, w[at], gone, b[at], v[at], k[at], r[at], du, a[after], later)
                for m in range(end - 1, start - 1, -1):
                    at, i = (m, head), m - start
                    before = none if starts[m] else states[i]
                    x, y, p, q = r[at], dy[at], k[at], b[at]
                    dx, dp, dq = dr[at], dk[at], db[at]
                    new, gone = states[i + 1], removed[i]
                    gradients(matrix, before, new, x, y, p, q, v[at], gone, dx, dp, dq, dw[at], dv[at], du)
                    retreat(matrix, before, w[at], a[at], du, da[at])
                    if starts[m]:
                        matrix[:] = 0

    return compiled_once(go_back, reorder=True)

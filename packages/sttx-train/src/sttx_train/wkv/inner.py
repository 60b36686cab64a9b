"""Inner steps: several steps of gradient descent on the state for each token, where RWKV-7 takes one.

RWKV-7's step takes the state S (``[value, key]``) towards S x = v for the token's normalized key x and value
v: a step of gradient descent on ``0.5 |S x - v|^2`` with a rate for each channel, b = x * rates, and a decay
w of what was there before. Here each token takes n more steps, with momentum u, on the mean loss of the last
m tokens:

    G = S - (S x) b^T + v k^T                                        RWKV-7's own step, not yet decayed
    n times:  V = u V - (1 - u) rate / m * sum_j (G x_j - v_j) b_j^T;  G = G + V
    S' = G - (S + (u + .. + u^n) V_0) (1 - w)                        what entered decays, as in RWKV-7
    V' = V - u^n V_0 (1 - w)                                         and so does V_0, the V that entered

``rate`` is one learned number for each head; outside of 0 to 1 it counts as the nearer end, so that a step
never overshoots: x has length 1, and b.x is below 1. The velocity V is a mean of gradients, so momentum
spreads a step over tokens and does not lengthen it. The velocity, and the last m - 1 keys, directions and
values, are part of the state.

**With m = 1 and u = 0, the n steps are one.** With B = b.x, q = 1 - rate B and
c = rate (1 + q + .. + q^(n-1)), their sum is ``-c (G x - v) b^T``, and so

    S' = S diag(w) - (S x) b'^T + v k'^T      b' = b (1 + c (1 - B))      k' = k + c (1 - k.x) b

which is RWKV-7 with another b and k: all of its kernels compute it, and the steps cost next to nothing
(`folded`). It also says how little they add: b' is b times a number.

**Otherwise a token reads and writes along several directions.** All errors are sums of S x_j, V x_j and v_j,
so the n steps run on their coefficients, and the result is one step of
`sttx_train.wkv.chunked.wkv_several`. V enters S, but Z = S + u / (1 - u) V and V decay independently, by w
and by w u^n. So the state of that recurrence is [Z, V], with keys twice as long; S = Z - u / (1 - u) V is
read from it.

Sources: the delta rule (Schlag et al. 2021), which RWKV-7 generalizes (Peng et al. 2025); gradient descent on
the state of a layer (Sun et al. 2024, "Learning to (Learn at Test Time)"); momentum in it (Behrouz et al.
2025, "Titans", whose velocity is a sum, not a mean).

Legend: B rows, T tokens, H heads, N head size, m tokens of a batch, C coefficients (those of S x_j and v_j,
and of V x_j if they are read).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from sttx_train.wkv.backends import Backend, choose_backend
from sttx_train.wkv.chunked import CHUNK, wkv_several
from sttx_train.wkv.dispatch import wkv
from sttx_train.wkv.state import LayerState

_LEAST_LOG_DECAY = -0.6065306597126334  # RWKV-7's bound, -exp(-0.5)
_MOST_GROWTH = 64.0  # of exp(-log decay) within a chunk: exp(64) = 6e27 leaves room in float32
_NOTHING_LEFT = -60.0  # a log decay: exp(-60) is below the rounding of float64
_ROWS = 64  # of a chunk's triangular system: more cost more than they save


class InnerSteps(NamedTuple):
    """How a token learns beyond RWKV-7's own step.

    Attributes:
        steps: n, at least 1.
        momentum: u, below 1.
        batch: m, at least 1.
    """

    steps: int
    momentum: float = 0.0
    batch: int = 1

    @property
    def folds(self) -> bool:
        """Whether the steps are one step of RWKV-7 with other operands."""
        return not self.momentum and self.batch == 1

    @property
    def reads_velocity(self) -> bool:
        """Whether a token's steps depend on the velocity that entered."""
        return self.momentum > 0 and self.steps > 1


def folded(a: Tensor, b: Tensor, k: Tensor, rate: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Return the b and k with which RWKV-7's step does what inner steps on the token alone do.

    Args:
        a: the negated normalized key ``[B, T, H, N]``.
        b: the normalized key times the rate of each channel, same shape.
        k: the key that is written, same shape.
        rate: ``[H]``.
        steps: n.
    """
    rate = bounded(rate)
    removed, written = -(a * b).sum(-1), -(a * k).sum(-1)  # [B, T, H]
    left = 1 - rate * removed
    powers = torch.ones_like(left)
    for _ in range(steps - 1):
        powers = 1 + left * powers
    taken = rate * powers
    shares = (taken * (1 - removed), taken * (1 - written))
    return tuple(x + share.unsqueeze(-1) * b for x, share in zip((b, k), shares, strict=True))  # type: ignore[return-value]


def inner_wkv(
    r: Tensor,
    log_w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    memory: LayerState,
    rate: Tensor,
    inner: InnerSteps,
    starts: Tensor | None = None,
    valid: Tensor | None = None,
    *,
    backend: Backend = "auto",
) -> tuple[Tensor, LayerState]:
    """Run RWKV-7's recurrence with inner steps; differentiable in all tensors.

    Args:
        r: receptance ``[B, T, H, N]``; it and the next five are those of `sttx_train.wkv.wkv`.
        log_w: natural logarithm of the decay, same shape.
        k: the key that is written, same shape.
        v: value, same shape.
        a: the negated normalized key, same shape.
        b: the normalized key times the rate of each channel, same shape.
        memory: what was carried to the first token.
        rate: ``[H]``.
        inner: n, u and m.
        starts: bool ``[B, T]``, true at the first token of a document, which starts from nothing.
        valid: ``[B, T]``, 0 for the padding behind a row, whose ``log_w``, ``v``, ``a`` and ``b`` are 0; None
            for no padding. Each row has at least one token.
        backend: which kernel.

    Returns:
        y ``[B, T, H, N]`` and what is carried on.

    Raises:
        UsageError: the kernel cannot run on the device, or takes neither momentum nor a batch.
    """
    if inner.folds:
        a, b, k, rate = (x.to(memory.wkv.dtype) for x in (a, b, k, rate))
        b, k = folded(a, b, k, rate, inner.steps)
        y, state = wkv(r, log_w, k, v, a, b, memory.wkv, starts, backend=backend)
        return y, memory._replace(wkv=state)
    chosen = choose_backend(r.device, backend, plain=False).backend
    kernel = inner_recurrent if chosen == "recurrent" or r.shape[1] == 1 else inner_chunked
    r, log_w, k, v, a, b, rate = (x.to(memory.wkv.dtype) for x in (r, log_w, k, v, a, b, rate))
    with torch.autocast(device_type=r.device.type, enabled=False):
        return kernel(r, log_w, k, v, a, b, memory, rate, inner, starts, valid)


def inner_recurrent(
    r: Tensor,
    log_w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    memory: LayerState,
    rate: Tensor,
    inner: InnerSteps,
    starts: Tensor | None = None,
    valid: Tensor | None = None,
) -> tuple[Tensor, LayerState]:
    """Do what `inner_wkv` does, token by token: the definition. Tests compare everything else with it."""
    outputs, rate = [], bounded(rate)
    for t in range(r.shape[1]):
        if starts is not None:
            memory = _where(~starts[:, t], memory, _nothing(memory))
        operands = (log_w[:, t], k[:, t], v[:, t], a[:, t], b[:, t])
        after = _after_token(memory, operands, rate, inner)
        memory = after if valid is None else _where(valid[:, t] > 0, after, memory)
        outputs.append(torch.einsum("bhvk,bhk->bhv", memory.wkv, r[:, t]))
    return torch.stack(outputs, dim=1), memory


def _after_token(
    memory: LayerState, operands: tuple[Tensor, ...], rate: Tensor, inner: InnerSteps
) -> LayerState:
    """Return what is carried on after a token; its operands are log_w, k, v, a and b, each ``[B, H, N]``."""
    log_w, k, v, a, b = operands
    state, velocity, recent = memory
    window = torch.stack([-a, b, v], 1).unsqueeze(1)
    if recent is not None:
        window = torch.cat([recent, window], 1)
    keys, directions, values = window.unbind(2)  # [B, m, H, N]
    decay = log_w.exp().unsqueeze(-2)
    removed = torch.einsum("bhvk,bhk->bhv", state, a).unsqueeze(-1) * b.unsqueeze(-2)
    added = v.unsqueeze(-1) * k.unsqueeze(-2)
    moving = torch.zeros_like(state) if velocity is None else velocity
    inside, moved = state + removed + added, torch.zeros_like(state)
    scale = (1 - inner.momentum) / inner.batch * rate.view(-1, 1, 1)
    for _ in range(inner.steps):
        errors = torch.einsum("bhvk,bjhk->bjhv", inside, keys) - values
        moving = inner.momentum * moving - scale * torch.einsum("bjhv,bjhk->bhvk", errors, directions)
        inside, moved = inside + moving, moved + moving
    after = state * decay + removed + added + moved
    if velocity is not None:
        forgotten = velocity * (1 - decay)
        after = after - sum(inner.momentum**n for n in range(1, inner.steps + 1)) * forgotten
        velocity = moving - inner.momentum**inner.steps * forgotten
    return LayerState(after, velocity, None if recent is None else window[:, 1:])


def inner_chunked(
    r: Tensor,
    log_w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    memory: LayerState,
    rate: Tensor,
    inner: InnerSteps,
    starts: Tensor | None = None,
    valid: Tensor | None = None,
) -> tuple[Tensor, LayerState]:
    """Do what `inner_wkv` does, for all tokens at once and then in chunks; momentum needs at least 0.05."""
    real = torch.ones_like(r[..., 0, 0]) if valid is None else valid.to(r.dtype)  # [B, T]
    tokens = torch.stack([-a, b, v], 2)
    if memory.recent is not None:
        tokens = torch.cat([memory.recent, tokens], 1)
    windows = _windows(tokens, inner.batch, starts)
    keys, directions, values = windows.unbind(2)  # [B, T, H, m, N]
    scale = (1 - inner.momentum) / inner.batch * bounded(rate) * real.unsqueeze(-1)  # [B, T, H]
    gram = directions @ keys.transpose(-1, -2)
    written = (keys @ k.unsqueeze(-1)).transpose(-1, -2)
    of_state, of_velocity = _coefficients(gram, written, scale[..., None, None], inner)
    into_state, into_velocity = of_state @ directions, of_velocity @ directions  # [B, T, H, C, N]
    into_state[..., inner.batch - 1, :] -= b  # RWKV-7's own step
    into_state[..., -1, :] += k
    joined = _Joined(inner)
    nothing = torch.zeros_like(keys)
    reads = [joined.read(keys, nothing)] + ([joined.read(nothing, keys)] if inner.reads_velocity else [])
    writes = joined.written(into_state, into_velocity)
    y, state = wkv_several(
        joined.read(r, torch.zeros_like(r)),
        joined.decay(log_w, real),
        writes[..., -inner.batch :, :].transpose(2, 3),
        values.transpose(2, 3),
        torch.cat(reads, -2).transpose(2, 3),
        writes[..., : -inner.batch, :].transpose(2, 3),
        joined.state(memory),
        starts,
        joined.chunk(writes.shape[-2]),
    )
    last = real.sum(1).long() - 1
    recent = windows[torch.arange(len(last), device=r.device), last, ..., 1:, :].permute(0, 3, 1, 2, 4)
    return y, joined.memory(state, None if memory.recent is None else recent)


class _Joined:
    """State and velocity as one matrix ``[Z, V]`` whose halves decay independently; without momentum, S."""

    def __init__(self, inner: InnerSteps) -> None:
        self._inner = inner
        self._share = inner.momentum / (1 - inner.momentum)
        self._log_kept = max(_NOTHING_LEFT, inner.steps * math.log(inner.momentum)) if self._share else 0.0

    def read(self, state: Tensor, velocity: Tensor) -> Tensor:
        """Return what reads ``S state + V velocity``."""
        return torch.cat([state, velocity - self._share * state], -1) if self._share else state

    def written(self, state: Tensor, velocity: Tensor) -> Tensor:
        """Return what adds these rows to S and to V."""
        return torch.cat([state + self._share * velocity, velocity], -1) if self._share else state

    def decay(self, log_w: Tensor, real: Tensor) -> Tensor:
        """Return the log decay; padding does not slow the velocity down."""
        if not self._share:
            return log_w
        return torch.cat([log_w, log_w + self._log_kept * real[..., None, None]], -1)

    def chunk(self, terms: int) -> int:
        """Return how many steps of so many terms a chunk has."""
        longest = int(_MOST_GROWTH / -(_LEAST_LOG_DECAY + self._log_kept))
        return max(1, min(CHUNK, longest, _ROWS // (terms - self._inner.batch)))

    def state(self, memory: LayerState) -> Tensor:
        """Return the joined matrix."""
        if memory.velocity is None:
            return memory.wkv
        return self.written(memory.wkv, memory.velocity)

    def memory(self, joined: Tensor, recent: Tensor | None) -> LayerState:
        """Return what a joined matrix holds."""
        if not self._share:
            return LayerState(joined, None, recent)
        both, velocity = joined.chunk(2, -1)
        return LayerState(both - self._share * velocity, velocity, recent)


def _windows(tokens: Tensor, batch: int, starts: Tensor | None) -> Tensor:
    """Return the last tokens at each token, zeros for those of other documents.

    Args:
        tokens: keys, directions and values ``[B, m - 1 + T, 3, H, N]``.
        batch: m.
        starts: bool ``[B, T]``.

    Returns:
        ``[B, T, 3, H, m, N]``.
    """
    windows = tokens.unfold(1, batch, 1).transpose(-1, -2)
    if starts is None:
        return windows
    document = starts.long().cumsum(1)
    earlier = F.pad(document, (batch - 1, 0)).unfold(1, batch, 1)
    same = earlier == document.unsqueeze(-1)  # [B, T, m]
    return windows * same[:, :, None, None, :, None]


def _coefficients(gram: Tensor, written: Tensor, scale: Tensor, inner: InnerSteps) -> tuple[Tensor, Tensor]:
    """Return how much of S x_i, of V x_i if they are read, and of v_i is added to S and V along each b_j.

    Args:
        gram: b_i . x_j ``[B, T, H, m, m]``.
        written: k . x_j ``[B, T, H, 1, m]``.
        scale: of a gradient ``[B, T, H, 1, 1]``.
        inner: n, u and m.

    Returns:
        Both ``[B, T, H, C, m]``, without RWKV-7's own step.
    """
    eye = torch.eye(inner.batch, dtype=gram.dtype, device=gram.device).expand_as(gram)
    last, none = eye[..., -1:], torch.zeros_like(gram)
    middle = [none] if inner.reads_velocity else []
    errors = torch.cat([eye - last * gram[..., -1:, :], *middle, last * written - eye], -2)
    moving = torch.cat([none, *([eye] if middle else []), none], -2)  # V x_j
    of_state = of_velocity = torch.zeros_like(errors)
    for _ in range(inner.steps):
        gradient = scale * errors
        of_velocity = inner.momentum * of_velocity - gradient
        moving = inner.momentum * moving - gradient @ gram
        of_state, errors = of_state + of_velocity, errors + moving
    return of_state, of_velocity


def bounded(rate: Tensor) -> Tensor:
    """Return the rate between 0 and 1. Beyond an end, only a gradient that leads back passes."""
    return _Bounded.apply(rate)


class _Bounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rate: Tensor) -> Tensor:
        ctx.save_for_backward(rate)
        return rate.clamp(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (rate,) = ctx.saved_tensors
        leads_away = ((rate < 0) & (gradient > 0)) | ((rate > 1) & (gradient < 0))
        return gradient.masked_fill(leads_away, 0)


def _nothing(memory: LayerState) -> LayerState:
    """Return what is carried to the first token of a document."""
    velocity, recent = (None if x is None else torch.zeros_like(x) for x in memory[1:])
    return LayerState(torch.zeros_like(memory.wkv), velocity, recent)


def _where(rows: Tensor, one: LayerState, other: LayerState) -> LayerState:
    """Return one memory in some rows and another one in the others."""
    chosen = (
        None if x is None or y is None else torch.where(rows.view(-1, *[1] * (x.ndim - 1)), x, y)
        for x, y in zip(one, other, strict=True)
    )
    return LayerState(*chosen)  # type: ignore[arg-type]

r"""The equations of one layer's memory: what a token reads, how that changes attention, what it writes.

Everything here is float32, whatever the base computes in. Shapes: B rows, T tokens, D the width of the hidden
state, r the rank, N slots, Q the outputs of ``q_proj``, O the outputs of ``o_proj``. Vectors are columns.

**The adapter of a layer** has these tensors (the names of `LayerAdapter`, also in files, there as
``layers.<number>.<name>``):

| name | shape | in the equations | initially |
| --- | --- | --- | --- |
| ``query`` | [r, D] | W_q | as ``key`` |
| ``key`` | [r, D] | W_k | normal, deviation D^-1/2 |
| ``value`` | [r, D] | W_v | normal, deviation D^-1/2 |
| ``decay`` | [r, D] | W_w | 0 |
| ``decay_bias`` | [r] | b_w | -6 |
| ``rate`` | [r, D] | W_a | 0 |
| ``rate_bias`` | [r] | b_a | -1 |
| ``key_rate`` | [r] | c | 1 |
| ``shift`` | [D] | m | 1 |
| ``delta_q`` | [Q, r] | U_q | 0 |
| ``delta_o`` | [O, r] | U_o | 0 |

**The state of a layer** (`LayerState`): the matrices S_n [r (value), r (key)] of N slots, the sum z_n [r] of
the keys written to each, how many tokens l_n each holds, and h' [D], the hidden state of the last written
token. The slots in use are the first ones; the last of them is open, and takes what is written. All are zero
in an empty memory.

**For each token**, with x_t the input of ``q_proj``:

```
h_t   = x_t / sqrt(mean(x_t^2) + 1e-6)

read        q_t  = unit(W_q h_t)                      unit(u) = u / max(|u|, 1e-6)
            n    = the slot with the largest q_t . unit(z_n) of those with l_n > 0; of equal ones the first
            o_t  = S_n q_t                            0 if no slot is in use
            y_t  = o_t / sqrt(mean(o_t^2) + 1)
deltas      q_proj's output += U_q y_t                only if a slot is in use
            o_proj's output += U_o y_t

write       k_t  = unit(W_k (h_t + m * (h' - h_t)))   m = 1: the key is the hidden state of the token before
            v_t  = W_v h_t
            w_t  = exp(-0.6065306597 * sigmoid(b_w + W_w h_t))         decay, from 0.545 to 1
            a_t  = sigmoid(b_a + W_a h_t)                              in-context rate, from 0 to 1
            k~_t = k_t * (1 + c * (a_t - 1))
            S_n := S_n diag(w_t) - (S_n k_t) (k_t * a_t)' + v_t k~_t'  in the open slot n
            z_n := z_n + k_t,    l_n := l_n + 1,    h' := h_t
```

A token reads before it writes: its read uses the slots as the tokens before it left them. A token that is not
written (reading only, or padding) changes nothing. With the config's `write_reads` off, no token of a call
that writes gets deltas. Lengths and means run over the whole vector; ``+=`` adds after rounding the delta to
the dtype of the base.

**Slots.** With the cut ``chunk`` a token that is written, and finds `chunk` or more tokens in the open slot,
opens the next one before it reads; with ``block`` the first token written after `new_block` does. If all N
are in use then, the two adjacent slots i, i + 1 are merged for which

```
l_i l_(i+1) / (l_i + l_(i+1)) * | z_i / l_i - z_(i+1) / l_(i+1) |^2
```

is least (Ward's criterion on the mean keys; of equal ones the first): S, z and l are added, and later slots
move down by one. The first slot of an empty memory is opened the same way. With N = 1 that slot stays open.

The write is RWKV-7's, with one head, keys of unit length and token shift on the key only. The shift makes the
memory associative over time: a key is what was known before a token, its value that token. Merging states by
adding them is exact for linear states and an approximation for these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LEAST_LENGTH = 1e-6
_RMS_EPSILON = 1e-6
_READ_EPSILON = 1.0
_DECAY = 0.6065306597


class LayerAdapter(nn.Module):
    """The learned tensors of one layer; the table above has their names, shapes and initial values.

    Args:
        width: D.
        rank: r.
        queries: Q.
        outputs: O.
        generator: draws the initial values.
    """

    def __init__(self, width: int, rank: int, queries: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        key, value = (torch.randn(rank, width, generator=generator) / math.sqrt(width) for _ in range(2))
        self.query = nn.Parameter(key.clone())
        self.key = nn.Parameter(key)
        self.value = nn.Parameter(value)
        self.decay = nn.Parameter(torch.zeros(rank, width))
        self.decay_bias = nn.Parameter(torch.full((rank,), -6.0))
        self.rate = nn.Parameter(torch.zeros(rank, width))
        self.rate_bias = nn.Parameter(torch.full((rank,), -1.0))
        self.key_rate = nn.Parameter(torch.ones(rank))
        self.shift = nn.Parameter(torch.ones(width))
        self.delta_q = nn.Parameter(torch.zeros(queries, rank))
        self.delta_o = nn.Parameter(torch.zeros(outputs, rank))

    @property
    def rank(self) -> int:
        """The rank r."""
        return self.key.shape[0]

    @property
    def width(self) -> int:
        """The width D."""
        return self.key.shape[1]


@dataclass(frozen=True)
class LayerState:
    """What one layer remembers; immutable, and its tensors are never changed in place.

    Attributes:
        slots: S ``[B, N, r (value), r (key)]``, float32.
        keys: z ``[B, N, r]``, float32.
        counts: l ``[B, N]``, int64.
        last: h' ``[B, D]``, float32.
    """

    slots: Tensor
    keys: Tensor
    counts: Tensor
    last: Tensor

    @classmethod
    def empty(cls, rows: int, adapter: LayerAdapter, slots: int) -> LayerState:
        """Return the state that holds nothing."""
        rank, device = adapter.rank, adapter.key.device
        return cls(
            torch.zeros(rows, slots, rank, rank, device=device),
            torch.zeros(rows, slots, rank, device=device),
            torch.zeros(rows, slots, dtype=torch.int64, device=device),
            torch.zeros(rows, adapter.width, device=device),
        )

    @property
    def used(self) -> Tensor:
        """How many slots of each row are in use, ``[B]``."""
        return (self.counts > 0).sum(dim=1)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name."""
        return {"slots": self.slots, "keys": self.keys, "counts": self.counts, "last": self.last}

    def expanded(self, rows: int) -> LayerState:
        """Return the state of one row for each of several rows."""
        return LayerState(**{name: one.expand(rows, *one.shape[1:]) for name, one in self.tensors().items()})

    def detached(self) -> LayerState:
        """Return the same state without gradient."""
        return LayerState(**{name: tensor.detach() for name, tensor in self.tensors().items()})


@dataclass(frozen=True)
class Writing:
    """Which tokens of a call are written, and where slots are cut.

    Attributes:
        mask: the tokens that are written, bool ``[B, T]``.
        opens: rows whose next written token opens a slot, bool ``[B]``.
        chunk: tokens of a slot; 0: slots are cut only by `opens`.
    """

    mask: Tensor
    opens: Tensor
    chunk: int


def normalized(x_BTD: Tensor) -> Tensor:
    """Return h, the hidden states scaled to mean square 1, in float32."""
    x_BTD = x_BTD.float()
    return x_BTD * torch.rsqrt(x_BTD.square().mean(dim=-1, keepdim=True) + _RMS_EPSILON)


def scan(
    adapter: LayerAdapter, state: LayerState, h_BTD: Tensor, writing: Writing | None
) -> tuple[Tensor, Tensor, LayerState]:
    """Read for each token, and write those that `writing` names.

    Args:
        adapter: the layer's weights.
        state: what the layer remembers before the first token.
        h_BTD: as `normalized` returns them.
        writing: None to read only.

    Returns:
        y ``[B, T, r]``; whether each token found a slot in use, bool ``[B, T]``; the state afterwards.
    """
    queries_BTR = _unit(F.linear(h_BTD, adapter.query))
    if writing is None:
        return *_read(state, queries_BTR, None), state
    steps = _Steps.of(adapter, state, h_BTD, writing.mask)
    reads, found = [], []
    waits = writing.opens | (state.used == 0)
    start = 0
    while start < h_BTD.shape[1]:
        mask_BT = writing.mask[:, start:]
        opening = mask_BT[:, 0] & (waits | _is_full(state, writing.chunk))
        state, open_B = _opened(state, opening)
        waits = waits & ~mask_BT[:, 0]
        stop = start + _segment(state, open_B, mask_BT, waits, writing.chunk)
        before, after = _write(state, open_B, steps, slice(start, stop))
        y_BTR, found_BT = _read(state, queries_BTR[:, start:stop], before)
        reads.append(y_BTR)
        found.append(found_BT)
        state, start = after, stop
    return torch.cat(reads, dim=1), torch.cat(found, dim=1), replace(state, last=steps.last)


@dataclass(frozen=True)
class _Steps:
    """What each token does to the open slot: S := S A_t + V_t, z := z + k_t, l := l + m_t."""

    matrices: Tensor  # A [B, T, r, r]
    values: Tensor  # V [B, T, r, r]
    keys: Tensor  # k [B, T, r]; 0 for a token that is not written
    mask: Tensor  # m [B, T]
    last: Tensor  # h' after the last token [B, D]

    @classmethod
    def of(cls, adapter: LayerAdapter, state: LayerState, h_BTD: Tensor, mask_BT: Tensor) -> _Steps:
        before_BTD, last = _before(state.last, h_BTD, mask_BT)
        keys = _unit(F.linear(h_BTD + adapter.shift * (before_BTD - h_BTD), adapter.key))
        values = F.linear(h_BTD, adapter.value)
        decay = torch.exp(-_DECAY * torch.sigmoid(F.linear(h_BTD, adapter.decay, adapter.decay_bias)))
        rate = torch.sigmoid(F.linear(h_BTD, adapter.rate, adapter.rate_bias))
        written = mask_BT[:, :, None, None]
        matrices = torch.diag_embed(decay) - keys[..., :, None] * (keys * rate)[..., None, :]
        added = values[..., :, None] * (keys * (1 + adapter.key_rate * (rate - 1)))[..., None, :]
        return cls(
            torch.where(written, matrices, torch.eye(adapter.rank, device=h_BTD.device)),
            torch.where(written, added, 0.0),
            torch.where(mask_BT[:, :, None], keys, 0.0),
            mask_BT,
            last,
        )


@dataclass(frozen=True)
class _Open:
    """The open slot of each row, as each token of a segment finds it."""

    index: Tensor  # [B]
    slots: Tensor  # [B, T, r, r]
    keys: Tensor  # [B, T, r]
    counts: Tensor  # [B, T]


def _unit(vectors: Tensor) -> Tensor:
    """Return the vectors at length 1; almost zero ones get no gradient, which would be 1e6-fold."""
    lengths = vectors.norm(dim=-1, keepdim=True)
    vectors = torch.where(lengths < _LEAST_LENGTH, vectors.detach(), vectors)
    return vectors / lengths.clamp_min(_LEAST_LENGTH)


def _before(last_BD: Tensor, h_BTD: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Return the hidden state of the last written token before each token, and after all of them."""
    rows, length = mask_BT.shape
    places = torch.arange(1, length + 1, device=mask_BT.device)
    latest = torch.where(mask_BT, places, 0).cummax(dim=1).values
    latest = torch.cat([latest.new_zeros(rows, 1), latest], dim=1)
    known = torch.cat([last_BD[:, None], h_BTD], dim=1)
    chosen = known.gather(1, latest[:, :, None].expand(-1, -1, h_BTD.shape[2]))
    return chosen[:, :-1], chosen[:, -1]


def _is_full(state: LayerState, chunk: int) -> Tensor:
    """Return which rows have an open slot that takes no more tokens, ``[B]``."""
    open_B = (state.used - 1).clamp_min(0)
    return (state.counts.gather(1, open_B[:, None])[:, 0] >= chunk) & bool(chunk)


def _opened(state: LayerState, opening_B: Tensor) -> tuple[LayerState, Tensor]:
    """Return the state with room for a new slot in some rows, and the open slot of each row ``[B]``."""
    capacity = state.counts.shape[1]
    for row in torch.nonzero(opening_B & (state.used == capacity))[:, 0].tolist():
        state = _merged(state, row)
    used = state.used
    return state, torch.where(opening_B, used, used - 1).clamp(0, capacity - 1)


def _merged(state: LayerState, row: int) -> LayerState:
    """Return the state with the two most similar adjacent slots of a row added; with one slot, unchanged."""
    if state.counts.shape[1] == 1:
        return state
    counts, keys = state.counts[row], state.keys[row]
    sizes = counts.to(torch.float32)
    means = keys / sizes[:, None]
    increase = (
        sizes[:-1] * sizes[1:] / (sizes[:-1] + sizes[1:]) * (means[1:] - means[:-1]).square().sum(dim=1)
    )
    first = int(increase.detach().argmin())

    def shorter(values_BN: Tensor) -> Tensor:
        values = values_BN[row]
        both = values[first : first + 2].sum(dim=0, keepdim=True)
        merged = torch.cat([values[:first], both, values[first + 2 :], torch.zeros_like(values[:1])])
        return torch.cat([values_BN[:row], merged[None], values_BN[row + 1 :]])

    return replace(state, slots=shorter(state.slots), keys=shorter(state.keys), counts=shorter(state.counts))


def _segment(state: LayerState, open_B: Tensor, mask_BT: Tensor, waits_B: Tensor, chunk: int) -> int:
    """Return how many tokens follow until a row opens a slot.

    Args:
        state: with room for new slots.
        open_B: the open slot of each row.
        mask_BT: which of the tokens that follow are written.
        waits_B: rows that open a slot at their next written token, those of the first token left out.
        chunk: as in `Writing`.
    """
    counts = state.counts.gather(1, open_B[:, None]) + mask_BT.cumsum(dim=1) - mask_BT.long()
    opens = mask_BT & (waits_B[:, None] | ((counts >= chunk) & bool(chunk)))
    later = torch.nonzero(opens[:, 1:].any(dim=0))
    return int(later[0]) + 1 if len(later) else mask_BT.shape[1]


def _write(state: LayerState, open_B: Tensor, steps: _Steps, part: slice) -> tuple[_Open, LayerState]:
    """Write a segment's tokens into the open slot; return it as each found it, and the state afterwards."""
    rows = torch.arange(len(open_B), device=open_B.device)
    slot = state.slots[rows, open_B]
    found = []
    for matrix, value in zip(steps.matrices[:, part].unbind(1), steps.values[:, part].unbind(1), strict=True):
        found.append(slot)
        slot = torch.baddbmm(value, slot, matrix)
    mask, keys = steps.mask[:, part].long(), steps.keys[:, part]
    keys_after = state.keys[rows, open_B][:, None] + keys.cumsum(dim=1)
    counts_after = state.counts[rows, open_B][:, None] + mask.cumsum(dim=1)
    before = _Open(
        open_B,
        torch.stack(found, dim=1),
        torch.cat([state.keys[rows, open_B][:, None], keys_after[:, :-1]], dim=1),
        counts_after - mask,
    )
    is_open = torch.nn.functional.one_hot(open_B, state.counts.shape[1]).bool()
    after = replace(
        state,
        slots=torch.where(is_open[:, :, None, None], slot[:, None], state.slots),
        keys=torch.where(is_open[:, :, None], keys_after[:, -1:], state.keys),
        counts=torch.where(is_open, counts_after[:, -1:], state.counts),
    )
    return before, after


def _read(state: LayerState, queries_BTR: Tensor, before: _Open | None) -> tuple[Tensor, Tensor]:
    """Return y of each token, and whether a slot was in use.

    Args:
        state: whose slots are read.
        queries_BTR: unit queries.
        before: the open slot as each token finds it, if tokens are written.
    """
    rows, length, rank = queries_BTR.shape
    scores = queries_BTR @ _unit(state.keys).transpose(1, 2)
    valid = (state.counts > 0)[:, None].expand_as(scores)
    if before is not None:
        place = before.index[:, None, None].expand(-1, length, 1)
        scores = scores.scatter(2, place, (queries_BTR * _unit(before.keys)).sum(dim=-1, keepdim=True))
        valid = valid.scatter(2, place, (before.counts > 0)[:, :, None])
    chosen_BT = scores.masked_fill(~valid, -math.inf).argmax(dim=2)
    flat = chosen_BT[:, :, None].expand(-1, -1, rank * rank)
    slots = state.slots.flatten(2).gather(1, flat).view(rows, length, rank, rank)
    if before is not None:
        is_open = (chosen_BT == before.index[:, None])[:, :, None, None]
        slots = torch.where(is_open, before.slots, slots)
    o_BTR = (slots @ queries_BTR[..., None])[..., 0]
    y_BTR = o_BTR * torch.rsqrt(o_BTR.square().mean(dim=-1, keepdim=True) + _READ_EPSILON)
    return y_BTR, valid.any(dim=2)

"""States that a block of pairs of key and value leaves, and what a query reads from them.

A read is linear in the values: o = sum over the block of a_t v_t. So the coefficients a_t are computed from
the last token to the first, and no state is ever made: O(T d) for a query instead of O(T d**2).

Shapes: B sequences, T tokens, Q queries, D values of a key, V of a value, M blocks of one sequence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sttx_core.errors import UsageError
from sttx_core.memory.blocks import Array, Starts

_EPSILON = 1e-8


@dataclass(frozen=True, kw_only=True)
class StateUpdate:
    """How a token (k, v) changes a state: S := decay S - removal (S c) c' + gain v k'.

    Attributes:
        decay: what stays of the old state, from 0 to 1.
        removal: how much is taken from the direction c of the key, from 0 to 1.
        gain: how much of the new pair is added, above 0.
        unit: whether c is the key scaled to length 1; otherwise it is the key.
    """

    decay: float = 1.0
    removal: float = 0.0
    gain: float = 1.0
    unit: bool = False

    def __post_init__(self) -> None:
        for name in ("decay", "removal"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} must be from 0 to 1, not {getattr(self, name)!r}")
        if not self.gain > 0:
            raise UsageError(f"gain must be above 0, not {self.gain!r}")

    def with_decay(self, decay: float) -> "StateUpdate":
        """Return the same update with another decay."""
        return replace(self, decay=decay)


_BETA = 1 / (1 + np.exp(1.5))  # sigmoid(-1.5)
LINEAR = StateUpdate()
RWKV7 = StateUpdate(decay=0.98, removal=1.0, unit=True)
DELTA = StateUpdate(decay=1 - _BETA, removal=_BETA, gain=_BETA)


def coefficients(
    keys: Array,
    queries: Array,
    starts: Sequence[Starts],
    update: StateUpdate,
    lengths: NDArray[np.int64] | None = None,
) -> Array:
    """Return how much each token's value weighs in the read of each query from that token's block.

    Args:
        keys: shape (B, T, D).
        queries: shape (B, Q, D).
        starts: the blocks of each sequence. The state is empty at the start of each.
        update: how a token changes the state.
        lengths: tokens of each sequence, shape (B,), if some are shorter than T: what follows is not read.

    Returns:
        Shape (B, Q, T).
    """
    opens = np.zeros((keys.shape[0], keys.shape[1] + 1), bool)
    opens[np.arange(len(keys)), keys.shape[1] if lengths is None else lengths] = True
    for row, first in zip(opens, starts, strict=True):
        row[first] = True
    if not update.removal:
        return update.gain * _decayed_products(keys, queries, opens, update.decay)
    directions = keys
    if update.unit:
        directions = keys / (np.sqrt((keys * keys).sum(axis=-1, keepdims=True)) + _EPSILON)
    reads = queries.copy()
    result = np.empty((*queries.shape[:2], keys.shape[1]))
    for token in range(keys.shape[1] - 1, -1, -1):
        again = opens[:, token + 1]
        reads[again] = queries[again]
        result[:, :, token] = np.matmul(reads, keys[:, token, :, None])[:, :, 0]
        direction = directions[:, token]
        taken = np.matmul(reads, direction[:, :, None])
        reads *= update.decay
        reads -= update.removal * taken * direction[:, None, :]
    return update.gain * result


def _decayed_products(keys: Array, queries: Array, opens: NDArray[np.bool_], decay: float) -> Array:
    """Return the coefficients of states that only decay: products of key and query, with the decay since."""
    size = keys.shape[1]
    ends = np.where(opens[:, 1:], np.arange(size), size - 1)  # where a token ends its block, its position
    ends = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
    return queries @ keys.swapaxes(1, 2) * (decay ** (ends - np.arange(size)))[:, None, :]


def block_reads(coefficients_qt: Array, values: Array, starts: Starts) -> Array:
    """Return what each query reads from each block of one sequence, shape (Q, M, V).

    Args:
        coefficients_qt: shape (Q, T).
        values: shape (T, V).
        starts: the blocks.
    """
    return np.add.reduceat(coefficients_qt[:, :, None] * values[None], starts, axis=1)


def cosine(reads: Array, answers: Array) -> Array:
    """Return the cosine of each read with its answer, over the last axis."""
    lengths = np.sqrt((reads * reads).sum(axis=-1) * (answers * answers).sum(axis=-1))
    return (reads * answers).sum(axis=-1) / (lengths + _EPSILON)

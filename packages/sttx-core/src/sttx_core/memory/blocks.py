"""Where a stream is cut into blocks: policies that place at most a given number of starts.

A policy sees what each token contributes only through inner products, so its cost does not depend on how many
values a contribution has: for pairs of key and value it is their outer product. Knows nothing of states or
queries.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sttx_core.errors import UsageError

Array = NDArray[np.float64]
Starts = NDArray[np.int64]

THRESHOLD = 0.6
_EPSILON = 1e-6


@dataclass(frozen=True, kw_only=True)
class Contributions:
    """What T tokens add to a state, as inner products.

    Attributes:
        products: inner product of every two contributions, shape (T, T), finite.
        width: number of values in one contribution.
    """

    products: Array
    width: int

    def __post_init__(self) -> None:
        products = self.products
        if products.ndim != 2 or products.shape[0] != products.shape[1] or not len(products):
            raise UsageError(f"products must be square and not empty, not of shape {products.shape!r}")
        if not np.isfinite(products).all():
            raise UsageError("products must be finite: a contribution holds nan, inf or values too large")
        if self.width < 1:
            raise UsageError(f"width must be at least 1, not {self.width!r}")

    def __len__(self) -> int:
        return len(self.products)

    @classmethod
    def of_vectors(cls, vectors: Array) -> "Contributions":
        """Return the contributions of tokens that are vectors, shape (T, D)."""
        return cls(products=vectors @ vectors.T, width=vectors.shape[1])

    @classmethod
    def of_pairs(cls, keys: Array, values: Array) -> "Contributions":
        """Return the contributions k v' of keys (T, D) and values (T, V); the products are never made."""
        width = keys.shape[1] * values.shape[1]
        return cls(products=(keys @ keys.T) * (values @ values.T), width=width)


class BlockPolicy(Protocol):
    """Cuts a stream into blocks; pure. `sttx_core.checks.check_block_policy` checks the rules."""

    def __call__(self, contributions: Contributions, capacity: int) -> Starts:
        """Return the first token of each block: 0 first, increasing, at most `capacity` of them.

        Raises:
            UsageError: `capacity` is below 1.
        """
        ...


def surprises(contributions: Contributions, threshold: float = THRESHOLD) -> tuple[Starts, Array]:
    """Return where algorithm 1 starts blocks, and how far each token was from its open block, shape (T,).

    The open block is the sum of its contributions. A token whose distance from it, after both are scaled to
    mean square 1, is at least `threshold` of the block's length opens the next block.
    """
    products, width = contributions.products, contributions.width
    before = np.cumsum(products, axis=1)
    own = np.diagonal(products)
    starts, distances = [0], np.zeros(len(products))
    start, total = 0, float(own[0])
    for token in range(1, len(products)):
        square = float(own[token])
        product = float(before[token, token - 1] - (before[token, start - 1] if start else 0.0))
        distances[token] = distance = _distance(square, total, product, width)
        if distance >= threshold:
            starts.append(token)
            start, total = token, square
        else:
            total += 2 * product + square
    return np.array(starts), distances


def adaptive(contributions: Contributions, capacity: int) -> Starts:
    """Return the blocks of dynamic linear attention: algorithm 1, then algorithm 2 down to the capacity."""
    starts, distances = surprises(contributions)
    return merge_calm(starts, distances, capacity)


def merge_calm(starts: Starts, distances: Array, capacity: int) -> Starts:
    """Return the blocks that algorithm 2 leaves: it merges the adjacent pair of least mean distance.

    Args:
        starts: the first token of each block.
        distances: of each token from its block, shape (T,), as `surprises` returns them.
        capacity: how many blocks may stay.
    """
    check_capacity(capacity)
    scores = np.add.reduceat(distances, starts)
    lengths = np.diff(np.append(starts, len(distances)))
    while len(starts) > capacity:
        first = int(np.argmin((scores[:-1] + scores[1:]) / (lengths[:-1] + lengths[1:])))
        scores[first] += scores[first + 1]
        lengths[first] += lengths[first + 1]
        starts, scores, lengths = (np.delete(one, first + 1) for one in (starts, scores, lengths))
    return starts


def fixed(contributions: Contributions, capacity: int) -> Starts:
    """Return blocks of equal length, as near as whole tokens allow."""
    check_capacity(capacity)
    return np.unique(np.linspace(0, len(contributions), capacity + 1).astype(np.int64)[:-1])


def oracle(length: int, needles: Sequence[int]) -> Starts:
    """Return blocks that hold each needle alone and the tokens between two needles together."""
    cuts = {0, *needles, *(needle + 1 for needle in needles)}
    return np.array(sorted(cut for cut in cuts if cut < length))


def shifted(starts: Starts, shifts: Sequence[int], length: int) -> Starts:
    """Return blocks whose inner starts are moved, kept increasing and inside the sequence.

    Args:
        starts: the first token of each block, 0 first.
        shifts: how far each start but the first is moved, in tokens.
        length: T.
    """
    moved = sorted(int(start) + shift for start, shift in zip(starts[1:], shifts, strict=True))
    result = [0]
    for index, start in enumerate(moved):
        result.append(max(result[-1] + 1, min(length - (len(moved) - index), start)))
    return np.array(result)


def _distance(square: float, total: float, product: float, width: int) -> float:
    """Return the distance of a contribution from a sum, both scaled to mean square 1, relative to the sum."""
    scale = (square / width + _EPSILON) ** 0.5
    total_scale = (total / width + _EPSILON) ** 0.5
    squared = square / scale**2 + total / total_scale**2 - 2 * product / (scale * total_scale)
    return max(squared, 0.0) ** 0.5 / (max(total, 0.0) ** 0.5 / total_scale + _EPSILON)


def check_capacity(capacity: int) -> None:
    """Refuse a number of blocks that no policy can keep to.

    Raises:
        UsageError: it is below 1.
    """
    if capacity < 1:
        raise UsageError(f"capacity must be at least 1, not {capacity!r}")

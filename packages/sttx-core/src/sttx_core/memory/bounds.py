"""The bound B of how much blocks lose, and two policies that make it small: Ward's merging and the optimum.

B is the sum over blocks of sqrt(n) * sqrt(sum of squared distances from the block's mean).
"""

import numpy as np

from sttx_core.memory.blocks import Array, Contributions, Starts, check_capacity


class BlockCosts:
    """The bound of any block of a sequence, in constant time."""

    def __init__(self, contributions: Contributions) -> None:
        size = len(contributions)
        self._corner = np.zeros((size + 1, size + 1))
        self._corner[1:, 1:] = contributions.products.cumsum(axis=0).cumsum(axis=1)
        self._own = np.concatenate([[0.0], np.diagonal(contributions.products).cumsum()])
        self._rows, self._own_list = self._corner.tolist(), self._own.tolist()

    def one(self, start: int, end: int) -> float:
        """Return the bound of one block, as `of` does."""
        rows, own = self._rows, self._own_list
        inside = rows[end][end] - rows[start][end] - rows[end][start] + rows[start][start]
        length = end - start
        return (length * max(own[end] - own[start] - inside / length, 0.0)) ** 0.5

    def of(self, starts: Starts | int, ends: Starts | int) -> Array:
        """Return the bound of the blocks from `starts` to before `ends`, elementwise."""
        corner = self._corner
        inside = corner[ends, ends] - corner[starts, ends] - corner[ends, starts] + corner[starts, starts]
        lengths = np.asarray(ends) - starts
        spread = self._own[ends] - self._own[starts] - inside / np.maximum(lengths, 1)
        return np.sqrt(lengths * np.maximum(spread, 0.0))


def bound(contributions: Contributions, starts: Starts) -> float:
    """Return B of the blocks that begin at `starts`."""
    ends = np.append(starts[1:], len(contributions))
    return float(BlockCosts(contributions).of(starts, ends).sum())


def ward(contributions: Contributions, capacity: int) -> Starts:
    """Return blocks merged from single tokens, each time the adjacent pair that raises B the least.

    Ties go to the leftmost pair.
    """
    check_capacity(capacity)
    cost = BlockCosts(contributions).one
    edges = list(range(len(contributions) + 1))
    alone = [0.0] * len(contributions)
    rises = [cost(left, left + 2) for left in edges[:-2]]
    while len(alone) > capacity:
        first = rises.index(min(rises))
        del edges[first + 1], alone[first + 1], rises[first]
        alone[first] = cost(edges[first], edges[first + 1])
        for pair in range(max(first - 1, 0), min(first + 1, len(rises))):
            rises[pair] = cost(edges[pair], edges[pair + 2]) - alone[pair] - alone[pair + 1]
    return np.array(edges[:-1])


def optimal(contributions: Contributions, capacity: int) -> Starts:
    """Return the blocks with the least B there is, by dynamic programming in O(capacity * T**2)."""
    check_capacity(capacity)
    size = len(contributions)
    starts, ends = np.meshgrid(np.arange(size), np.arange(1, size + 1), indexing="ij")
    costs = np.where(starts < ends, BlockCosts(contributions).of(np.minimum(starts, ends), ends), np.inf)
    best = costs[0]
    choices = []
    for _ in range(min(capacity, size) - 1):
        totals = np.concatenate([[np.inf], best[:-1]])[:, None] + costs  # (start of the last block, its end)
        choices.append(totals.argmin(axis=0))
        best = totals.min(axis=0)
    cuts, end = [], size
    for choice in reversed(choices):
        end = int(choice[end - 1])
        cuts.append(end)
    return np.array([0, *reversed(cuts)])

"""The order in which examples are read: shuffled in every epoch, with examples of similar length together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_POOL = 16  # batches whose examples are sorted by length, so that little is padded


def steps_of_epoch(count: int, rows: int) -> int:
    """Return how many steps an epoch has; its last one may have fewer rows.

    Args:
        count: number of examples.
        rows: examples of a step.
    """
    return -(-count // rows)


def epoch_order(lengths: Sequence[int], rows: int, *, seed: int, epoch: int) -> list[list[int]]:
    """Return the examples of each step of an epoch, by their numbers; each example is there once.

    Args:
        lengths: tokens of each example.
        rows: examples of a step.
        seed: of the run.
        epoch: number of the epoch.

    >>> epoch_order([5, 5, 5], 2, seed=0, epoch=0)
    [[1], [2, 0]]
    """
    dice = np.random.default_rng([seed, epoch])
    shuffled = dice.permutation(len(lengths)).tolist()
    steps: list[list[int]] = []
    for start in range(0, len(shuffled), _POOL * rows):
        pool = sorted(shuffled[start : start + _POOL * rows], key=lambda index: lengths[index])
        cut = [pool[at : at + rows] for at in range(0, len(pool), rows)]
        steps += [cut[index] for index in dice.permutation(len(cut)).tolist()]
    return steps

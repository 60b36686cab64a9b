"""Which block a query is read from: the block of its needle, the largest read, or the nearest mean key.

Only the first needs to know the answer, so only the other two can be used.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np

from sttx_core.memory.blocks import Array, Starts
from sttx_core.memory.sequences import Batch
from sttx_core.memory.states import StateUpdate, block_reads, coefficients, cosine

Routing: TypeAlias = Literal["oracle", "norm", "centroid"]

ROUTINGS: tuple[Routing, ...] = ("oracle", "norm", "centroid")
_EPSILON = 1e-8


def home_blocks(starts: Starts, positions: Starts) -> Starts:
    """Return the number of the block that holds each position."""
    return np.searchsorted(starts, positions, side="right") - 1


def largest_read(reads: Array) -> Starts:
    """Return the block with the longest read for each query.

    Args:
        reads: what each query reads from each block, shape (Q, M, V).
    """
    return (reads * reads).sum(axis=-1).argmax(axis=-1)


def nearest_centroid(keys: Array, starts: Starts, queries: Array) -> Starts:
    """Return the block whose mean key has the largest cosine with each query.

    Args:
        keys: shape (T, D).
        starts: the blocks.
        queries: shape (Q, D).
    """
    sums = np.add.reduceat(keys, starts, axis=0)
    directions = sums / (np.sqrt((sums * sums).sum(axis=-1, keepdims=True)) + _EPSILON)
    return (queries @ directions.T).argmax(axis=-1)


def read_scores(
    batch: Batch,
    starts: Sequence[Starts],
    update: StateUpdate,
    *,
    queries: Array | None = None,
    routings: Sequence[Routing] = ("oracle",),
) -> dict[Routing, Array]:
    """Return the cosine of each query's read with its answer, by routing, each of shape (B, Q).

    Args:
        batch: the sequences.
        starts: the blocks of each sequence.
        update: how a token changes the state of its block.
        queries: what is asked, shape (B, Q, D); the exact keys by default.
        routings: how the block is chosen.
    """
    queries = batch.queries if queries is None else queries
    weights = coefficients(batch.keys, queries, starts, update, batch.lengths)
    reads: dict[Routing, Array] = {routing: np.empty_like(batch.answers) for routing in routings}
    every = np.arange(queries.shape[1])
    for index, (length, first) in enumerate(zip(batch.lengths, starts, strict=True)):
        all_reads = block_reads(weights[index, :, :length], batch.values[index, :length], first)
        for routing in routings:
            match routing:
                case "oracle":
                    chosen = home_blocks(first, batch.needles[index])
                case "norm":
                    chosen = largest_read(all_reads)
                case "centroid":
                    chosen = nearest_centroid(batch.keys[index, :length], first, queries[index])
            reads[routing][index] = all_reads[every, chosen]
    return {routing: cosine(read, batch.answers) for routing, read in reads.items()}

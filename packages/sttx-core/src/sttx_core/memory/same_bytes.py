"""Other uses of the bytes of several states: one wide state, or one state and a cache of exact pairs.

Counted as float32: a state is D * V numbers, a cached pair D + V and one for the reason why it is kept.
"""

from typing import Literal, TypeAlias

import numpy as np

from sttx_core.memory.blocks import Array, Starts
from sttx_core.memory.draws import WIDTH
from sttx_core.memory.sequences import Batch
from sttx_core.memory.states import StateUpdate, coefficients, cosine

Kept: TypeAlias = Literal["surprising", "latest", "random"]

KEPT: tuple[Kept, ...] = ("surprising", "latest", "random")
STATE_BYTES = 4 * WIDTH * WIDTH
EXACT_BYTES = 4 * 2 * WIDTH
PAIR_BYTES = EXACT_BYTES + 4
CENTROID_BYTES = 4 * WIDTH

_CACHE_COSINE = 0.5  # a query is answered from the cache if a key in it is at least this near
_EPSILON = 1e-8


def wide_features(vectors: Array, states: int, sharpness: float) -> Array:
    """Return keys of `states` times the width, random Fourier features of a Gaussian kernel.

    The features are the same for every sequence, so they are not counted as memory. Keys of zeros, which pad
    a batch, stay zeros.

    Args:
        vectors: shape (..., 32).
        states: how many states' bytes the wide state may use.
        sharpness: of the kernel: how fast two keys become unlike.
    """
    draws = np.random.default_rng(0)
    width = states * WIDTH
    phases = vectors @ (sharpness * draws.standard_normal((WIDTH, width)))
    features = np.sqrt(2 / width) * np.cos(phases + draws.uniform(0, 2 * np.pi, width))
    return features * vectors.any(axis=-1, keepdims=True)


def wide_scores(batch: Batch, update: StateUpdate, states: int, sharpness: float) -> Array:
    """Return the scores of one state as large as `states` states, shape (B, Q)."""
    keys = wide_features(batch.keys, states, sharpness)
    queries = wide_features(batch.queries, states, sharpness)
    weights = coefficients(keys, queries, _whole(batch), update, batch.lengths)
    return cosine(weights @ batch.values, batch.answers)


def cache_scores(batch: Batch, update: StateUpdate, states: int, kept: Kept) -> Array:
    """Return the scores of one state beside a cache, both within the bytes of `states` states, shape (B, Q).

    A query that has a key of the cache near it gets that pair's value, any other is read from the state.
    """
    pairs = (states - 1) * STATE_BYTES // PAIR_BYTES
    weights = coefficients(batch.keys, batch.queries, _whole(batch), update, batch.lengths)
    reads = weights @ batch.values
    ranks = _ranks(batch, update, kept)
    for index, length in enumerate(batch.lengths):
        cached = np.argsort(-ranks[index, :length], kind="stable")[:pairs]
        if len(cached):
            _answer_from_cache(reads, batch, index, cached)
    return cosine(reads, batch.answers)


def state_surprises(batch: Batch, update: StateUpdate) -> Array:
    """Return how far each value is from what the state so far reads at its key, shape (B, T)."""
    keys, values = batch.keys, batch.values
    units = keys / (np.sqrt((keys * keys).sum(axis=-1, keepdims=True)) + _EPSILON)
    states = np.zeros((len(keys), values.shape[2], keys.shape[2]))
    result = np.empty(keys.shape[:2])
    for token in range(keys.shape[1]):
        key, unit, value = keys[:, token], units[:, token], values[:, token]
        read = np.matmul(states, unit[:, :, None])[:, :, 0]
        result[:, token] = np.sqrt(((value - read) ** 2).sum(axis=-1))
        removed = read if update.unit else np.matmul(states, key[:, :, None])[:, :, 0]
        direction = unit if update.unit else key
        states *= update.decay
        states -= update.removal * removed[:, :, None] * direction[:, None, :]
        states += update.gain * value[:, :, None] * key[:, None, :]
    return result


def _whole(batch: Batch) -> list[Starts]:
    """Return one block for each sequence."""
    return [np.array([0])] * len(batch.keys)


def _answer_from_cache(reads: Array, batch: Batch, index: int, cached: Starts) -> None:
    keys, queries = batch.keys[index, cached], batch.queries[index]
    lengths = np.sqrt((keys * keys).sum(axis=-1))[None] * np.sqrt((queries * queries).sum(axis=-1))[:, None]
    cosines = queries @ keys.T / (lengths + _EPSILON)
    near = cosines.max(axis=-1) >= _CACHE_COSINE
    reads[index, near] = batch.values[index, cached[cosines.argmax(axis=-1)[near]]]


def _ranks(batch: Batch, update: StateUpdate, kept: Kept) -> Array:
    """Return how much each pair deserves its place, shape (B, T): a cache keeps the highest."""
    count, size = batch.keys.shape[:2]
    match kept:
        case "surprising":
            return state_surprises(batch, update)
        case "latest":
            return np.broadcast_to(np.arange(float(size)), (count, size))
        case "random":
            return np.random.default_rng(0).random((count, size))

"""Sequences of keys and values whose answers are known: themes with one needle each, and plain segments.

Each is drawn from one generator in a fixed order, so a seed is a sequence. Knows nothing of blocks or states.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sttx_core.memory.draws import WIDTH, TorchDraws, to_normal
from sttx_core.memory.float32_sums import normalized

Array = NDArray[np.float64]

_TOKEN_NOISE = 0.03
_FILLER_NOISE = 0.02
_SPREAD = 2  # a length differs from its mean by at most this
_LEAST = 2  # tokens of a segment


@dataclass(frozen=True, kw_only=True)
class Recall:
    """A sequence of T pairs of key and value; some are needles, whose values a query asks for.

    Attributes:
        keys: shape (T, 32).
        values: shape (T, 32).
        needles: positions of the needles, increasing. Each is the first token of its segment.
    """

    keys: Array
    values: Array
    needles: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Sequences of one setting, padded with zeros to the same length.

    Attributes:
        keys: shape (B, T, 32).
        values: shape (B, T, 32).
        lengths: tokens of each sequence, shape (B,).
        needles: positions of the needles, shape (B, Q).
    """

    keys: Array
    values: Array
    lengths: NDArray[np.int64]
    needles: NDArray[np.int64]

    @property
    def queries(self) -> Array:
        """Return the exact keys of the needles, shape (B, Q, 32)."""
        return np.take_along_axis(self.keys, self.needles[:, :, None], axis=1)

    @property
    def answers(self) -> Array:
        """Return the values of the needles, shape (B, Q, 32)."""
        return np.take_along_axis(self.values, self.needles[:, :, None], axis=1)


def draw_segments(draws: TorchDraws, segments: int, mean_length: int) -> NDArray[np.float32]:
    """Return the tokens of segments that each repeat one direction with noise, shape (T, 32)."""
    words, lengths = [], []
    for _ in range(segments):
        words.append(draws.words(1))
        lengths.append(max(_LEAST, mean_length + draws.integer(-_SPREAD, _SPREAD)))
        words.append(draws.words(lengths[-1]))
    numbers = to_normal(np.concatenate(words))
    first = np.cumsum([0, *(1 + length for length in lengths[:-1])])
    centers = np.repeat(normalized(numbers[first]), lengths, axis=0)
    noise = np.float32(_TOKEN_NOISE) * np.delete(numbers, first, axis=0)
    return (centers + noise).astype(np.float32, copy=False)


def draw_recall(draws: TorchDraws, needles: int, filler: int) -> Recall:
    """Return a sequence with one needle before each theme's fillers."""
    heads, noises, fillers = [], [], []
    for _ in range(needles):
        heads.append(draws.words(4))
        fillers.append(max(_LEAST, filler + draws.integer(-_SPREAD, _SPREAD)))
        noises.append(draws.words(2 * fillers[-1]))
    vectors = normalized(to_normal(np.concatenate(heads))).reshape(needles, 4, WIDTH)
    noise = np.float32(_FILLER_NOISE) * to_normal(np.concatenate(noises)).reshape(-1, 2, WIDTH)
    noise = noise.astype(np.float32, copy=False)
    themes = np.repeat(vectors[:, 2:], fillers, axis=0)
    positions = np.cumsum([0, *(1 + count for count in fillers[:-1])])
    before = positions - np.arange(needles)  # np.insert counts places before anything is inserted
    keys = np.insert(normalized(themes[:, 0] + noise[:, 0]), before, vectors[:, 0], axis=0)
    values = np.insert(themes[:, 1] + noise[:, 1], before, vectors[:, 1], axis=0)
    return Recall(keys=keys.astype(np.float64), values=values.astype(np.float64), needles=positions)


def stack(sequences: Sequence[Recall]) -> Batch:
    """Return sequences with the same number of needles as one batch."""
    lengths = np.array([len(one.keys) for one in sequences])
    keys = np.zeros((len(sequences), int(lengths.max()), WIDTH))
    values = np.zeros_like(keys)
    for index, one in enumerate(sequences):
        keys[index, : lengths[index]] = one.keys
        values[index, : lengths[index]] = one.values
    return Batch(
        keys=keys, values=values, lengths=lengths, needles=np.stack([one.needles for one in sequences])
    )

"""The random numbers of PyTorch's generator on the CPU, made by numpy: the same bits.

Tables that were computed with `torch.randn` and `torch.randint` can so be recomputed without torch. Normal
numbers have the bits that torch gives on processors with AVX2; elsewhere its own differ by up to 5e-7.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDTH = 32
"""Length of every vector that is drawn; torch fills vectors of at least 16 by the transform used here."""

Floats = NDArray[np.float32]
Words = NDArray[np.uint32]

_CHUNK = 4096
_UNIFORM_BITS = 24
_HALF = np.float32(0.5)
_ONE = np.float32(1)

# Constants of the Cephes library (logf.c, sinf.c): polynomials, and pi / 4 and log(2) in parts that multiply
# exactly.
_LOG = (
    7.0376836292e-2,
    -1.1514610310e-1,
    1.1676998740e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
)
_LOG_2_HIGH, _LOG_2_LOW = 0.693359375, -2.12194440e-4
_COSINE = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
_SINE = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
_QUARTER_PI = (-0.78515625, -2.4187564849853515625e-4, -3.77489497744594108e-8)


class TorchDraws:
    """What `torch.Generator().manual_seed(seed)` gives, in sequence.

    >>> draws = TorchDraws(0)
    >>> draws.normal(2).shape, draws.integer(-2, 2)
    ((2, 32), -2)

    Args:
        seed: from 0 to 2**32 - 1.
    """

    def __init__(self, seed: int) -> None:
        self._source = np.random.RandomState(seed)  # the Mersenne twister, seeded as torch's is
        self._words = np.empty(0, np.uint32)

    def normal(self, count: int) -> Floats:
        """Return `count` draws of `torch.randn(32)`, shape (count, 32)."""
        return to_normal(self.words(count))

    def words(self, count: int) -> Words:
        """Return what `count` draws of `torch.randn(32)` are made from, for `to_normal`."""
        return self._take(count * WIDTH).reshape(count, WIDTH)

    def integer(self, low: int, high: int) -> int:
        """Return the draw of `torch.randint(low, high + 1, (1,))`."""
        return low + int(self._take(1)[0]) % (high - low + 1)

    def _take(self, count: int) -> Words:
        if count > len(self._words):
            more = self._source.randint(0, 2**32, max(_CHUNK, count), dtype=np.uint32)
            self._words = np.concatenate([self._words, more])
        taken, self._words = self._words[:count], self._words[count:]
        return taken


def to_normal(words: Words) -> Floats:
    """Return normal numbers made from words of 32 bits, of the same shape (N, 32)."""
    uniform = (words & np.uint32(2**_UNIFORM_BITS - 1)).astype(np.float32) * np.float32(2.0**-_UNIFORM_BITS)
    halves = uniform.reshape(-1, 2, 8)
    radius = np.sqrt(np.float32(-2) * _log(_ONE - halves[:, 0]))
    sine, cosine = _sine_cosine(np.float32(2 * np.pi) * halves[:, 1])
    return np.stack([radius * cosine, radius * sine], axis=1).reshape(words.shape)


def _fused(first: NDArray[Any], second: NDArray[Any] | float, third: NDArray[Any] | float) -> Floats:
    """Return first * second + third for values of float32, rounded once to float32."""
    one, two, three = (np.asarray(value, np.float32).astype(np.float64) for value in (first, second, third))
    return (one * two + three).astype(np.float32)


def _log(values: Floats) -> Floats:
    """Return the natural logarithm of numbers above 0."""
    mantissa, exponents = np.frexp(values)
    small = mantissa < np.float32(0.5**0.5)
    exponent = (exponents - small).astype(np.float32)
    x = np.where(small, mantissa - _ONE + mantissa, mantissa - _ONE)
    square = x * x
    result = np.full_like(x, _LOG[0])
    for term in _LOG[1:]:
        result = _fused(result, x, term)
    result = _fused(result * x, square, exponent * np.float32(_LOG_2_LOW))
    return _fused(exponent, _LOG_2_HIGH, x + _fused(square, -0.5, result))


def _sine_cosine(angles: Floats) -> tuple[Floats, Floats]:
    """Return sine and cosine of angles from 0 to 2 pi."""
    octant = ((angles * np.float32(4 / np.pi)).astype(np.int32) + 1) & ~1
    x = angles
    for part in _QUARTER_PI:
        x = _fused(octant.astype(np.float32), part, x)
    square = x * x
    cosine = _fused(_fused(np.full_like(x, _COSINE[0]), square, _COSINE[1]), square, _COSINE[2])
    cosine = _fused(cosine * square, square, -_HALF * square) + _ONE
    sine = _fused(_fused(np.full_like(x, _SINE[0]), square, _SINE[1]), square, _SINE[2])
    sine = _fused(sine * square, x, x)
    swapped = (octant & 2) != 0
    sine_negative, cosine_negative = (octant & 4) != 0, ((octant - 2) & 4) == 0
    return (
        np.where(swapped, cosine, sine) * np.where(sine_negative, -_ONE, _ONE),
        np.where(swapped, sine, cosine) * np.where(cosine_negative, -_ONE, _ONE),
    )

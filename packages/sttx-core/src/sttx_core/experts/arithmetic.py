"""Logarithm, exponential and hash of exact operations in a fixed order: the same bits on every machine.

The C library's functions, and vectorized ones, differ in the last bits from machine to machine. These use
only what IEEE 754 rounds exactly: sums, products and quotients, which numba neither fuses nor reorders.
"""

import math
from typing import Any, cast

import numpy as np
from numba import njit

compiled = cast(Any, njit)(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""Compiles with numba, to be called by compiled code only, which halves the time that it takes.

Not kept on disk: numba would not notice a change in another file (see `entry`).
"""

borrowing = cast(Any, njit)(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False)
"""The same for functions that make no array: they do not count the uses of the arrays that they are given.

Numba counts at every call and for every array of a tuple, which took nearly half of the time.
"""

LIMIT = 1.0 / (1 << 18)
"""Least probability of a decision: one decision costs at most 18 bits."""

BITS = 1.4426950408889634
"""Bits of a nat."""

_LN2 = 0.6931471805599453
_SQRT2 = 1.4142135623730951
_INVERSE_FACTORIALS = tuple(1.0 / math.factorial(n) for n in range(13, -1, -1))
_INVERSE_ODDS = tuple(1.0 / n for n in range(19, 0, -2))

# Odd constants of 64 bits: the golden ratio, and those of Murmur3's and SplitMix64's finalizers.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xD6E8FEB86659FD93)
_SPREAD = np.uint64(0xBF58476D1CE4E5B9)
_HALF, _LESS = np.uint64(32), np.uint64(29)


@borrowing
def hashed(state, value):
    """Return the hash of a hash and one more value; all are uint64."""
    state = (state ^ (value + _GOLDEN)) * _MIX
    return state ^ (state >> _HALF)


@borrowing
def scattered(state):
    """Return a hash whose upper 32 bits depend on all bits of ``state``."""
    state = state * _GOLDEN
    state ^= state >> _LESS
    return state * _SPREAD


@borrowing
def log(x):
    """Return the natural logarithm of a positive number, to 1e-13.

    With x = m 2^e and m near 1, ln m = 2 artanh((m - 1) / (m + 1)), by its series.
    """
    exponent = 0
    while x >= 256.0:
        x *= 1 / 256
        exponent += 8
    while x >= _SQRT2:
        x *= 0.5
        exponent += 1
    while x < 1 / 256:
        x *= 256.0
        exponent -= 8
    while x < _SQRT2 / 2:
        x *= 2.0
        exponent -= 1
    z = (x - 1.0) / (x + 1.0)
    square = z * z
    series = 0.0
    for inverse in _INVERSE_ODDS:
        series = series * square + inverse
    return 2.0 * z * series + exponent * _LN2


@borrowing
def exp(x):
    """Return e to the power of x, from -40 to 40, to 1e-13 of it."""
    power = int(math.floor(x * BITS + 0.5))
    rest = x - power * _LN2
    series = 0.0
    for inverse in _INVERSE_FACTORIALS:
        series = series * rest + inverse
    return series * (1 << power) if power >= 0 else series / (1 << -power)


@borrowing
def stretch(p):
    """Return ln(p / (1 - p)) of a probability between 0 and 1."""
    return log(p / (1.0 - p))


@borrowing
def squash(x):
    """Return the probability whose stretch is x."""
    return 1.0 / (1.0 + exp(-x))


@borrowing
def within(x, least, most):
    """Return x, or the bound that it exceeds."""
    return min(max(x, least), most)


_STEPS, _SPAN = 4096, 14.0


def _tables() -> tuple[np.ndarray, np.ndarray]:
    ln, to_power = log.py_func, exp.py_func
    middles = ((np.arange(_STEPS) + 0.5) / _STEPS).tolist()
    stretched = [ln(p) - ln(1 - p) for p in middles]
    squashed = [1 / (1 + to_power(_SPAN - 2 * _SPAN * p)) for p in middles]
    return np.array(stretched, np.float32), np.array(squashed, np.float32)


STRETCHED, _SQUASHED = _tables()
"""The stretched probabilities of the middles of 4,096 equal ranges."""


@borrowing
def squash_roughly(x):
    """Return `squash` of x, from -14 to 14, to 0.4%."""
    return _SQUASHED[min(np.int64((x + _SPAN) * (_STEPS / (2 * _SPAN))), _STEPS - 1)]

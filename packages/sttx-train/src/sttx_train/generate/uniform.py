"""The random number of each token of a text, compiled: that of numpy's generator for a list of numbers.

``uniform(words(seed, stream), n)`` is ``np.random.default_rng([seed, stream, n]).random()``, without making a
generator for each token. Source: `numpy.random.SeedSequence` (O'Neill's ``seed_seq_fe``) and PCG64, XSL-RR
(O'Neill 2014). Knows no tokens.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from sttx_core.experts.kept import compiled_once

_LOW = np.uint64(0xFFFFFFFF)
_0, _1, _11, _16, _32, _58, _63 = (np.uint64(bits) for bits in (0, 1, 11, 16, 32, 58, 63))
_FIRST, _FIRST_FACTOR = np.uint64(0x43B0D7E5), np.uint64(0x931E8875)
_SECOND, _SECOND_FACTOR = np.uint64(0x8B51F9DD), np.uint64(0x58F38DED)
_LEFT, _RIGHT = np.uint64(0xCA01F9DD), np.uint64(0x4973F715)
_PCG_HIGH, _PCG_LOW = np.uint64(2549297995355413924), np.uint64(4865540595714422341)


def words(*numbers: int) -> np.ndarray:
    """Return numbers from 0 on as words of 32 bits, each number's lowest word first, uint64.

    >>> words(3, 2**32).tolist()
    [3, 0, 1]
    """
    return np.array(
        [
            number >> shift & 0xFFFFFFFF
            for number in numbers
            for shift in range(0, max(number.bit_length(), 1), 32)
        ],
        np.uint64,
    )


@njit(nogil=True)
def _hashed(value, constant, factor):
    """Return the hash of a word, and the constant for the next one."""
    constant_after = constant * factor & _LOW
    value = (value ^ constant) * constant_after & _LOW
    return value ^ (value >> _16), constant_after


@njit(nogil=True)
def _mixed(word, other):
    value = (_LEFT * word - _RIGHT * other) & _LOW
    return value ^ (value >> _16)


@njit(nogil=True)
def _pool(entropy, last):
    """Return the pool of four words of a `SeedSequence`."""
    size, constant = len(entropy) + 1, _FIRST
    pool = np.zeros(4, np.uint64)
    for at in range(4):
        word = _0
        if at < size:
            word = last if at == size - 1 else entropy[at]
        pool[at], constant = _hashed(word, constant, _FIRST_FACTOR)
    for source in range(4):
        for at in range(4):
            if at != source:
                word, constant = _hashed(pool[source], constant, _FIRST_FACTOR)
                pool[at] = _mixed(pool[at], word)
    for source in range(4, size):
        for at in range(4):
            word = last if source == size - 1 else entropy[source]
            word, constant = _hashed(word, constant, _FIRST_FACTOR)
            pool[at] = _mixed(pool[at], word)
    return pool


@njit(nogil=True)
def _sum(high, low, other_high, other_low):
    """Return the sum of two numbers of 128 bits."""
    total = low + other_low
    carry = _1 if total < low else _0
    return high + other_high + carry, total


@njit(nogil=True)
def _step(high, low, inc_high, inc_low):
    """Return the next state of PCG64: times its factor, plus the increment."""
    a, b, c, d = low & _LOW, low >> _32, _PCG_LOW & _LOW, _PCG_LOW >> _32
    middle = b * c + (a * c >> _32)
    other = a * d + (middle & _LOW)
    upper = b * d + (middle >> _32) + (other >> _32)
    return _sum(high * _PCG_LOW + low * _PCG_HIGH + upper, low * _PCG_LOW, inc_high, inc_low)


@compiled_once
def uniform(entropy: np.ndarray, last: int) -> float:
    """Return a random number from 0 to below 1.

    Args:
        entropy: `words` of the numbers that it follows from.
        last: one more of these numbers, below 2^32.
    """
    pool, constant = _pool(entropy, np.uint64(last)), _SECOND
    seeds = np.zeros(4, np.uint64)
    for at in range(8):
        word, constant = _hashed(pool[at & 3], constant, _SECOND_FACTOR)
        seeds[at >> 1] |= word << _32 if at & 1 else word
    inc_high, inc_low = seeds[2] << _1 | seeds[3] >> _63, seeds[3] << _1 | _1
    high, low = _sum(inc_high, inc_low, seeds[0], seeds[1])
    high, low = _step(high, low, inc_high, inc_low)
    high, low = _step(high, low, inc_high, inc_low)
    turn, value = high >> _58, high ^ low
    value = value >> turn | value << ((_0 - turn) & _63)
    return np.float64(value >> _11) * 2.0**-53

"""Two entropy coders of binary decisions: a range coder and rANS. Knows nothing of what decides.

Probabilities are multiples of 2^-24. The range coder (Martin 1979) has an interval of 64 bits, which needs no
carry. rANS (Duda 2013) codes backwards, and so needs a whole block of decisions.
"""

from typing import Literal, NamedTuple

import numpy as np

from sttx_core.experts.arithmetic import borrowing

TOTAL_BITS = 24
"""Probabilities are multiples of 2^-24, from 1 to 2^24 - 1 of them."""

NOTE, RANGE, RANS = range(3)
"""What is done with a decision: note it, or decode it by one of the coders."""

CoderName = Literal["ac", "rans"]
"""Range coding, which is arithmetic coding in bytes, or rANS; of one block both make nearly the same size."""

MODES: dict[CoderName, int] = {"ac": RANGE, "rans": RANS}
"""What each coder does to decode."""

MOST_BYTES, MORE_BYTES = 4, 16
"""Of a decision, in any coder; and of a block, in addition."""

STATE = 6
"""Numbers that `Coder.state` holds."""

TOTAL = 1 << TOTAL_BITS
_ALL_ONES = np.uint64(2**64 - 1)
_TOP, _BYTE, _BYTE_BITS = np.uint64(56), np.uint64(255), np.uint64(8)
_SHIFT, _PART, _ONE = np.uint64(TOTAL_BITS), np.uint64(TOTAL - 1), np.uint64(1)
_LEAST, _WORD, _LOW32 = np.uint64(1 << 31), np.uint64(32), np.uint64(2**32 - 1)
_LOW, _HIGH, _VALUE, AT, END, NOTED = range(STATE)


class Coder(NamedTuple):
    """Where coding stands.

    Attributes:
        noted: [N] int32, each decision as 2 q + answer, where q 2^-24 is the probability of the answer 1.
        data: the bytes to decode, uint8.
        state: 6 uint64: the range coder's bounds, the value that is decoded, the next byte of ``data`` and
            where its bytes end, and the place of the next decision in ``noted``.
    """

    noted: np.ndarray
    data: np.ndarray
    state: np.ndarray


@borrowing
def coded(part, bit, mode, coder):
    """Note a decision, or return the one that is decoded; ``part`` 2^-24 is the probability of 1."""
    if mode == RANGE:
        return _range_decoded(np.uint64(part), coder.data, coder.state)
    if mode == RANS:
        return _rans_decoded(np.uint64(part), coder.data, coder.state)
    coder.noted[coder.state[NOTED]] = 2 * part + bit
    coder.state[NOTED] += _ONE
    return bit


@borrowing
def _split(low, high, part):
    """Return the greatest value that stands for 1."""
    width = high - low
    return low + (width >> _SHIFT) * part + (((width & _PART) * part) >> _SHIFT)


@borrowing
def _next_byte(data, state):
    """Return the next byte; zeros follow the last one."""
    at = state[AT]
    state[AT] += _ONE
    return np.uint64(data[at]) if at < state[END] else np.uint64(0)


@borrowing
def start_decoding(data, state):
    """Read what a decoder needs at first: 8 bytes, from ``state[AT]`` on."""
    state[_LOW] = state[_VALUE] = 0
    state[_HIGH] = _ALL_ONES
    for _ in range(8):
        state[_VALUE] = state[_VALUE] << _BYTE_BITS | _next_byte(data, state)


@borrowing
def _range_decoded(part, data, state):
    low, high, value = state[_LOW], state[_HIGH], state[_VALUE]
    middle = _split(low, high, part)
    bit = 1 if value <= middle else 0
    if bit:
        high = middle
    else:
        low = middle + _ONE
    while (low ^ high) >> _TOP == 0:
        low, high = low << _BYTE_BITS, high << _BYTE_BITS | _BYTE
        value = value << _BYTE_BITS | _next_byte(data, state)
    state[_LOW], state[_HIGH], state[_VALUE] = low, high, value
    return bit


@borrowing
def range_encode(noted, data):
    """Write the bytes of noted decisions; return how many. ``data`` has room for the most."""
    low, high, size = np.uint64(0), _ALL_ONES, 0
    for decision in noted:
        middle = _split(low, high, np.uint64(decision >> 1))
        if decision & 1:
            high = middle
        else:
            low = middle + _ONE
        while (low ^ high) >> _TOP == 0:
            data[size] = low >> _TOP
            size += 1
            low, high = low << _BYTE_BITS, high << _BYTE_BITS | _BYTE
    if low:
        data[size] = (low >> _TOP) + _ONE
        size += 1
    return size


@borrowing
def _rans_decoded(part, data, state):
    value = state[_VALUE]
    rest = value & _PART
    bit = 1 if rest < part else 0
    if bit:
        value = part * (value >> _SHIFT) + rest
    else:
        value = (_PART + _ONE - part) * (value >> _SHIFT) + rest - part
    if value < _LEAST:
        word = np.uint64(0)
        for _ in range(4):
            word = word << _BYTE_BITS | _next_byte(data, state)
        value = value << _WORD | word
    state[_VALUE] = value
    return bit


@borrowing
def rans_encode(noted, data):
    """Write the bytes of noted decisions to the end of ``data``; return how many."""
    value, at = _LEAST, data.size
    for position in range(noted.size - 1, -1, -1):
        part, bit = np.uint64(noted[position] >> 1), noted[position] & 1
        width = part if bit else _PART + _ONE - part
        if value >= (width << (np.uint64(31 - TOTAL_BITS) + _WORD)):
            at = _write_big(data, at, value & _LOW32, 4)
            value >>= _WORD
        value = ((value // width) << _SHIFT) + value % width + (np.uint64(0) if bit else part)
    return data.size - _write_big(data, at, value, 8)


@borrowing
def _write_big(data, at, value, size):
    """Write a number before a position, the most significant byte first; return where it starts."""
    for _ in range(size):
        at -= 1
        data[at] = value & _BYTE
        value >>= _BYTE_BITS
    return at

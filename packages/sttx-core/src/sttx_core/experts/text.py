"""What precedes the next token in a document: words, lines, kinds of characters and records, byte by byte."""

import numpy as np

from sttx_core.experts.arithmetic import borrowing, hashed
from sttx_core.experts.memory import (
    ABOVE,
    BEYOND,
    BLANK,
    BYTE,
    COLUMN,
    DIGIT,
    EARLIER,
    EARLIEST,
    FIRST,
    FORMER,
    INDENT,
    KIND,
    LINE,
    LINE_BYTES,
    LINE_NUMBER,
    RECORD,
    RUN,
    SHAPE,
    STARTED,
    UPPER,
    WORD,
)

_LINE_END, _TAB, _SPACE, _COLON = 10, 9, 32, 58
_HASHED, _FIRST_HASHED = 6, 3  # bytes at a line's start
_LONGEST_RUN = np.uint64(48)
_LABEL = 13  # a line that follows an empty one and has a colon within so many bytes starts a record
_ONE, _EIGHT = np.uint64(1), np.uint64(8)
_FIVE_BYTES = np.uint64((1 << 40) - 1)


@borrowing
def read_bytes(place, data, start, end, kinds):
    """Follow a token's bytes. ``kinds`` [256] says which bytes belong to words, and what they are."""
    for position in range(start, end):
        byte, kind = np.int64(data[position]), np.int64(kinds[data[position]])
        _read_word(place.words, byte, kind)
        if byte == _LINE_END:
            _end_line(place)
        else:
            _read_line(place, byte)
        place.words[BYTE] = np.uint64(byte)


@borrowing
def _read_word(words, byte, kind):
    value = np.uint64(byte)
    if kind:
        words[WORD] = hashed(words[WORD], value)
        words[KIND] |= np.uint64(kind)
        words[RUN] = min(words[RUN] + _ONE, _LONGEST_RUN)
    else:
        if words[WORD] != 0:
            words[EARLIEST] = words[EARLIER]
            words[EARLIER] = words[WORD]
        words[WORD] = 0
        words[FORMER] = (words[KIND] << _EIGHT | words[RUN]) << _EIGHT | value
        words[KIND] = words[RUN] = 0
        if byte != _SPACE:
            words[EARLIER] = hashed(words[EARLIER], value)
    words[SHAPE] = (words[SHAPE] << _EIGHT | np.uint64(_shape(byte, kind))) & _FIVE_BYTES


@borrowing
def _shape(byte, kind):
    """Return the byte that stands for all of its kind."""
    if kind == 0:
        return byte
    if kind == DIGIT:
        return 48
    if kind == UPPER:
        return 65
    return 128 if kind == BEYOND else 97


@borrowing
def _read_line(place, byte):
    words, column = place.words, place.at[COLUMN]
    value = np.uint64(byte)
    if words[STARTED] == 0:
        if byte in (_SPACE, _TAB):
            words[INDENT] += _ONE
        else:
            words[STARTED] = 1
    if byte == _COLON and words[BLANK] and column < _LABEL:
        words[RECORD] = words[EARLIER]
    if column < LINE_BYTES:
        place.lines[place.at[LINE_NUMBER], column] = byte
    if column < _HASHED:
        words[LINE] = hashed(words[LINE], value)
    if column < _FIRST_HASHED:
        words[FIRST] = hashed(words[FIRST], value)
    place.at[COLUMN] = column + 1


@borrowing
def _end_line(place):
    words = place.words
    words[BLANK] = 1 if place.at[COLUMN] == 0 else 0
    words[ABOVE] = words[LINE]
    words[LINE] = words[FIRST] = words[INDENT] = words[STARTED] = 0
    place.at[COLUMN] = 0
    place.at[LINE_NUMBER] ^= 1
    place.lines[place.at[LINE_NUMBER], :] = 0

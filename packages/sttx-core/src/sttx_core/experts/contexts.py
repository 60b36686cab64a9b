"""The contexts whose counts are kept: hashes of the last tokens, words, lines and structure of a document."""

import numpy as np

from sttx_core.experts.arithmetic import borrowing, hashed
from sttx_core.experts.memory import (
    ABOVE,
    BYTE,
    COLUMN,
    EARLIER,
    EARLIEST,
    FIRST,
    FORMER,
    INDENT,
    KIND,
    LINE,
    LINE_BYTES,
    LINE_NUMBER,
    ORDERS,
    RECENT,
    RECORD,
    RUN,
    SHAPE,
    STARTED,
    TOKENS,
    WORD,
)

_START, _EIGHT = np.uint64(0x1234567), np.uint64(8)


@borrowing
def token_before(place, distance):
    """Return the token so many places back, plus one; 0 before the start of the document."""
    count = place.at[TOKENS]
    if count < distance:
        return np.uint64(0)
    return np.uint64(place.recent[(count - distance) & (RECENT - 1)] + 1)


@borrowing
def find_contexts(place, found):
    """Write the hashes of all contexts: the last tokens, then what `text` follows."""
    run = _START
    found[0] = hashed(run, np.uint64(0))
    for order in range(1, ORDERS):
        run = hashed(run, token_before(place, order))
        found[order] = hashed(run, np.uint64(order))
    words, rest = place.words, found[ORDERS:]
    one, two = hashed(_START, token_before(place, 1)), hashed(_START, token_before(place, 2))
    pair, gap = hashed(words[WORD], words[EARLIER]), hashed(two, token_before(place, 3))
    word_so_far = hashed(_START, words[KIND] << _EIGHT | words[RUN])
    indented = hashed(_START, words[INDENT] << _EIGHT | words[STARTED])
    above = _bytes_above(place)
    rest[0] = pair
    rest[1] = hashed(pair, words[EARLIEST])
    rest[2] = words[WORD]
    rest[3] = gap
    rest[4] = hashed(one, token_before(place, 3))
    rest[5] = hashed(words[FIRST], one)
    rest[6] = hashed(words[LINE], words[ABOVE])
    rest[7] = hashed(gap, token_before(place, 4))
    rest[8] = hashed(word_so_far, words[FORMER])
    rest[9] = hashed(word_so_far, words[BYTE])
    rest[10] = hashed(indented, words[WORD])
    rest[11] = hashed(above, one)
    rest[12] = hashed(above, np.uint64(place.at[COLUMN]))
    rest[13] = hashed(words[RECORD], words[SHAPE])
    for number in range(rest.size):
        rest[number] = hashed(rest[number], np.uint64(ORDERS + number))


@borrowing
def _bytes_above(place):
    """Return a hash of three bytes of the line above, from this column on."""
    line, column, above = place.lines[place.at[LINE_NUMBER] ^ 1], place.at[COLUMN], _START
    for position in range(column, min(column + 3, LINE_BYTES)):
        above = hashed(above, np.uint64(line[position]))
    return above

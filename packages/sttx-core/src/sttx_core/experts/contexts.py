"""The contexts whose counts are kept: hashes of the last tokens, words and lines of a document."""

import numpy as np

from sttx_core.experts.arithmetic import compiled, hashed
from sttx_core.experts.memory import COLUMN, ORDERS, RECENT, TOKENS

WORD, EARLIER, EARLIEST, LINE, ABOVE, FIRST = range(6)
_LINE_END, _SPACE = 10, 32
_LINE_BYTES, _FIRST_BYTES = 6, 3
_START = np.uint64(0x1234567)


@compiled
def token_before(place, distance):
    """Return the token so many places back, plus one; 0 before the start of the document."""
    count = place.at[TOKENS]
    if count < distance:
        return np.uint64(0)
    return np.uint64(place.recent[(count - distance) & (RECENT - 1)] + 1)


@compiled
def find_contexts(place, found):
    """Write the hashes of all contexts: orders 0 to 4, then words, gaps and lines."""
    run = _START
    found[0] = hashed(run, np.uint64(0))
    for order in range(1, ORDERS):
        run = hashed(run, token_before(place, order))
        found[order] = hashed(run, np.uint64(order))
    words = place.words
    one, two = token_before(place, 1), token_before(place, 2)
    three, four = token_before(place, 3), token_before(place, 4)
    pair = hashed(words[WORD], words[EARLIER])
    found[ORDERS] = hashed(pair, np.uint64(11))
    found[ORDERS + 1] = hashed(hashed(pair, words[EARLIEST]), np.uint64(12))
    found[ORDERS + 2] = hashed(words[WORD], np.uint64(13))
    gap = hashed(hashed(_START, two), three)
    found[ORDERS + 3] = hashed(gap, np.uint64(14))
    found[ORDERS + 4] = hashed(hashed(hashed(_START, one), three), np.uint64(15))
    found[ORDERS + 5] = hashed(hashed(words[FIRST], one), np.uint64(16))
    found[ORDERS + 6] = hashed(hashed(words[LINE], words[ABOVE]), np.uint64(17))
    found[ORDERS + 7] = hashed(hashed(gap, four), np.uint64(18))


@compiled
def read_bytes(place, data, start, end, in_words):
    """Follow the words and lines of a token's bytes. ``in_words`` says which bytes belong to words."""
    words = place.words
    for position in range(start, end):
        byte = data[position]
        value = np.uint64(byte)
        if in_words[byte]:
            words[WORD] = hashed(words[WORD], value)
        else:
            if words[WORD] != 0:
                words[EARLIEST] = words[EARLIER]
                words[EARLIER] = words[WORD]
            words[WORD] = 0
            if byte != _SPACE:
                words[EARLIER] = hashed(words[EARLIER], value)
        if byte == _LINE_END:
            words[ABOVE] = words[LINE]
            words[LINE] = words[FIRST] = 0
            place.at[COLUMN] = 0
        else:
            if place.at[COLUMN] < _LINE_BYTES:
                words[LINE] = hashed(words[LINE], value)
            if place.at[COLUMN] < _FIRST_BYTES:
                words[FIRST] = hashed(words[FIRST], value)
            place.at[COLUMN] += 1

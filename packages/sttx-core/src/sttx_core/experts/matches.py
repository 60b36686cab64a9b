"""Matches: where the document's last tokens stood before, and which token came next there.

The history holds pages of tokens; a page belongs to one document, so documents that are read in turns do not
interrupt each other's text. The oldest page is taken over when all are in use.
"""

import numpy as np

from sttx_core.experts.arithmetic import borrowing, hashed, scattered
from sttx_core.experts.memory import (
    LEAST_LENGTHS,
    LENGTH,
    MATCHES,
    MISSED,
    PAGE,
    PAGE_NUMBER,
    POSITION,
    RECENT,
    STAMP,
    TOKENS,
)

MOST_MISSES = 8
"""A match that failed is kept over so many wrong tokens: edited text continues as before."""

_LONGEST = 60
_RECOVERED = 16
_INDEX = np.uint64(40)


@borrowing
def length_class(length):
    """Return 0 to 15: each length up to 8, then wider ranges."""
    if length <= 8:
        return length
    return 10 + (length > 12) + (length >= 16) + (length >= 20) + (length >= 24) + (length >= 32)


@borrowing
def seek(memory, place):
    """Find longer matches, or new ones, for the token that comes next."""
    for model in range(MATCHES):
        match = place.match[model]
        if match[MISSED] > MOST_MISSES:
            drop(match)
        least = LEAST_LENGTHS[model]
        searching = match[POSITION] < 0 or match[LENGTH] < least or match[MISSED] > 0
        if searching and place.at[TOKENS] >= least:
            candidate = memory.latest[model, _key(memory, place, least)]
            length = _common_length(memory, place, candidate) if candidate >= 0 else 0
            if length >= least and (length > match[LENGTH] or match[POSITION] < 0):
                match[POSITION], match[LENGTH], match[MISSED] = candidate, length, 0


@borrowing
def drop(match):
    """Forget a match."""
    match[POSITION], match[LENGTH], match[MISSED] = -1, 0, 0


@borrowing
def append(memory, place, token):
    """Add a token of the document to the history, and move the matches on."""
    position = _next_position(memory, place)
    for model in range(MATCHES):
        if place.at[TOKENS] >= LEAST_LENGTHS[model]:
            memory.latest[model, _key(memory, place, LEAST_LENGTHS[model])] = position
    go_on(memory, place, token)
    memory.history[position] = token
    memory.filled[position // PAGE] += 1


@borrowing
def go_on(memory, place, token):
    """Move the matches on by a token; only ``place`` changes."""
    for model in range(MATCHES):
        match = place.match[model]
        if match[POSITION] < 0:
            continue
        if memory.history[match[POSITION]] == token:
            match[LENGTH] += 1
            if match[LENGTH] > _RECOVERED:
                match[MISSED] = 0
        else:
            match[LENGTH] = 0
            match[MISSED] += 1
        match[POSITION] = _following(memory, match[POSITION])
        if match[POSITION] < 0:
            drop(match)
    place.recent[place.at[TOKENS] & (RECENT - 1)] = token
    place.at[TOKENS] += 1


@borrowing
def _key(memory, place, least):
    """Return where the index keeps the position after the document's last ``least`` tokens."""
    run = np.uint64(least)
    for distance in range(1, least + 1):
        run = hashed(run, np.uint64(place.recent[(place.at[TOKENS] - distance) & (RECENT - 1)]))
    return np.int64(scattered(run) >> _INDEX) & (memory.latest.shape[1] - 1)


@borrowing
def _common_length(memory, place, position):
    """Return how many tokens before a position equal the document's last ones."""
    length = 0
    while length < min(_LONGEST, place.at[TOKENS]):
        if position % PAGE:
            position -= 1
        else:
            page = memory.before[position // PAGE]
            if page < 0:
                break
            position = page * PAGE + PAGE - 1
        if memory.history[position] != place.recent[(place.at[TOKENS] - 1 - length) & (RECENT - 1)]:
            break
        length += 1
    return length


@borrowing
def _following(memory, position):
    """Return the position of the next token in the same document, or -1 if none was read yet."""
    page = position // PAGE
    if position % PAGE < PAGE - 1:
        following = position + 1
    elif memory.after[page] >= 0:
        page = memory.after[page]
        following = page * PAGE
    else:
        return -1
    return following if following % PAGE < memory.filled[page] else -1


@borrowing
def _next_position(memory, place):
    """Return where the document's next token goes; begin a page if its last one is full or taken over."""
    page = place.at[PAGE_NUMBER]
    owned = page >= 0 and memory.stamp[page] == place.at[STAMP]
    if not owned or memory.filled[page] == PAGE:
        fresh = memory.tokens[1] % memory.stamp.size
        _release(memory, fresh)
        if owned and fresh != page:
            memory.before[fresh] = page
            memory.after[page] = fresh
        memory.stamp[fresh] = memory.tokens[1]
        place.at[PAGE_NUMBER], place.at[STAMP] = fresh, memory.tokens[1]
        memory.tokens[1] += 1
        page = fresh
    return page * PAGE + memory.filled[page]


@borrowing
def _release(memory, page):
    """Empty a page and cut it out of the document that it belonged to."""
    before, after = memory.before[page], memory.after[page]
    if before >= 0:
        memory.after[before] = -1
    if after >= 0:
        memory.before[after] = -1
    memory.before[page] = memory.after[page] = -1
    memory.filled[page] = 0

"""All that the experts remember, as arrays: `Memory` for a whole stream, `Place` for one document.

The arrays have fixed sizes and are changed in place. They are all there is to save.
"""

from typing import NamedTuple

import numpy as np

from sttx_core.experts.config import ExpertsConfig

ORDERS = 5
"""Contexts of the last 0 to 4 tokens."""

CONTEXTS = ORDERS + 14
"""And of words, gaps, lines and kinds of characters."""

LEAST_LENGTHS = (16, 6, 2)
"""Each match model's least number of equal tokens."""

MATCHES = len(LEAST_LENGTHS)
INPUTS = -(-(3 + 2 * MATCHES + 2 * CONTEXTS) // 4) * 4
"""Of a decision: the network, a constant, a second network, two of each match model and of each context; and
zeros up to a multiple of four."""

SETS = 8
"""Weight sets of the mixer, each chosen by something else."""

NO_MATCH = MATCHES
LENGTHS, MISSES = 16, 4
"""Classes of a match: by its length, and by its recent misses."""

CONFIDENCES = 24
AGREEMENTS = 2 * LENGTHS * 32
"""Whether a match missed lately, its length, and what the network thinks of its token."""

BANDS = 8
"""Groups of depths, for the set that is chosen by the latest byte."""

MARKED = (2, 3, 4, 5, 6, 11)
"""Contexts of which it matters whether they have a count at a node, for the last set."""

SELECTED = 4096
"""Most rows of the weight sets that are chosen by a node or a token."""

STATES = 512
"""Of a count: two counts of 0 to 15 and the last bit."""

LEVELS = 3
"""Depths whose counts of one context stand together in a slot."""

SLOT = 1 << LEVELS
"""Words of a slot: a check, and a count for each node of so many depths."""

PAGE = 256
"""Tokens of one document that stand together in the history."""

RECENT = 64
"""Latest tokens of a document that contexts and comparisons reach."""

(
    WORD,
    EARLIER,
    EARLIEST,
    LINE,
    FIRST,
    ABOVE,
    KIND,
    RUN,
    FORMER,
    SHAPE,
    RECORD,
    BLANK,
    STARTED,
    INDENT,
    BYTE,
) = range(15)
"""What `Place.words` holds."""

WORDS = BYTE + 1
LINE_BYTES = 256
"""Bytes of a line that the next line's contexts see."""

DIGIT, HEX, LETTER, UPPER, BEYOND = 1, 2, 4, 8, 16
"""Kinds of bytes in words: 0 to 9, a to f, other small letters, capitals, and bytes beyond ASCII."""

_FROM_NETWORK, _FROM_MATCH, _FROM_COUNT = 0.6, (0.12, 0.06), 0.04
"""Weights at the start; of a match's two inputs one each."""


class Memory(NamedTuple):
    """What is shared by all documents of a stream.

    Attributes:
        slots: counts of contexts. Each slot has a check, which is 0 if it is free, and a count for each node
            of three depths: from bit 16 on the last bit, n1 and n0 (1, 4, 4 bits), and an adaptive
            probability (lowest 16 bits). A count of 0 was never made.
        history: tokens, in pages of one document each.
        filled: tokens in each page.
        stamp: number of the document's page, to notice that a page was taken over; -1 is unused.
        before, after: the same document's neighboring pages, or -1.
        latest: for each match model, the latest position after a hash of tokens, or -1.
        states: for each context and state of a count, how often a 1 followed: a probability (upper 22 bits),
            and the number of times, up to a limit (lower 8 bits).
        match_p, match_n: for each match model, class and depth, how often the match was right.
        weights: of the first layer, the sets one after another.
        final: weights of the second layer.
        tokens: number of tokens read, and of pages begun.
    """

    slots: np.ndarray
    history: np.ndarray
    filled: np.ndarray
    stamp: np.ndarray
    before: np.ndarray
    after: np.ndarray
    latest: np.ndarray
    states: np.ndarray
    match_p: np.ndarray
    match_n: np.ndarray
    weights: np.ndarray
    final: np.ndarray
    tokens: np.ndarray


class Place(NamedTuple):
    """Where reading stands in one document.

    Attributes:
        recent: the latest tokens, a ring.
        words: hashes of the text just before.
        match: for each match model, a position in the history or -1, its length and its misses.
        at: number of tokens, page, the page's stamp, column, and which of ``lines`` is this one.
        lines: bytes of this line and of the line above.
    """

    recent: np.ndarray
    words: np.ndarray
    match: np.ndarray
    at: np.ndarray
    lines: np.ndarray


TOKENS, PAGE_NUMBER, STAMP, COLUMN, LINE_NUMBER = range(5)
POSITION, LENGTH, MISSED = range(3)


def new_memory(vocab_size: int, depth: int, config: ExpertsConfig) -> Memory:
    """Return the memory of experts that have read nothing."""
    pages = (1 << config.history_bits) // PAGE
    counts = np.arange(STATES) >> 1
    n0, n1 = counts >> 4, counts & 15
    weights = np.full((first_rows(vocab_size, depth)[-1], INPUTS), _FROM_COUNT, np.float32)
    weights[:, 3 : 3 + 2 * MATCHES] = _FROM_MATCH * MATCHES
    weights[:, :3] = _FROM_NETWORK, 0.0, 0.0
    return Memory(
        slots=aligned(1 << config.slot_bits),
        history=np.zeros(pages * PAGE, np.int32),
        filled=np.zeros(pages, np.int32),
        stamp=np.full(pages, -1, np.int64),
        before=np.full(pages, -1, np.int32),
        after=np.full(pages, -1, np.int32),
        latest=np.full((MATCHES, 1 << config.index_bits), -1, np.int32),
        states=np.tile(((n1 + 0.4) / (n0 + n1 + 0.8) * 2**22).astype(np.int32) << 8, (CONTEXTS, 1)),
        match_p=np.full((MATCHES, LENGTHS * MISSES, depth), 0.75, np.float32),
        match_n=np.zeros((MATCHES, LENGTHS * MISSES, depth), np.int32),
        weights=weights,
        final=np.full((depth * LENGTHS * 2, SETS), 1 / SETS, np.float32),
        tokens=np.zeros(2, np.int64),
    )


def first_rows(vocab_size: int, depth: int) -> np.ndarray:
    """Return where each weight set starts, and the number of all rows."""
    by_match, by_order, by_network = depth * (MATCHES + 1) * LENGTHS, depth * LENGTHS, depth * CONFIDENCES * 2
    by_node, by_token = min(1 << depth, SELECTED), min(vocab_size + 1, SELECTED)
    sizes = by_match, by_order, by_node, by_token, by_network, AGREEMENTS, 256 * BANDS, depth << len(MARKED)
    return np.cumsum([0, *sizes])


def aligned(slots: int) -> np.ndarray:
    """Return [slots, SLOT] zeros, of which none stands in two lines of the processor's cache."""
    words = np.zeros(slots * SLOT + 16, np.int32)
    start = -words.ctypes.data % 64 // 4
    return words[start : start + slots * SLOT].reshape(slots, SLOT)


def new_place() -> Place:
    """Return the start of a document."""
    match = np.zeros((MATCHES, 3), np.int32)
    match[:, POSITION] = -1
    return Place(
        recent=np.zeros(RECENT, np.int32),
        words=np.zeros(WORDS, np.uint64),
        match=match,
        at=np.array([0, -1, -1, 0, 0]),
        lines=np.zeros((2, LINE_BYTES), np.uint8),
    )


def new_places(count: int) -> Place:
    """Return the starts of so many documents; each array has one axis more, the first."""
    return Place(*(np.stack([array] * count) for array in new_place()))


def bounds(memory: Memory, vocab_size: int) -> dict[str, tuple[float, float]]:
    """Return the least and greatest value of each array that is used as positions or probabilities."""
    pages, size = memory.stamp.size, memory.history.size
    return {
        "history": (0, vocab_size - 1),
        "filled": (0, PAGE),
        "stamp": (-1, 2**62),
        "before": (-1, pages - 1),
        "after": (-1, pages - 1),
        "latest": (-1, size - 1),
        "states": (0, 2**30 - 1),
        "match_p": (0, 1),
        "match_n": (0, 2**20),
        "weights": (-1e6, 1e6),
        "final": (-1e6, 1e6),
        "tokens": (0, 2**62),
        "recent": (0, vocab_size - 1),
        "match": (-1, size - 1),
    }

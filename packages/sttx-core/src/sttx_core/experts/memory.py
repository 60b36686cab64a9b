"""All that the experts remember, as arrays: `Memory` for a whole stream, `Place` for one document.

The arrays have fixed sizes and are changed in place. They are all there is to save.
"""

from typing import NamedTuple

import numpy as np

from sttx_core.experts.config import ExpertsConfig

ORDERS = 5
"""Contexts of the last 0 to 4 tokens."""

CONTEXTS = ORDERS + 8
"""And eight of words, lines and gaps."""

LEAST_LENGTHS = (20, 7, 3)
"""Each match model's least number of equal tokens."""

MATCHES = len(LEAST_LENGTHS)
INPUTS = 3 + 2 * MATCHES + 2 * CONTEXTS
"""Of a decision: the network, a constant, a second network, two of each match model and of each context."""

SETS = 5
"""Weight sets of the mixer, each chosen by something else."""

NO_MATCH = MATCHES
LENGTHS, MISSES = 16, 4
"""Classes of a match: by its length, and by its recent misses."""

CONFIDENCES = 24
SELECTED = 4096
"""Most rows of the weight sets that are chosen by a node or a token."""

STATES = 512
"""Of a count: two counts of 0 to 15 and the last bit."""

PAGE = 256
"""Tokens of one document that stand together in the history."""

RECENT = 64
"""Latest tokens of a document that contexts and comparisons reach."""

WORDS = 6
"""Hashes: the word, two words before it, the line, the line above, and the line's first bytes."""


class Memory(NamedTuple):
    """What is shared by all documents of a stream.

    Attributes:
        slots: counts of contexts. Each uint64 has a check (16 bits), then from bit 16 on last bit, n1, n0
            (1, 4, 4 bits), and an adaptive probability (lowest 16 bits). Zero is free.
        history: tokens, in pages of one document each.
        filled: tokens in each page.
        stamp: number of the document's page, to notice that a page was taken over; -1 is unused.
        before, after: the same document's neighboring pages, or -1.
        latest: for each match model, the latest position after a hash of tokens, or -1.
        state_p, state_n: for each context, depth and state of a count, how often a 1 followed.
        match_p, match_n: for each match model, class and depth, how often the match was right.
        weights: of the first layer, the sets one after another.
        first_row: where each set starts.
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
    state_p: np.ndarray
    state_n: np.ndarray
    match_p: np.ndarray
    match_n: np.ndarray
    weights: np.ndarray
    first_row: np.ndarray
    final: np.ndarray
    tokens: np.ndarray


class Place(NamedTuple):
    """Where reading stands in one document.

    Attributes:
        recent: the latest tokens, a ring.
        words: hashes of the text just before.
        match: for each match model, a position in the history or -1, its length and its misses.
        at: number of tokens, page, the page's stamp, and column.
    """

    recent: np.ndarray
    words: np.ndarray
    match: np.ndarray
    at: np.ndarray


TOKENS, PAGE_NUMBER, STAMP, COLUMN = range(4)
POSITION, LENGTH, MISSED = range(3)


def new_memory(vocab_size: int, depth: int, config: ExpertsConfig) -> Memory:
    """Return the memory of experts that have read nothing."""
    pages = (1 << config.history_bits) // PAGE
    counts = np.arange(STATES) >> 1
    n0, n1 = counts >> 4, counts & 15
    nodes, latest = min(1 << depth, SELECTED), min(vocab_size + 1, SELECTED)
    by_match, by_order, by_network = depth * (MATCHES + 1) * LENGTHS, depth * LENGTHS, depth * CONFIDENCES * 2
    first_row = np.cumsum([0, by_match, by_order, nodes, latest, by_network])
    weights = np.full((first_row[-1], INPUTS), 0.06, np.float32)
    weights[:, :3] = 0.6, 0.0, 0.0
    return Memory(
        slots=np.zeros(1 << config.slot_bits, np.uint64),
        history=np.zeros(pages * PAGE, np.int32),
        filled=np.zeros(pages, np.int32),
        stamp=np.full(pages, -1, np.int64),
        before=np.full(pages, -1, np.int32),
        after=np.full(pages, -1, np.int32),
        latest=np.full((MATCHES, 1 << config.index_bits), -1, np.int32),
        state_p=np.tile(((n1 + 0.4) / (n0 + n1 + 0.8)).astype(np.float32), (CONTEXTS, depth, 1)),
        state_n=np.zeros((CONTEXTS, depth, STATES), np.int32),
        match_p=np.full((MATCHES, LENGTHS * MISSES, depth), 0.75, np.float32),
        match_n=np.zeros((MATCHES, LENGTHS * MISSES, depth), np.int32),
        weights=weights,
        first_row=first_row.astype(np.int64),
        final=np.full((depth * LENGTHS * 2, SETS), 1 / SETS, np.float32),
        tokens=np.zeros(2, np.int64),
    )


def new_place() -> Place:
    """Return the start of a document."""
    match = np.zeros((MATCHES, 3), np.int32)
    match[:, POSITION] = -1
    return Place(np.zeros(RECENT, np.int32), np.zeros(WORDS, np.uint64), match, np.array([0, -1, -1, 0]))


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
        "state_p": (0, 1),
        "state_n": (0, 2**20),
        "match_p": (0, 1),
        "match_n": (0, 2**20),
        "weights": (-1e6, 1e6),
        "final": (-1e6, 1e6),
        "tokens": (0, 2**62),
        "recent": (0, vocab_size - 1),
        "match": (-1, size - 1),
    }

"""The loops over tokens: what each costs along its path of decisions, and learning it."""

from typing import NamedTuple

import numpy as np

from sttx_core.experts.arithmetic import BITS, borrowing, log
from sttx_core.experts.contexts import find_contexts, token_before
from sttx_core.experts.counts import find_slots, learn_counts
from sttx_core.experts.decisions import is_clipped, learn_mixer, network_input, predict, slope
from sttx_core.experts.masses import find_masses
from sttx_core.experts.matches import append, go_on, length_class, seek
from sttx_core.experts.memory import (
    BYTE,
    CONTEXTS,
    INPUTS,
    LENGTH,
    LENGTHS,
    LEVELS,
    MATCHES,
    MISSED,
    MISSES,
    POSITION,
    SETS,
    first_rows,
)
from sttx_core.experts.text import read_bytes

FALL = 250.0
"""Tokens over which the first rate falls."""


class Vocabulary(NamedTuple):
    """The tokens, sorted by their bytes.

    Attributes:
        order: ids in that order.
        rank: position of each id in it.
        data, start: the bytes of all ids one after another, and where each id's start.
        kinds: of each byte what it is in a word, or 0.
    """

    order: np.ndarray
    rank: np.ndarray
    data: np.ndarray
    start: np.ndarray
    kinds: np.ndarray


class Rates(NamedTuple):
    """Learning rates: of the first layer, in addition at the start, of the second layer; and the limit."""

    first: float
    extra: float
    final: float
    limit: int


class Seen(NamedTuple):
    """What is known before a token: hashes of contexts, and the ranks that the matches expect (-1: none)."""

    contexts: np.ndarray
    ranks: np.ndarray
    classes: np.ndarray
    length: np.ndarray
    last: np.ndarray
    byte: np.ndarray


class Work(NamedTuple):
    """Arrays to work in.

    Attributes:
        inputs, states, outputs, chosen, p, decided: what `predict` leaves for learning, by depth: inputs,
            states of counts, the mixer's sums and rows, the price, and whether there is a decision.
        keys, checks, found: where counts belong and where they are, by level of `LEVELS` depths and context.
        first_rows: where each weight set starts.
        mass, beside: the network's and the second network's probability of each node (`find_masses`).
        powers: for `find_masses`.
    """

    inputs: np.ndarray
    states: np.ndarray
    outputs: np.ndarray
    chosen: np.ndarray
    p: np.ndarray
    decided: np.ndarray
    keys: np.ndarray
    checks: np.ndarray
    found: np.ndarray
    first_rows: np.ndarray
    mass: np.ndarray
    beside: np.ndarray
    powers: np.ndarray


def new_seen() -> Seen:
    """Return arrays for one token."""
    contexts = np.zeros(CONTEXTS, np.uint64)
    return Seen(contexts, *(np.zeros(size, np.int64) for size in (MATCHES, MATCHES, 1, 1, 1)))


def new_work(vocab_size: int, depth: int) -> Work:
    """Return arrays for one token of that many decisions."""
    levels = -(-depth // LEVELS)
    return Work(
        inputs=np.zeros((depth, INPUTS), np.float32),
        states=np.zeros((depth, CONTEXTS), np.int64),
        outputs=np.zeros((depth, SETS)),
        chosen=np.zeros((depth, SETS + 1), np.int64),
        p=np.zeros(depth),
        decided=np.zeros(depth, np.bool_),
        keys=np.zeros((levels, CONTEXTS), np.int64),
        checks=np.zeros((levels, CONTEXTS), np.int32),
        found=np.zeros((levels, CONTEXTS), np.int64),
        first_rows=first_rows(vocab_size, depth),
        mass=np.zeros(2 << depth, np.float32),
        beside=np.zeros(2 << depth, np.float32),
        powers=np.zeros(vocab_size, np.int32),
    )


@borrowing
def read_tokens(memory, place, vocabulary, says, beside, ids, rates, seen, work, bits, slopes):
    """Price each token, learn it, and go on to the next.

    ``says`` [T, V] float32 are the network's natural log-probabilities, ``beside`` those of a second network,
    or [0, V] if there is none. ``bits`` [T] receives the prices of ``ids`` [T], ``slopes`` [T, depth] their
    derivatives by the network's inputs, unless it is [T, 0]. ``seen`` and ``work`` are arrays to work in.
    """
    for step in range(ids.size):
        token = ids[step]
        rank = vocabulary.rank[token]
        find_masses(says[step], vocabulary.order, work.powers, work.mass)
        if beside.shape[0]:
            find_masses(beside[step], vocabulary.order, work.powers, work.beside)
        look(memory, place, vocabulary, seen)
        rate = rates.first + rates.extra / (1.0 + memory.tokens[0] / FALL)
        bits[step] = price_path(memory, seen, beside.shape[0] > 0, rank, vocabulary.rank.size, work)
        if slopes.shape[1]:
            find_slopes(memory, rank, work, slopes[step])
        learn_path(memory, seen, rank, rate, rates, work)
        append(memory, place, token)
        start, end = vocabulary.start[token], vocabulary.start[token + 1]
        read_bytes(place, vocabulary.data, start, end, vocabulary.kinds)
        memory.tokens[0] += 1


@borrowing
def follow_tokens(memory, place, vocabulary, ids, seen):
    """Go on to after the tokens without learning them; only ``place`` changes."""
    for step in range(ids.size):
        token = ids[step]
        look(memory, place, vocabulary, seen)
        go_on(memory, place, token)
        read_bytes(
            place,
            vocabulary.data,
            vocabulary.start[token],
            vocabulary.start[token + 1],
            vocabulary.kinds,
        )


@borrowing
def look(memory, place, vocabulary, seen):
    """Find the contexts and matches of the next token."""
    find_contexts(place, seen.contexts)
    seek(memory, place)
    seen.length[0] = 0
    seen.last[0] = token_before(place, 1)
    seen.byte[0] = place.words[BYTE] & np.uint64(255)
    for model in range(MATCHES):
        match = place.match[model]
        length = length_class(match[LENGTH])
        seen.classes[model] = length + LENGTHS * min(match[MISSED], MISSES - 1)
        seen.ranks[model] = -1
        if match[POSITION] >= 0:
            seen.ranks[model] = vocabulary.rank[memory.history[match[POSITION]]]
            seen.length[0] = max(seen.length[0], length)


@borrowing
def price_path(memory, seen, two, rank, size, work):
    """Return the bits of the token with this rank: those of the decisions that lead to it."""
    depths = work.p.size
    leaf = rank | 1 << depths
    for level in range(work.found.shape[0]):
        find_slots(memory, seen, level, leaf >> (depths - LEVELS * level), work)
    low, high, probability = 0, 1 << depths, 1.0
    for depth in range(depths):
        middle = (low + high) >> 1
        right = rank >= middle
        work.decided[depth] = middle < size
        if middle < size:
            node = leaf >> (depths - depth)
            p = node_probability(memory, seen, two, depth, node, low, middle, high, work)
            work.p[depth] = p
            probability *= p if right else 1.0 - p
        low, high = (middle, high) if right else (low, middle)
    return -log(probability) * BITS


@borrowing
def find_slopes(memory, rank, work, slopes):
    """Write the derivative of the bits of each decision that `price_path` priced by the network's input."""
    depths = work.p.size
    leaf = rank | 1 << depths
    for depth in range(depths):
        node, bit = leaf >> (depths - depth), (leaf >> (depths - depth - 1)) & 1
        slopes[depth] = 0.0
        if work.decided[depth] and not is_clipped(*halves(work.mass, node)):
            slopes[depth] = slope(memory, depth, bit, work.p[depth], work)


@borrowing
def learn_path(memory, seen, rank, rate, rates, work):
    """Learn the decisions that `price_path` priced."""
    depths = work.p.size
    low, high = 0, 1 << depths
    for depth in range(depths):
        middle = (low + high) >> 1
        bit = 1 if rank >= middle else 0
        if work.decided[depth]:
            learn_mixer(memory, seen, depth, low, middle, high, bit, work.p[depth], rate, rates, work)
        low, high = (middle, high) if bit else (low, middle)
    for level in range(work.found.shape[0]):
        learn_counts(memory, level, rank | 1 << depths, depths, rates, work)


@borrowing
def node_probability(memory, seen, two, depth, node, low, middle, high, work):
    """Return the probability of a node's right half, from masses and slots that have been found."""
    first = network_input(*halves(work.mass, node))
    second = network_input(*halves(work.beside, node)) if two else 0.0
    return predict(memory, seen, depth, node, low, middle, high, first, second, work)


@borrowing
def halves(mass, node):
    """Return the masses of a node's halves."""
    return np.float64(mass[2 * node]), np.float64(mass[2 * node + 1])

"""The loops over tokens: what each costs along its path of decisions, and what all tokens would cost."""

from typing import NamedTuple

import numpy as np

from sttx_core.experts.arithmetic import compiled, log
from sttx_core.experts.contexts import find_contexts, read_bytes, token_before
from sttx_core.experts.decisions import learn, network_input, predict
from sttx_core.experts.matches import append, length_class, seek
from sttx_core.experts.memory import (
    CONTEXTS,
    INPUTS,
    LENGTH,
    LENGTHS,
    MATCHES,
    MISSED,
    MISSES,
    POSITION,
    SETS,
)

_BITS = 1.4426950408889634  # per nat
_FALL = 250.0  # tokens over which the first rate falls


class Vocabulary(NamedTuple):
    """The tokens, sorted by their bytes.

    Attributes:
        rank: position of each id in that order.
        data, start: the bytes of all ids one after another, and where each id's start.
        in_words: which bytes belong to words.
    """

    rank: np.ndarray
    data: np.ndarray
    start: np.ndarray
    in_words: np.ndarray


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


class Work(NamedTuple):
    """What `predict` leaves for `learn`, by depth: inputs, where each count is, and the mixer's sums."""

    inputs: np.ndarray
    keys: np.ndarray
    checks: np.ndarray
    states: np.ndarray
    outputs: np.ndarray
    chosen: np.ndarray
    p: np.ndarray


def new_seen() -> Seen:
    """Return arrays for one token."""
    contexts = np.zeros(CONTEXTS, np.uint64)
    return Seen(contexts, *(np.zeros(size, np.int64) for size in (MATCHES, MATCHES, 1, 1)))


def new_work(depth: int) -> Work:
    """Return arrays for one path of that many decisions."""
    return Work(
        inputs=np.zeros((depth, INPUTS)),
        keys=np.zeros((depth, CONTEXTS), np.int64),
        checks=np.zeros((depth, CONTEXTS), np.uint64),
        states=np.zeros((depth, CONTEXTS), np.int64),
        outputs=np.zeros((depth, SETS)),
        chosen=np.zeros((depth, SETS + 1), np.int64),
        p=np.zeros(depth),
    )


@compiled
def sum_up(probabilities, order, mass):
    """Write the probability of all ranks before each one: [T, V] by id into [T, V+1] by rank."""
    for step in range(probabilities.shape[0]):
        total = 0.0
        for rank in range(order.size):
            total += probabilities[step, order[rank]]
            mass[step, rank + 1] = total


@compiled
def read_tokens(memory, place, vocabulary, mass, beside, ids, rates, seen, work, bits):
    """Price each token, learn it, and go on to the next.

    ``mass`` [T, V+1] is the network's probability of all ranks before each one, ``beside`` the same of a
    second network, or [T, 1] if there is none. ``bits`` [T] receives the prices of ``ids`` [T]. ``seen`` and
    ``work`` are arrays to work in.
    """
    for step in range(ids.size):
        token = ids[step]
        look(memory, place, vocabulary, seen)
        rate = rates.first + rates.extra / (1.0 + memory.tokens[0] / _FALL)
        bits[step] = price_path(memory, seen, mass[step], beside[step], vocabulary.rank[token], work)
        learn_path(memory, seen, mass.shape[1] - 1, vocabulary.rank[token], rate, rates, work)
        append(memory, place, token)
        start, end = vocabulary.start[token], vocabulary.start[token + 1]
        read_bytes(place, vocabulary.data, start, end, vocabulary.in_words)
        memory.tokens[0] += 1


@compiled
def look(memory, place, vocabulary, seen):
    """Find the contexts and matches of the next token."""
    find_contexts(place, seen.contexts)
    seek(memory, place)
    seen.length[0] = 0
    seen.last[0] = token_before(place, 1)
    for model in range(MATCHES):
        match = place.match[model]
        length = length_class(match[LENGTH])
        seen.classes[model] = length + LENGTHS * min(match[MISSED], MISSES - 1)
        seen.ranks[model] = -1
        if match[POSITION] >= 0:
            seen.ranks[model] = vocabulary.rank[memory.history[match[POSITION]]]
            seen.length[0] = max(seen.length[0], length)


@compiled
def price_path(memory, seen, mass, beside, rank, work):
    """Return the bits of the token with this rank: the sum over the decisions that lead to it."""
    size, depths = mass.size - 1, work.p.size
    low, high, node, bits = 0, 1 << depths, 1, 0.0
    for depth in range(depths):
        middle = (low + high) >> 1
        right = rank >= middle
        if middle < size:
            p = _probability(memory, seen, mass, beside, depth, node, low, middle, high, work)
            work.p[depth] = p
            bits -= log(p if right else 1.0 - p) * _BITS
        low, high, node = (middle, high, 2 * node + 1) if right else (low, middle, 2 * node)
    return bits


@compiled
def learn_path(memory, seen, size, rank, rate, rates, work):
    """Learn the decisions that `price_path` priced."""
    depths = work.p.size
    low, high = 0, 1 << depths
    for depth in range(depths):
        middle = (low + high) >> 1
        right = rank >= middle
        if middle < size:
            bit = 1 if right else 0
            learn(memory, seen, depth, low, middle, high, bit, work.p[depth], rate, rates, work)
        low, high = (middle, high) if right else (low, middle)


@compiled
def price_every(memory, place, vocabulary, mass, beside, seen, work, bits):
    """Write the bits of every rank, each the same sum as `price_path` gives. Only ``place`` may change."""
    look(memory, place, vocabulary, seen)
    size, depths = mass.size - 1, work.p.size
    of_node = np.zeros(2 << depths)
    for node in range(1, 1 << depths):
        depth = 0
        while node >> (depth + 1):
            depth += 1
        width = 1 << (depths - depth)
        low = (node - (1 << depth)) * width
        middle = low + width // 2
        if low >= size:
            continue
        of_node[2 * node] = of_node[2 * node + 1] = of_node[node]
        if middle < size:
            p = _probability(memory, seen, mass, beside, depth, node, low, middle, low + width, work)
            of_node[2 * node] -= log(1.0 - p) * _BITS
            of_node[2 * node + 1] -= log(p) * _BITS
    bits[:] = of_node[1 << depths : (1 << depths) + size]


@compiled
def _probability(memory, seen, mass, beside, depth, node, low, middle, high, work):
    size = mass.size - 1
    end = min(high, size)
    second = 0.0
    if beside.size > 1:
        second = network_input(beside[middle] - beside[low], beside[end] - beside[middle])
    first = network_input(mass[middle] - mass[low], mass[end] - mass[middle])
    return predict(memory, seen, depth, node, low, middle, high, first, second, work)

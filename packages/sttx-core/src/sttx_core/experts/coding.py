"""Coding driven by the experts: tokens become decisions with probabilities, and decisions the same tokens.

The decoder learns what the encoder learned, because one loop serves both: at each decision it either notes
the answer and its probability, or takes the answer from the bytes (`coders`). Knows nothing of files.
"""

import numpy as np

from sttx_core.experts.arithmetic import borrowing
from sttx_core.experts.coders import NOTE, TOTAL, Coder, coded
from sttx_core.experts.counts import find_slots
from sttx_core.experts.decisions import network_input, predict
from sttx_core.experts.masses import find_masses
from sttx_core.experts.matches import append
from sttx_core.experts.memory import LEVELS, Place
from sttx_core.experts.reading import FALL, halves, learn_path, look
from sttx_core.experts.text import read_bytes


@borrowing
def find_inputs(says, order, work, inputs):
    """Write the network's input at each node that decides, from its log-probabilities [V]."""
    find_masses(says, order, work.powers, work.mass)
    for node in range(1, work.mass.size // 2):
        left, right = np.float64(work.mass[2 * node]), np.float64(work.mass[2 * node + 1])
        inputs[node] = network_input(left, right)


@borrowing
def code_tokens(memory, places, vocabulary, inputs, says, beside, ids, rates, seen, work, mode, coder):
    """Code the next tokens of each row in turn, learn them, and go on.

    Args:
        memory: `Memory`, which all rows share.
        places: `Place` of all rows: each array has one axis more, the first.
        vocabulary: `Vocabulary`.
        inputs: [2^depth] the network's input at each node, the same for each token, if there is no network.
        says: [B, V or more] float32 logits of each row's next token by the network, or [0, V]. They are
            overwritten.
        beside: those of a second network, or [0, V].
        ids: [T, B] int64, coded with the mode `NOTE`, and otherwise decoded. T is 1 if there is a network.
        rates: `Rates`.
        seen: array to work in.
        work: arrays to work in.
        mode: what is done with a decision.
        coder: `Coder`, with a state of each row.
    """
    networks = min(says.shape[0], 1) + min(beside.shape[0], 1)
    for step in range(ids.shape[0]):
        for row in range(ids.shape[1]):
            if networks:
                masses_of_logits(says[row], vocabulary.order, work.powers, work.mass)
            if networks == 2:
                masses_of_logits(beside[row], vocabulary.order, work.powers, work.beside)
            place = Place(
                places.recent[row], places.words[row], places.match[row], places.at[row], places.lines[row]
            )
            of_row = Coder(coder.noted, coder.data, coder.state[row])
            ids[step, row] = _code_token(
                memory, place, vocabulary, networks, inputs, ids[step, row], rates, seen, work, mode, of_row
            )


@borrowing
def masses_of_logits(logits, order, powers, mass):
    """Write the mass of each node, in relation to that of the most probable token."""
    most = logits[0]
    for token in range(order.size):
        most = max(most, logits[token])
    for token in range(order.size):
        logits[token] -= most
    find_masses(logits, order, powers, mass)


@borrowing
def _code_token(memory, place, vocabulary, networks, inputs, token, rates, seen, work, mode, coder):
    """Code a token or decode it, learn it, and go on to the next; return it."""
    look(memory, place, vocabulary, seen)
    rate = rates.first + rates.extra / (1.0 + memory.tokens[0] / FALL)
    rank = vocabulary.rank[token] if mode == NOTE else 0
    rank = _code_path(memory, seen, networks, inputs, rank, vocabulary.rank.size, work, mode, coder)
    learn_path(memory, seen, rank, rate, rates, work)
    token = np.int64(vocabulary.order[rank])
    append(memory, place, token)
    start, end = vocabulary.start[token], vocabulary.start[token + 1]
    read_bytes(place, vocabulary.data, start, end, vocabulary.kinds)
    memory.tokens[0] += 1
    return token


@borrowing
def _code_path(memory, seen, networks, inputs, rank, size, work, mode, coder):
    """Code the decisions that lead to a token; return its rank.

    The masses of so many networks are in ``work``; without any, ``inputs`` has the input at each node.
    """
    depths = work.p.size
    low, high, node = 0, 1 << depths, 1
    for depth in range(depths):
        middle = (low + high) >> 1
        work.decided[depth] = middle < size
        right = 0
        if depth % LEVELS == 0:
            find_slots(memory, seen, depth // LEVELS, node, work)
        if middle < size:
            first = network_input(*halves(work.mass, node)) if networks else inputs[node]
            second = network_input(*halves(work.beside, node)) if networks == 2 else 0.0
            p = predict(memory, seen, depth, node, low, middle, high, first, second, work)
            work.p[depth] = p
            part = min(max(np.int64(p * TOTAL), 1), TOTAL - 1)
            right = coded(part, 1 if rank >= middle else 0, mode, coder)
        node = 2 * node + right
        low, high = (middle, high) if right else (low, middle)
    return low

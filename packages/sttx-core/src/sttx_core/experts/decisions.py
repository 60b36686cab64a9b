"""One binary decision: what all experts say, mixed into a probability, and what they learn from the answer.

The mixer is that of PAQ's successors: logistic mixing of stretched probabilities by several weight sets, each
chosen by another context, and a second layer over their outputs (Mahoney 2005, "Adaptive weighing of context
models for lossless data compression"). A count is a pair of small integers with the latest bit; what a state
of such a pair means is itself learned, for each context and depth.
"""

import numpy as np

from sttx_core.experts.arithmetic import LIMIT, compiled, hashed, scattered, squash, stretch, within
from sttx_core.experts.memory import (
    CONFIDENCES,
    CONTEXTS,
    INPUTS,
    LENGTHS,
    MATCHES,
    NO_MATCH,
    ORDERS,
    SETS,
)

_CONSTANT = 0.3
_UNSURE = 1e-6  # no probability of the network counts as more certain
_RARE = 1e-4  # nor one of a count or a match
_MOST = 14.0
_BUCKET = 4
_FRESH = np.uint64(32768)
_BIT16, _BIT32, _BIT8 = np.uint64(16), np.uint64(32), np.uint64(8)
_LOW16, _STATE = np.uint64(0xFFFF), np.uint64(511)
_ONE = np.uint64(1)
_RATES = np.array([2 * 65536 // (2 * count + 3) for count in range(31)])
"""1 / (count + 1.5), in 65536ths."""


@compiled
def network_input(left, right):
    """Return the stretched probability of the right half from the masses of both."""
    mass = left + right
    return stretch(within(right / mass if mass > 1e-30 else 0.5, _UNSURE, 1 - _UNSURE))


@compiled
def predict(memory, seen, depth, node, low, middle, high, first, second, work):
    """Return the probability that the token stands in the right half of a node.

    The root is node 1 at depth 0. Ranks of the left half are from ``low`` to ``middle``, those of the right
    up to ``high``. ``first`` and ``second`` are inputs of networks (`network_input`), 0 if there is none.
    ``work`` receives what `learn` needs; nothing else changes.
    """
    inputs, outputs, chosen = work.inputs[depth], work.outputs[depth], work.chosen[depth]
    inputs[0], inputs[1], inputs[2] = first, _CONSTANT, second
    matched = _match_inputs(memory, seen, depth, low, middle, high, inputs)
    longest = _count_inputs(memory, seen, depth, node, inputs, work)
    matching = matched < NO_MATCH
    rows = memory.first_row
    chosen[0] = rows[0] + (depth * (MATCHES + 1) + matched) * LENGTHS + (seen.length[0] if matching else 0)
    chosen[1] = rows[1] + depth * LENGTHS + longest
    chosen[2] = rows[2] + node % (rows[3] - rows[2])
    chosen[3] = rows[3] + seen.last[0] % (rows[4] - rows[3])
    chosen[4] = (
        rows[4] + (depth * CONFIDENCES + min(np.int64(2 * abs(first)), CONFIDENCES - 1)) * 2 + matching
    )
    chosen[5] = (depth * LENGTHS + longest) * 2 + matching
    total = 0.0
    for part in range(SETS):
        output = 0.0
        row = chosen[part]
        for number in range(INPUTS):
            output += memory.weights[row, number] * inputs[number]
        outputs[part] = within(output, -_MOST, _MOST)
        total += memory.final[chosen[5], part] * outputs[part]
    return within(squash(within(total, -_MOST, _MOST)), LIMIT, 1 - LIMIT)


@compiled
def _match_inputs(memory, seen, depth, low, middle, high, inputs):
    """Write two inputs of each match model; return the first model whose token is below the node."""
    matched = NO_MATCH
    for model in range(MATCHES):
        at = 3 + 2 * model
        inputs[at] = inputs[at + 1] = 0.0
        rank = seen.ranks[model]
        if low <= rank < high:
            right = memory.match_p[model, seen.classes[model], depth]
            sign = 1.0 if rank >= middle else -1.0
            inputs[at] = sign * stretch(within(right, _RARE, 1 - _RARE))
            inputs[at + 1] = sign * 2 * (right - 0.5)
            matched = min(matched, model)
    return matched


@compiled
def _count_inputs(memory, seen, depth, node, inputs, work):
    """Write two inputs of each context that has a count here; return the highest such order."""
    longest = 0
    for context in range(CONTEXTS):
        at = 3 + 2 * MATCHES + 2 * context
        inputs[at] = inputs[at + 1] = 0.0
        key, check = _slot(memory, seen.contexts[context], node)
        work.keys[depth, context], work.checks[depth, context] = key, check
        work.states[depth, context] = -1
        for other in range(_BUCKET):
            slot = memory.slots[key ^ other]
            if slot >> _BIT32 == check:
                state = np.int64((slot >> _BIT16) & _STATE)
                work.states[depth, context] = state
                inputs[at] = stretch(within(memory.state_p[context, depth, state], _RARE, 1 - _RARE))
                inputs[at + 1] = 2 * (np.int64(slot & _LOW16) / 65536 - 0.5)
                if 0 < context < ORDERS:
                    longest = context
                break
    return longest


@compiled
def learn(memory, seen, depth, low, middle, high, bit, p, rate, rates, work):
    """Learn the answer of a decision that `predict` priced at p; nothing may have been learned in between."""
    _learn_weights(memory, depth, bit, p, rate, rates.final, work)
    for model in range(MATCHES):
        rank = seen.ranks[model]
        if low <= rank < high:
            at = model, seen.classes[model], depth
            hit = 1.0 if (rank >= middle) == (bit == 1) else 0.0
            memory.match_p[at] += (hit - memory.match_p[at]) / (memory.match_n[at] + 1.5)
            memory.match_n[at] = min(memory.match_n[at] + 1, 2 * rates.limit)
    for context in range(CONTEXTS):
        if work.states[depth, context] >= 0:
            state = context, depth, work.states[depth, context]
            memory.state_p[state] += (bit - memory.state_p[state]) / (memory.state_n[state] + 1.5)
            memory.state_n[state] = min(memory.state_n[state] + 1, 4 * rates.limit)
        check = work.checks[depth, context]
        position = _claim(memory, work.keys[depth, context], check)
        memory.slots[position] = (check << _BIT32) | _counted(memory.slots[position], bit)


@compiled
def _learn_weights(memory, depth, bit, p, rate, final_rate, work):
    inputs, outputs, chosen = work.inputs[depth], work.outputs[depth], work.chosen[depth]
    for part in range(SETS):
        step = (bit - squash(outputs[part])) * rate
        row = chosen[part]
        for number in range(INPUTS):
            memory.weights[row, number] += step * inputs[number]
        memory.final[chosen[5], part] += (bit - p) * final_rate * outputs[part]


@compiled
def _slot(memory, context, node):
    """Return where the count of a context at a node is kept, and its check, which is never 0."""
    run = scattered(hashed(context, np.uint64(node)))
    return np.int64((run >> _BIT32) & np.uint64(memory.slots.size - 1)), ((run >> _BIT8) & _LOW16) | _ONE


@compiled
def _claim(memory, key, check):
    """Return the slot with this check, or the emptiest of its bucket, cleared."""
    best, least = key, 99
    for other in range(_BUCKET):
        position = key ^ other
        slot = memory.slots[position]
        if slot >> _BIT32 == check:
            return position
        state = np.int64((slot >> _BIT16) & _STATE)
        total = (state >> 5) + ((state >> 1) & 15) if slot else -1
        if total < least:
            best, least = position, total
    memory.slots[best] = _FRESH
    return best


@compiled
def _counted(slot, bit):
    """Return the lower half of a slot after one more bit; a surprising bit halves the other count."""
    state = np.int64((slot >> _BIT16) & _STATE)
    n0, n1 = state >> 5, (state >> 1) & 15
    p = np.int64(slot & _LOW16)
    rate = _RATES[n0 + n1]
    if bit:
        p += (65535 - p) * rate >> 16
        n0, n1 = (n0 + 3) // 2 if n0 > 2 else n0, min(n1 + 1, 15)
    else:
        p -= p * rate >> 16
        n0, n1 = min(n0 + 1, 15), (n1 + 3) // 2 if n1 > 2 else n1
    return (np.uint64(n0 << 5 | n1 << 1 | bit) << _BIT16) | np.uint64(p)

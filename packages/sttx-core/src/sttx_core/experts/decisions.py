"""One binary decision: what all experts say, mixed into a probability, and what they learn from the answer.

The mixer is that of PAQ's successors: logistic mixing of stretched probabilities by several weight sets, each
chosen by another context, and a second layer over their outputs (Mahoney 2005, "Adaptive weighing of context
models for lossless data compression").
"""

import numpy as np

from sttx_core.experts.arithmetic import BITS, LIMIT, borrowing, squash, squash_roughly, stretch, within
from sttx_core.experts.counts import count_inputs
from sttx_core.experts.memory import BANDS, CONFIDENCES, INPUTS, LENGTHS, MARKED, MATCHES, NO_MATCH, SETS

_CONSTANT = 0.3
_NOTHING = 1e-30  # below such a mass of the network no half is more probable
_UNSURE = 1e-6  # no probability of the network counts as more certain
_RARE = 1e-4  # nor one of a match
_MOST = 14.0
_ZERO = np.float32(0)


@borrowing
def network_input(left, right):
    """Return the stretched probability of the right half from the masses of both."""
    mass = left + right
    return stretch(within(right / mass if mass > _NOTHING else 0.5, _UNSURE, 1 - _UNSURE))


@borrowing
def is_clipped(left, right):
    """Return whether `network_input` stays the same if the masses change a little."""
    mass = left + right
    return mass <= _NOTHING or not _UNSURE < right / mass < 1 - _UNSURE


@borrowing
def predict(memory, seen, depth, node, low, middle, high, first, second, work):
    """Return the probability that the token stands in the right half of a node.

    The root is node 1 at depth 0. Ranks of the left half are from ``low`` to ``middle``, those of the right
    up to ``high``. ``first`` and ``second`` are inputs of networks (`network_input`), 0 if there is none. The
    slots of the node's contexts have been found. ``work`` receives what `learn_mixer` and `learn_counts`
    need; nothing else changes.
    """
    inputs, outputs, chosen = work.inputs[depth], work.outputs[depth], work.chosen[depth]
    inputs[0], inputs[1], inputs[2] = first, _CONSTANT, second
    matched = _match_inputs(memory, seen, depth, low, middle, high, inputs)
    longest, marks = count_inputs(memory, depth, node, inputs, work)
    _choose(seen, depth, node, middle, first, matched, longest, marks, work.first_rows, chosen)
    total = 0.0
    for part in range(SETS):
        outputs[part] = within(_product(memory.weights[chosen[part]], inputs), -_MOST, _MOST)
        total += memory.final[chosen[SETS], part] * outputs[part]
    return within(squash(within(total, -_MOST, _MOST)), LIMIT, 1 - LIMIT)


@borrowing
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


@borrowing
def _choose(seen, depth, node, middle, first, matched, longest, marks, rows, chosen):
    """Write which row of each weight set is used, and which row of the second layer."""
    matching = 1 if matched < NO_MATCH else 0
    sure = min(np.int64(2 * abs(first)), CONFIDENCES - 1)
    chosen[0] = rows[0] + (depth * (MATCHES + 1) + matched) * LENGTHS + matching * seen.length[0]
    chosen[1] = rows[1] + depth * LENGTHS + longest
    chosen[2] = rows[2] + node % (rows[3] - rows[2])
    chosen[3] = rows[3] + seen.last[0] % (rows[4] - rows[3])
    chosen[4] = rows[4] + (depth * CONFIDENCES + sure) * 2 + matching
    chosen[5] = rows[5]
    if matching:
        toward = first if seen.ranks[matched] >= middle else -first
        kind = seen.classes[matched] % LENGTHS + (LENGTHS if seen.classes[matched] >= LENGTHS else 0)
        chosen[5] += 1 + kind * 32 + np.int64(within(1.5 * toward + 10, 0.0, 29.0))
    chosen[6] = rows[6] + seen.byte[0] * BANDS + min(depth // 2, BANDS - 1)
    chosen[7] = rows[7] + (depth << len(MARKED)) + marks
    chosen[SETS] = (depth * LENGTHS + longest) * 2 + matching


@borrowing
def _product(weights, inputs):
    """Return the scalar product in float32, as four sums at a time."""
    a = b = c = d = _ZERO
    for at in range(0, INPUTS, 4):
        a += weights[at] * inputs[at]
        b += weights[at + 1] * inputs[at + 1]
        c += weights[at + 2] * inputs[at + 2]
        d += weights[at + 3] * inputs[at + 3]
    return np.float64((a + b) + (c + d))


@borrowing
def slope(memory, depth, bit, p, work):
    """Return the derivative of a decision's bits by the first network's input.

    `predict` priced the decision at p, and nothing was learned since.
    """
    outputs, chosen = work.outputs[depth], work.chosen[depth]
    total = by_input = 0.0
    for part in range(SETS):
        weight = memory.final[chosen[SETS], part]
        total += weight * outputs[part]
        if abs(outputs[part]) < _MOST:
            by_input += weight * memory.weights[chosen[part], 0]
    clipped = abs(total) >= _MOST or not LIMIT < p < 1 - LIMIT
    return 0.0 if clipped else (p - bit) * BITS * by_input


@borrowing
def learn_mixer(memory, seen, depth, low, middle, high, bit, p, rate, rates, work):
    """Learn the answer of a decision that `predict` priced at p: weights, and whether matches were right."""
    inputs, outputs, chosen = work.inputs[depth], work.outputs[depth], work.chosen[depth]
    for part in range(SETS):
        step = np.float32((bit - squash_roughly(outputs[part])) * rate)
        weights = memory.weights[chosen[part]]
        for number in range(INPUTS):
            weights[number] += step * inputs[number]
        memory.final[chosen[SETS], part] += (bit - p) * rates.final * outputs[part]
    for model in range(MATCHES):
        rank = seen.ranks[model]
        if low <= rank < high:
            at = model, seen.classes[model], depth
            hit = 1.0 if (rank >= middle) == (bit == 1) else 0.0
            memory.match_p[at] += (hit - memory.match_p[at]) / (memory.match_n[at] + 1.5)
            memory.match_n[at] = min(memory.match_n[at] + 1, 2 * rates.limit)

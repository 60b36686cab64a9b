"""Counts: how often which half of a node followed a context, in a table of hashes.

A count is a pair of small integers with the latest bit; what a state of such a pair means is itself learned,
for each context. The counts of one context at a node and at the six nodes below stand together in a slot, so
that three decisions read memory once.
"""

import numpy as np

from sttx_core.experts.arithmetic import STRETCHED, borrowing, hashed, scattered
from sttx_core.experts.memory import CONTEXTS, LEVELS, MARKED, MATCHES, ORDERS, STATES

_FIRST_INPUT = 3 + 2 * MATCHES
_FRESH = 1 << 15
_BIT32, _BIT1, _ONE = np.uint64(32), np.uint64(1), np.uint64(1)
_CHECK = np.uint64((1 << 31) - 1)
_LOW16, _LOW8, _SURE = (1 << 16) - 1, (1 << 8) - 1, (1 << 22) - 1
_PER_HALF = np.float32(1 / (1 << 15))
_ZERO = np.float32(0)
_RATES = np.array([2 * 65536 // (2 * count + 3) for count in range(31)])
"""1 / (count + 1.5), in 65536ths."""
_SHARES = 1 / (np.arange(1 << 8) + 1.5)
_MARKS = np.array([1 << MARKED.index(number) if number in MARKED else 0 for number in range(CONTEXTS)])


@borrowing
def find_slots(memory, seen, level, node, work):
    """Find the slot of each context for the decisions from a node on, which is at depth LEVELS * level."""
    slots = memory.slots
    for context in range(CONTEXTS):
        run = scattered(hashed(seen.contexts[context], np.uint64(node)))
        key = np.int64(run >> _BIT32) & (slots.shape[0] - 1)
        check = np.int32((run >> _BIT1) & _CHECK | _ONE)
        work.keys[level, context], work.checks[level, context] = key, check
        work.found[level, context] = key if slots[key, 0] == check else -1
        if slots[key ^ 1, 0] == check:
            work.found[level, context] = key ^ 1


@borrowing
def _local(depth, node):
    """Return which count of a slot is a node's."""
    first = 1 << depth % LEVELS
    return first | (node & (first - 1))


@borrowing
def count_inputs(memory, depth, node, inputs, work):
    """Write two inputs of each context that has a count here; return the highest such order, and marks."""
    longest = marks = 0
    level, local = depth // LEVELS, _local(depth, node)
    for context in range(CONTEXTS):
        at = _FIRST_INPUT + 2 * context
        found = work.found[level, context]
        count = np.int64(memory.slots[found, local]) if found >= 0 else 0
        if count:
            state = (count >> 16) & (STATES - 1)
            work.states[depth, context] = state
            inputs[at] = STRETCHED[memory.states[context, state] >> 18]
            inputs[at + 1] = np.float32((count & _LOW16) - _FRESH) * _PER_HALF
            marks |= _MARKS[context]
            if 0 < context < ORDERS:
                longest = context
        else:
            work.states[depth, context] = -1
            inputs[at] = inputs[at + 1] = _ZERO
    return longest, marks


@borrowing
def learn_counts(memory, level, leaf, depths, rates, work):
    """Learn the answers of a level's decisions on the path to a leaf."""
    for context in range(CONTEXTS):
        slot = memory.slots[_claim(memory.slots, work.keys[level, context], work.checks[level, context])]
        for depth in range(LEVELS * level, min(LEVELS * (level + 1), depths)):
            if work.decided[depth]:
                bit = (leaf >> (depths - depth - 1)) & 1
                state = work.states[depth, context]
                if state >= 0:
                    memory.states[context, state] = _adapted(memory.states[context, state], bit, rates.limit)
                local = _local(depth, leaf >> (depths - depth))
                slot[local] = _counted(np.int64(slot[local]), bit)


@borrowing
def _claim(slots, key, check):
    """Return the slot with this check, or the one of its pair with fewer observations, cleared."""
    if slots[key, 0] == check:
        return key
    other = key ^ 1
    if slots[other, 0] == check:
        return other
    best = other if _total(slots[other, 1]) < _total(slots[key, 1]) else key
    slots[best, :] = 0
    slots[best, 0] = check
    return best


@borrowing
def _total(count):
    state = (np.int64(count) >> 16) & (STATES - 1)
    return (state >> 5) + ((state >> 1) & 15)


@borrowing
def _adapted(known, bit, limit):
    """Return an adaptive probability after one more bit."""
    p, n = np.int64(known) >> 8, np.int64(known) & _LOW8
    p += np.int64(((bit << 22) - p) * _SHARES[n])
    return np.int32(min(p, _SURE) << 8 | min(n + 1, limit))


@borrowing
def _counted(count, bit):
    """Return a count after one more bit; a surprising bit halves the other number."""
    if not count:
        count = _FRESH
    state, p = (count >> 16) & (STATES - 1), count & _LOW16
    n0, n1 = state >> 5, (state >> 1) & 15
    rate = _RATES[n0 + n1]
    if bit:
        p += (_LOW16 - p) * rate >> 16
        n0, n1 = (n0 + 3) // 2 if n0 > 2 else n0, min(n1 + 1, 15)
    else:
        p -= p * rate >> 16
        n0, n1 = min(n0 + 1, 15), (n1 + 3) // 2 if n1 > 2 else n1
    return np.int32((n0 << 5 | n1 << 1 | bit) << 16 | p)

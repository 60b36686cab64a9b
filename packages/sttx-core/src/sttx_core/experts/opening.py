"""The next token's probabilities, computed as far as they matter: nodes are opened from the root down.

A node's probability is the sum of the probabilities below it, so where it is small nothing below it is large.
A token's bits are those of `reading.price_path`. What is opened stays known between calls, until the experts
read on.
"""

import numpy as np

from sttx_core.experts.arithmetic import BITS, borrowing, compiled, log
from sttx_core.experts.counts import find_slots
from sttx_core.experts.masses import find_masses
from sttx_core.experts.memory import LEVELS
from sttx_core.experts.reading import look, node_probability

UNKNOWN = -1.0
"""In ``opened``: nobody has asked for this node."""

_LITTLE = 1e-3


@borrowing
def prepare(memory, place, vocabulary, says, beside, seen, work):
    """Find what `open_nodes` and `walk_down` need of the next token. Only ``place`` may change."""
    find_masses(says[0], vocabulary.order, work.powers, work.mass)
    if beside.shape[0]:
        find_masses(beside[0], vocabulary.order, work.powers, work.beside)
    look(memory, place, vocabulary, seen)


@compiled
def open_nodes(memory, seen, two, size, kept, needed, least, opened, work, first, count, bits):
    """Open each node of at least a probability; return the number of parts that the tokens then stand in.

    A part is a single token, or a node that was not opened. Parts are in the order of the ranks.

    ``kept`` [V + 1] is the number of tokens before each rank that may be chosen, ``needed`` [V + 1] of those
    that must be parts by themselves: a node without either is not opened. ``opened`` [2 L] is the probability
    of each node, or UNKNOWN. ``first``, ``count`` and ``bits`` [V] receive each part's first rank, its tokens
    that may be chosen, and its bits. The other arguments are those of `reading.price_path`.
    """
    depths, parts = work.p.size, 0
    stack, found = np.zeros(2 * depths + 2, np.int64), np.zeros(work.found.shape[0], np.int64)
    stack[0], top = 1, 1
    while top:
        top -= 1
        node = stack[top]
        depth = _depth(node)
        low = (node << (depths - depth)) - (1 << depths)
        high = min(low + (1 << (depths - depth)), size)
        if low >= size:
            continue
        choosable, named = kept[high] - kept[low], needed[high] - needed[low]
        if high - low == 1 or not (named or (choosable and opened[node] >= least)):
            first[parts], count[parts] = low, choosable
            bits[parts] = -log(opened[node]) * BITS
            parts += 1
            continue
        _open(memory, seen, two, size, depth, node, opened, found, work)
        stack[top], stack[top + 1] = 2 * node + 1, 2 * node
        top += 2
    return parts


@compiled
def walk_down(memory, seen, two, size, kept, excluded, uniform, opened, work):
    """Return the rank at which the sum of probabilities, by ranks, passes ``uniform`` of the whole.

    Return -1 if the excluded ranks have nearly all of it. ``kept`` [V + 1] is the number of tokens before
    each rank that may be chosen, and ``excluded`` are the ranks that may not. The other arguments are those
    of `open_nodes`.
    """
    depths = work.p.size
    lost = np.zeros(2 << depths if excluded.size else 2)
    found = np.zeros(work.found.shape[0], np.int64)
    for rank in excluded:
        leaf = (1 << depths) + rank
        for depth in range(depths):
            _open(memory, seen, two, size, depth, leaf >> (depths - depth), opened, found, work)
        for depth in range(depths + 1):
            lost[leaf >> depth] += opened[leaf]
    if 1.0 - lost[1] < _LITTLE:
        return -1
    node, left = 1, uniform * (1.0 - lost[1])
    for depth in range(depths):
        width = 1 << (depths - depth)
        low = (node << (depths - depth)) - (1 << depths)
        middle, high = min(low + width // 2, size), min(low + width, size)
        _open(memory, seen, two, size, depth, node, opened, found, work)
        share = opened[2 * node] - (lost[2 * node] if excluded.size else 0.0)
        node *= 2
        if kept[high] > kept[middle] and (left >= share or kept[middle] == kept[low]):
            left -= share
            node += 1
    return node - (1 << depths)


@borrowing
def _open(memory, seen, two, size, depth, node, opened, found, work):
    """Make the probabilities of a node's halves known. ``found`` has the node of each level's slots."""
    if opened[2 * node] != UNKNOWN:
        return
    depths = work.p.size
    low, width = (node << (depths - depth)) - (1 << depths), 1 << (depths - depth)
    right = 0.0
    if low + width // 2 < size:
        level = depth // LEVELS
        above = node >> (depth - LEVELS * level)
        if found[level] != above:
            find_slots(memory, seen, level, above, work)
            found[level] = above
        right = node_probability(memory, seen, two, depth, node, low, low + width // 2, low + width, work)
    opened[2 * node] = opened[node] * (1.0 - right)
    opened[2 * node + 1] = opened[node] * right


@borrowing
def _depth(node):
    depth = 0
    while node >> (depth + 1):
        depth += 1
    return depth

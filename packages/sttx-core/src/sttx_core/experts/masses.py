"""How probable the network takes every node of the tree of decisions to be.

The exponential is of exact operations in a fixed order too, in float32, and written so that the compiler can
do many at a time.
"""

import numpy as np

from sttx_core.experts.arithmetic import borrowing

_LOG2_E = np.float32(1.4426950408889634)
_LN2_UPPER = np.float32(0.693359375)  # few bits, so that its product with a whole number is exact
_LN2_LOWER = np.float32(-2.12194440e-4)
_ROUND = np.float32(1.5 * 2**23)  # added and subtracted again, it rounds to a whole number
_LEAST, _MOST = np.float32(-86), np.float32(80)
_ONE = np.float32(1)
_C7, _C6, _C5 = np.float32(1 / 5040), np.float32(1 / 720), np.float32(1 / 120)
_C4, _C3, _C2 = np.float32(1 / 24), np.float32(1 / 6), np.float32(1 / 2)


@borrowing
def find_masses(log_probs, order, powers, mass):
    """Write the probability of each node.

    Args:
        log_probs: [V] float32 natural log-probabilities by id, between -86 and 80; others count as these.
        order: [V] uint32 the ids, sorted.
        powers: [V] int32 to work in.
        mass: [2 L] float32; receives at L + r the probability of rank r, and at n the sum of 2n and 2n + 1.
    """
    leaves = mass.size // 2
    _exponentials(log_probs, order, powers, mass[leaves : leaves + order.size])
    width = leaves // 2
    while width:
        below, nodes = mass[2 * width : 4 * width], mass[width : 2 * width]
        for node in range(width):
            nodes[node] = below[2 * node] + below[2 * node + 1]
        width //= 2


@borrowing
def _exponentials(log_probs, order, powers, values):
    """Write e to the power of each, sorted: 2^n times the series of the rest."""
    for rank in range(values.size):
        values[rank] = log_probs[order[rank]]
    for rank in range(values.size):
        x = max(min(values[rank], _MOST), _LEAST)
        power = (x * _LOG2_E + _ROUND) - _ROUND
        rest = (x - power * _LN2_UPPER) - power * _LN2_LOWER
        series = ((((_C7 * rest + _C6) * rest + _C5) * rest + _C4) * rest + _C3) * rest + _C2
        values[rank] = series * rest * rest + rest + _ONE
        powers[rank] = np.int32(power) << 23
    exponents = values.view(np.int32)
    for rank in range(values.size):
        exponents[rank] += powers[rank]

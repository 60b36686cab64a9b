"""Functions of float32 arrays, in place, made of exact operations in a fixed order.

Sums, products, quotients and roots are rounded exactly by IEEE 754, and numba neither fuses nor reorders
them. The C library's functions, and vectorized ones, differ in the last bits from machine to machine.
"""

import numpy as np

from sttx_core.experts.arithmetic import compiled
from sttx_train.fused.lanes import LANES, dot_of_whole, fma

ZERO, ONE, TWO = np.float32(0), np.float32(1), np.float32(2)

_LOG2_E = np.float32(1.4426950408889634)
_LN2_UPPER = np.float32(0.693359375)  # few bits, so that its product with a whole number is exact
_LN2_LOWER = np.float32(-2.12194440e-4)
_ROUND = np.float32(1.5 * 2**23)  # added and subtracted again, it rounds to a whole number
_LEAST, _MOST = np.float32(-86), np.float32(80)
_C7, _C6, _C5 = np.float32(1 / 5040), np.float32(1 / 720), np.float32(1 / 120)
_C4, _C3, _C2 = np.float32(1 / 24), np.float32(1 / 6), np.float32(1 / 2)


@compiled
def exponentials(values):
    """Raise e to the power of each, as if it were between -86 and 80: 2^n times the series of the rest."""
    powers = np.empty(values.size, np.int32)
    for i in range(values.size):
        x = max(min(values[i], _MOST), _LEAST)
        power = (x * _LOG2_E + _ROUND) - _ROUND
        rest = (x - power * _LN2_UPPER) - power * _LN2_LOWER
        series = ((((_C7 * rest + _C6) * rest + _C5) * rest + _C4) * rest + _C3) * rest + _C2
        values[i] = series * rest * rest + rest + ONE
        powers[i] = np.int32(power) << 23
    exponents = values.view(np.int32)
    for i in range(values.size):
        exponents[i] += powers[i]


@compiled
def sigmoids(values):
    """Take the logistic function of each."""
    for i in range(values.size):
        values[i] = -values[i]
    exponentials(values)
    for i in range(values.size):
        values[i] = ONE / (ONE + values[i])


@compiled
def tangents(values):
    """Take the hyperbolic tangent of each, to 1e-7."""
    for i in range(values.size):
        values[i] = TWO * values[i]
    exponentials(values)
    for i in range(values.size):
        values[i] = ONE - TWO / (values[i] + ONE)


@compiled
def dot(x, y):
    """Return the sum of the products: that of `dot_of_whole`, and then the rest one by one."""
    whole = x.size // LANES * LANES
    total = dot_of_whole(x, y, whole)
    for i in range(whole, x.size):
        total = fma(x[i], y[i], total)
    return total


@compiled
def normalize(x, eps, y):
    """Write x less its mean, divided by its standard deviation (the root of the variance plus ``eps``)."""
    size = np.float32(x.size)
    total = ZERO
    a = b = c = d = ZERO
    whole = x.size // 4 * 4
    for i in range(0, whole, 4):
        a += x[i]
        b += x[i + 1]
        c += x[i + 2]
        d += x[i + 3]
    total = (a + c) + (b + d)
    for i in range(whole, x.size):
        total += x[i]
    mean = total / size
    for i in range(x.size):
        y[i] = x[i] - mean
    scale = ONE / np.sqrt(dot(y, y) / size + eps)
    for i in range(x.size):
        y[i] *= scale

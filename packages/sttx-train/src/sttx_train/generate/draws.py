"""Chooses a token from all log-probabilities in one compiled call: temperature, top-k, top-p, min-p, a draw.

The definition is `Sampler.distribution` and `samplers.draw`. This finds the same token for the same random
number, up to the rounding of sums. It depends on its row alone, and rounds the same on every machine.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from sttx_core.experts.kept import compiled_once

_LOWEST = -700.0  # natural logarithm below which a weight is 0
_BITS, _LN2_HIGH, _LN2_LOW = 1.4426950408889634, 6.93147180369123816490e-01, 1.90821492927058770002e-10
_SHIFTER = 6755399441055744.0  # 1.5 * 2^52: adding it rounds to an integer, which the lowest bits hold
_INVERSES = tuple(1.0 / math.factorial(n) for n in range(12, -1, -1))
_GAPS = (1750, 701, 301, 132, 57, 23, 10, 4, 1)  # of Shell's sort (Ciura 2001)


@njit(nogil=True)
def _weights(row, excluded, temperature):
    """Return the weight of each token: exp((row - max) / temperature), 0 where it is excluded."""
    greatest = -np.inf
    for token in range(len(row)):
        if not excluded[token] and row[token] > greatest:
            greatest = row[token]
    weights, rounded = np.empty(len(row)), np.empty(len(row))
    sharpness = min(1.0 / temperature, 1e300) if temperature > 1e-300 else 1e300
    for token in range(len(row)):
        x = (row[token] - greatest) * sharpness
        x = -np.inf if excluded[token] else x
        inside = max(x, _LOWEST)
        shifted = inside * _BITS + _SHIFTER
        whole = shifted - _SHIFTER
        rest = inside - whole * _LN2_HIGH - whole * _LN2_LOW
        power = 1.0 / 6227020800
        for inverse in _INVERSES:
            power = power * rest + inverse
        weights[token] = power
        rounded[token] = shifted if x > _LOWEST else np.nan
    exponents, bits = rounded.view(np.int64), weights.view(np.int64)
    for token in range(len(row)):
        bits[token] = bits[token] + (exponents[token] << 52) if rounded[token] > 0.0 else 0
    return weights


@njit(nogil=True)
def _total(weights):
    """Return the sum of all weights, in eight sums that do not wait for each other."""
    sums, whole = np.zeros(8), len(weights) // 8 * 8
    for start in range(0, whole, 8):
        for lane in range(8):
            sums[lane] += weights[start + lane]
    for token in range(whole, len(weights)):
        sums[0] += weights[token]
    return sums.sum()


@njit(nogil=True)
def _at_least(weights, least):
    """Return the tokens with at least a weight, by id; none with weight 0."""
    found, count = np.empty(len(weights), np.int64), 0
    for token in range(len(weights)):
        found[count] = token
        count += weights[token] >= least and weights[token] > 0.0
    return found[:count]


@njit(nogil=True)
def _sort(tokens, keys, descending):
    """Sort tokens by their keys, and those with equal keys by id."""
    sign = -1.0 if descending else 1.0
    for gap in _GAPS:
        for start in range(gap, len(tokens)):
            token, at = tokens[start], start
            key = sign * keys[token]
            while at >= gap:
                other = tokens[at - gap]
                other_key = sign * keys[other]
                if other_key < key or (other_key == key and other < token):
                    break
                tokens[at] = other
                at -= gap
            tokens[at] = token


@njit(nogil=True)
def _enough(tokens, weights, mass):
    """Return how many of the first tokens have together at least a mass; one more than all if they do not."""
    total = 0.0
    for at in range(len(tokens)):
        total += weights[tokens[at]]
        if total >= mass:
            return at + 1
    return len(tokens) + 1


@njit(nogil=True)
def _likeliest(row, weights, total, top_k, top_p):
    """Return the tokens that top-k and top-p keep, likeliest first."""
    bounds = ((1.0 - top_p) / 64 * total, (1.0 - top_p) / len(row) * total, 0.0)
    if top_k:
        bounds = (1.0 / 1024, 1.0 / 1048576, 0.0)
    tokens, count = np.empty(0, np.int64), 0
    for bound in bounds:
        tokens = _at_least(weights, bound)
        if bound > 0.0 and len(tokens) < top_k:
            continue
        _sort(tokens, row, True)
        if top_k:
            tokens = tokens[:top_k]
            total = 0.0
            for token in tokens:
                total += weights[token]
        count = len(tokens) if top_p >= 1.0 else _enough(tokens, weights, top_p * total)
        if count <= len(tokens) or top_k or bound == 0.0:
            break
    return tokens[:count]


@njit(nogil=True)
def _drawn(tokens, weights, uniform):
    """Return the token at which the sum of weights passes a share of all."""
    total = 0.0
    for token in tokens:
        total += weights[token]
    target, total = uniform * total, 0.0
    chosen = tokens[0]
    for token in tokens:
        if weights[token] > 0.0:
            chosen = token
            total += weights[token]
            if total > target:
                break
    return chosen


@compiled_once
def draw_token(
    row: np.ndarray,
    excluded: np.ndarray,
    order: np.ndarray,
    place: np.ndarray,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    uniform: float,
) -> int:
    """Return a token; -1 if no token has a probability, because the logarithms are not finite.

    Args:
        row: ``[V]`` logarithms of unnormalized probabilities, float64.
        excluded: bool ``[V]``, the tokens that are not chosen; not all.
        order: int64 ``[V]`` the ids in the order in which weights are summed to draw one.
        place: int64 ``[V]`` the place of each id in this order.
        temperature: as in `SamplingConfig`, above 0.
        top_k: as there.
        top_p: as there.
        min_p: as there.
        uniform: a random number from 0 to below 1.
    """
    weights = _weights(row, excluded, temperature)
    total = _total(weights)
    if not total >= 1.0:  # the likeliest token has 1
        return -1
    if top_k == 0 and top_p >= 1.0 and min_p <= 0.0:
        return _drawn(order, weights, uniform)
    if top_k or top_p < 1.0:
        tokens = _likeliest(row, weights, total, top_k, top_p)
        if min_p > 0.0:
            tokens = tokens[: max(1, (weights[tokens] >= min_p).sum())]
    else:
        tokens = _at_least(weights, min_p)
    _sort(tokens, place, False)
    return _drawn(tokens, weights, uniform)

"""What happens between the products of matrices, compiled: token by token, D numbers at a time.

`elementwise` makes differentiable functions of these loops, `whole` a pass through all layers. Every array
of tokens is ``[..., M, D]``, the tokens of all rows one after the other. A kernel takes the tokens from
``first`` to ``last - 1`` and adds the gradients of vectors to its own part of ``sums``, so that threads share
nothing. ``previous[m]`` says which token is before token m: an index, or -1 - r for row r of ``before``.
Forward every operation is rounded as written; the order of a gradient's sums is the compiler's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from sttx_core.experts import arithmetic as tables
from sttx_core.experts.kept import compiled_once, digest_of
from sttx_train.fused import arithmetic, lanes
from sttx_train.fused.arithmetic import exponentials, sigmoids

_DECAY_SCALE = np.float32(0.6065306597126334)
_LEAST_NORM = np.float32(1e-12)
_ONE = np.float32(1)
_inlined: Any = njit(inline="always")
"""Compiles a function into each function that calls it, by the rules of that one."""


class Kernels(NamedTuple):
    """The compiled loops, forward and backward."""

    mix: Callable[..., None]
    mix_back: Callable[..., None]
    prepare: Callable[..., None]
    prepare_back: Callable[..., None]
    finish: Callable[..., None]
    finish_back: Callable[..., None]


@cache
def kernels() -> Kernels:
    """Return the loops; each is compiled, or read from disk, when it is first called."""
    return Kernels(
        mix=compiled_once(_mix),
        mix_back=compiled_once(_mix_back, reorder=True),
        prepare=_with_imported(digest_of(arithmetic.__file__, lanes.__file__, tables.__file__)),
        prepare_back=compiled_once(_prepare_back, reorder=True),
        finish=compiled_once(_finish),
        finish_back=compiled_once(_finish_back, reorder=True),
    )


def _with_imported(sources: int) -> Callable[..., None]:
    """Return `_prepare`, which is compiled again after a change of the functions that it imports."""

    def prepare(k, v, raw_w, raw_a, first_v, raw_v, shares, found, inner, norms, mixed, first, last, part):
        if sources:
            _prepare(
                k, v, raw_w, raw_a, first_v, raw_v, shares, found, inner, norms, mixed, first, last, part
            )

    return compiled_once(prepare)


@_inlined
def _add(x, y, total):
    for i in range(x.size):
        total[i] = x[i] + y[i]


@_inlined
def _accumulate(x, total):
    for i in range(x.size):
        total[i] += x[i]


@_inlined
def _normalize(x, norms):
    """Turn x into its negative, each head's part divided by its norm."""
    size = x.size // norms.size
    for head in range(norms.size):
        part, total = x[head * size : (head + 1) * size], np.float32(0)
        for i in range(size):
            total += part[i] * part[i]
        norms[head] = max(np.sqrt(total), _LEAST_NORM)
        scale = -_ONE / norms[head]
        for i in range(size):
            part[i] *= scale


@_inlined
def _normalize_back(a, norms, change):
    """Turn the gradient by the result of `_normalize`, with the sign changed, into that by its input."""
    size = a.size // norms.size
    for head in range(norms.size):
        own, d = a[head * size : (head + 1) * size], change[head * size : (head + 1) * size]
        along = np.float32(0)
        for i in range(size):
            along += d[i] * own[i]
        scale = _ONE / norms[head]
        if norms[head] <= _LEAST_NORM:
            along = np.float32(0)
        for i in range(size):
            d[i] = (d[i] - along * own[i]) * scale


@_inlined
def _decay_back(dw, w, decay, to_raw, into):
    for i in range(w.size):
        to_raw[i] = dw[i] * w[i] * -_DECAY_SCALE * decay[i] * (_ONE - decay[i])
    _accumulate(to_raw, into)


@_inlined
def _value_back(dv, value, other, share, to_v, to_first, to_share):
    for i in range(dv.size):
        to_first[i] = dv[i] * share[i]
    for i in range(dv.size):
        to_v[i] = dv[i] - to_first[i]
    for i in range(dv.size):
        to_share[i] = to_first[i] * (other[i] - value[i]) * (_ONE - share[i])


@_inlined
def _standardize(x, epsilon, normed):
    """Write x less its mean, divided by its standard deviation; return what it was multiplied by."""
    total, squares, count = np.float32(0), np.float32(0), np.float32(x.size)
    for j in range(x.size):
        total += x[j]
    mean = total / count
    for j in range(x.size):
        normed[j] = x[j] - mean
    for j in range(x.size):
        squares += normed[j] * normed[j]
    scale = _ONE / np.sqrt(squares / count + epsilon)
    for j in range(x.size):
        normed[j] *= scale
    return scale


@_inlined
def _product_of_three(x, y, z):
    total = np.float32(0)
    for j in range(x.size):
        total += x[j] * y[j] * z[j]
    return total


@_inlined
def _bonus_back(change, ask, key, r_k, to_r, to_k, into):
    for j in range(ask.size):
        to_r[j] = change * key[j] * r_k[j]
    for j in range(ask.size):
        to_k[j] = change * ask[j] * r_k[j]
    for j in range(ask.size):
        into[j] += change * ask[j] * key[j]


@_inlined
def _norm_back(d, normed, weight, scale, to_x, to_weight, to_bias):
    level, along, count = np.float32(0), np.float32(0), np.float32(d.size)
    for j in range(d.size):
        to_weight[j] += d[j] * normed[j]
    _accumulate(d, to_bias)
    for j in range(d.size):
        level += d[j] * weight[j]
        along += d[j] * weight[j] * normed[j]
    level, along = level / count, along / count
    for j in range(d.size):
        to_x[j] = scale * (d[j] * weight[j] - level - normed[j] * along)


@_inlined
def _step_from(x, before, previous, m, change):
    """Write what leads from a token to the one before it."""
    own, past = x[m], x[previous[m]] if previous[m] >= 0 else before[-1 - previous[m]]
    for i in range(own.size):
        change[i] = past[i] - own[i]


@_inlined
def _add_scaled(x, scale, total):
    for i in range(x.size):
        total[i] += x[i] * scale[i]


def _mix(x, before, previous, shares, mixes, _, first, last, part):
    """Write the mixtures of each token with the one before it."""
    width = x.shape[1]
    change = np.empty(width, np.float32)
    for m in range(first, last):
        own = x[m]
        _step_from(x, before, previous, m, change)
        for p in range(shares.shape[0]):
            share, mixed = shares[p], mixes[p, m]
            for i in range(width):
                mixed[i] = own[i] + change[i] * share[i]


def _mix_back(x, before, previous, shares, given, dx, dbefore, sums, _, first, last, part):
    """Write the gradients by the tokens and those before; add those by the shares if there are parts."""
    tokens, width = dx.shape
    change = np.empty(width, np.float32)
    for m in range(first, last):
        total = dx[m]
        read_by_next = m + 1 < tokens and previous[m + 1] == m
        total[:] = 0
        for p in range(shares.shape[0]):
            share, d = shares[p], given[p, m]
            for i in range(width):
                total[i] += d[i] - d[i] * share[i]
            if read_by_next:
                _add_scaled(given[p, m + 1], share, total)
            if -dbefore.shape[0] <= previous[m] < 0:
                _add_scaled(d, share, dbefore[-1 - previous[m]])
        if sums.shape[0]:
            _step_from(x, before, previous, m, change)
            for p in range(shares.shape[0]):
                _add_scaled(given[p, m], change, sums[part, p])


@_inlined
def _prepare(k, v, raw_w, raw_a, first_v, raw_v, shares, found, inner, norms, mixed, first, last, part):
    """Write what the recurrence reads, and what its gradients need."""
    width = k.shape[1]
    w0, a0, k_k, k_a, v0 = shares[0], shares[1], shares[2], shares[3], shares[4]
    for m in range(first, last):
        key, decay, w = k[m], inner[0, m], found[0, m]
        _add(w0, raw_w[m], decay)
        sigmoids(decay)
        for i in range(width):
            w[i] = -_DECAY_SCALE * decay[i]
        exponentials(w)
        rate, new_key = inner[1, m], found[1, m]
        _add(a0, raw_a[m], rate)
        sigmoids(rate)
        for i in range(width):
            new_key[i] = key[i] * (_ONE + (rate[i] - _ONE) * k_a[i])
        if mixed:
            value, other, new_value, share = (
                v[m],
                first_v[m],
                found[2, m],
                inner[2, m],
            )
            _add(v0, raw_v[m], share)
            sigmoids(share)
            for i in range(width):
                new_value[i] = value[i] + (other[i] - value[i]) * share[i]
        a, b, norm = found[3, m], found[4, m], norms[m]
        for i in range(width):
            a[i] = key[i] * k_k[i]
        _normalize(a, norm)
        for i in range(width):
            b[i] = -a[i] * rate[i]


def _prepare_back(k, v, first_v, shares, found, inner, norms, given, back, sums, mixed, first, last, part):
    """Write the gradients by all inputs of `_prepare`; add those by the vectors."""
    width = k.shape[1]
    k_k, k_a, change = shares[2], shares[3], np.empty(width, np.float32)
    for m in range(first, last):
        key, rate, dk = k[m], inner[1, m], given[1, m]
        _decay_back(given[0, m], found[0, m], inner[0, m], back[2, m], sums[part, 0])
        da, db, a, to_a = given[3, m], given[4, m], found[3, m], back[3, m]
        for i in range(width):
            to_a[i] = (dk[i] * key[i] * k_a[i] - db[i] * a[i]) * rate[i] * (_ONE - rate[i])
        _accumulate(to_a, sums[part, 1])
        into = sums[part, 3]
        for i in range(width):
            into[i] += dk[i] * key[i] * (rate[i] - _ONE)
        for i in range(width):
            change[i] = db[i] * rate[i] - da[i]
        _normalize_back(a, norms[m], change)
        to_k, into = back[0, m], sums[part, 2]
        for i in range(width):
            to_k[i] = dk[i] * (_ONE + (rate[i] - _ONE) * k_a[i]) + change[i] * k_k[i]
        for i in range(width):
            into[i] += change[i] * key[i]
        dv, to_v = given[2, m], back[1, m]
        if mixed:
            share, to_first, to_share = inner[2, m], back[4, m], back[5, m]
            _value_back(dv, v[m], first_v[m], share, to_v, to_first, to_share)
            _accumulate(to_share, sums[part, 4])
        else:
            to_v[:] = dv


def _finish(y, r, k, v, gate, shares, out, eps, first, last, part):
    """Write the gated output."""
    heads, size = y.shape[1], y.shape[2]
    epsilon, normed = np.float32(eps), np.empty(size, np.float32)
    for m in range(first, last):
        for head in range(heads):
            of = slice(head * size, (head + 1) * size)
            value, g, to = v[m, of], gate[m, of], out[m, of]
            weight, bias = shares[1, of], shares[2, of]
            _standardize(y[m, head], epsilon, normed)
            bonus = _product_of_three(r[m, of], k[m, of], shares[0, of])
            for j in range(size):
                to[j] = (normed[j] * weight[j] + bias[j] + bonus * value[j]) * g[j]


def _finish_back(y, r, k, v, gate, shares, given, back, sums, eps, first, last, part):
    """Write the gradients by all inputs of `_finish`; add those by the vectors."""
    heads, size = y.shape[1], y.shape[2]
    epsilon, normed = np.float32(eps), np.empty(size, np.float32)
    inner = np.empty(size, np.float32)
    for m in range(first, last):
        for head in range(heads):
            of = slice(head * size, (head + 1) * size)
            ask, key, value, r_k = r[m, of], k[m, of], v[m, of], shares[0, of]
            weight, bias, g, d = shares[1, of], shares[2, of], gate[m, of], given[m, of]
            scale = _standardize(y[m, head], epsilon, normed)
            bonus = _product_of_three(ask, key, r_k)
            to_gate, to_v, to_y = back[4, m, of], back[3, m, of], back[0, m, of]
            for j in range(size):
                to_gate[j] = d[j] * (normed[j] * weight[j] + bias[j] + bonus * value[j])
            for j in range(size):
                inner[j] = d[j] * g[j]
            change = np.float32(0)
            for j in range(size):
                change += inner[j] * value[j]
            for j in range(size):
                to_v[j] = inner[j] * bonus
            _bonus_back(change, ask, key, r_k, back[1, m, of], back[2, m, of], sums[part, 0, of])
            _norm_back(inner, normed, weight, scale, to_y, sums[part, 1, of], sums[part, 2, of])

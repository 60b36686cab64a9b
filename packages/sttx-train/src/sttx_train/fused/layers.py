"""The equations of RWKV-7 for one token of each row, compiled.

Legend: L layers, S rows of this call, B all rows, D hidden size, H heads, N head size. Products are padded
with zeros beyond D. The state is ``[..., value, key]``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sttx_core.experts.arithmetic import compiled
from sttx_train.fused.arithmetic import ONE, ZERO, dot, exponentials, normalize, sigmoids, tangents
from sttx_train.fused.lanes import HEAD, fma, renew
from sttx_train.fused.products import product

_DECAY_SCALE = np.float32(0.6065306597126334)
_LEAST_NORM = np.float32(1e-12)

VECTORS = (
    *("att.x_r", "att.x_w", "att.x_k", "att.x_v", "att.x_a", "att.x_g"),
    *("att.w0", "att.a0", "att.v0", "att.k_k", "att.k_a", "att.r_k", "att.ln_x.weight", "att.ln_x.bias"),
    *("ln1.weight", "ln1.bias", "ln2.weight", "ln2.bias", "ffn.x_k"),
)
"""Names of a block's vectors, in the order of `Weights.vectors`."""
_W0, _A0, _V0, _K_K, _K_A, _R_K, _HEADS, _LN1, _LN2, _FFN = 6, 7, 8, 9, 10, 11, 12, 14, 16, 18
_R, _W, _K, _V, _A, _G = range(6)
_UNIT, _WRITE, _DECAY, _KEY, _READ = range(5)


class Weights(NamedTuple):
    """All weights: ``vectors`` [L, 19, D], ``norms`` [4, D] (ln0, ln_out), and packed matrices."""

    vectors: np.ndarray
    norms: np.ndarray
    receptance: np.ndarray
    key: np.ndarray
    value: np.ndarray
    output: np.ndarray
    w1: np.ndarray
    w2: np.ndarray
    a1: np.ndarray
    a2: np.ndarray
    v1: np.ndarray
    v2: np.ndarray
    g1: np.ndarray
    g2: np.ndarray
    ffn_key: np.ndarray
    ffn_value: np.ndarray
    head: np.ndarray


class State(NamedTuple):
    """The three parts of the state: [L, B, D], [L, B, H, N, N] and [L, B, D], float32."""

    att_shift: np.ndarray
    wkv: np.ndarray
    ffn_shift: np.ndarray


class Sizes(NamedTuple):
    """The size of a head, and the epsilons of the norms over all and over a head's outputs."""

    head: int
    eps: np.float32
    head_eps: np.float32


@compiled
def read_rows(weights, sizes, x, old, new, logits, first, last):
    """Read one token with the rows from ``first`` to ``last - 1``.

    Args:
        weights: `Weights`.
        sizes: `Sizes`.
        x: [B, D] float32, the embeddings.
        old: `State` before the token.
        new: `State`, receives the one after it.
        logits: [B, V padded] float32, receives what the model says of the next token.
        first: the first row.
        last: the row after the last one.
    """
    width = x.shape[1]
    flow = np.zeros((last - first, weights.output.shape[1] * weights.output.shape[3]), np.float32)
    normed = np.zeros_like(flow)
    flow[:, :width] = x[first:last]
    _norm(flow, weights.norms[0], weights.norms[1], sizes.eps, flow)
    first_value = np.zeros_like(flow)
    for layer in range(weights.vectors.shape[0]):
        vectors = weights.vectors[layer]
        _norm(flow, vectors[_LN1], vectors[_LN1 + 1], sizes.eps, normed)
        mixed = np.zeros((6, *flow.shape), np.float32)
        _mix(normed, old.att_shift[layer, first:last], vectors, mixed)
        new.att_shift[layer, first:last] = normed[:, :width]
        said = _attend(weights, sizes, layer, mixed, first_value, old.wkv, new.wkv, first)
        _add(flow, product(said, weights.output[layer]), width)
        _norm(flow, vectors[_LN2], vectors[_LN2 + 1], sizes.eps, normed)
        _mix(normed, old.ffn_shift[layer, first:last], vectors[_FFN:], mixed[:1])
        new.ffn_shift[layer, first:last] = normed[:, :width]
        inner = product(mixed[0], weights.ffn_key[layer])
        _square(inner.reshape(-1))
        _add(flow, product(inner, weights.ffn_value[layer]), width)
    _norm(flow, weights.norms[2], weights.norms[3], sizes.eps, normed)
    logits[first:last] = product(normed, weights.head[0])


@compiled
def _norm(x, weight, bias, eps, y):
    """Normalize each row over D, scaled and shifted; y may be x."""
    width = weight.size
    for row in range(x.shape[0]):
        normalize(x[row, :width], eps, y[row, :width])
        for i in range(width):
            y[row, i] = y[row, i] * weight[i] + bias[i]


@compiled
def _mix(x, before, shares, mixed):
    """Write mixtures of x and of what it was at the token before, by the shares of each."""
    for part in range(mixed.shape[0]):
        for row in range(x.shape[0]):
            for i in range(before.shape[1]):
                mixed[part, row, i] = x[row, i] + (before[row, i] - x[row, i]) * shares[part, i]


@compiled
def _add(x, y, width):
    for row in range(x.shape[0]):
        for i in range(width):
            x[row, i] += y[row, i]


@compiled
def _square(values):
    for i in range(values.size):
        positive = max(values[i], ZERO)
        values[i] = positive * positive


@compiled
def _gate(values, bias):
    """Add a bias and take the logistic function."""
    for row in range(values.shape[0]):
        for i in range(bias.size):
            values[row, i] += bias[i]
    sigmoids(values.reshape(-1))


@compiled
def _attend(weights, sizes, layer, mixed, first_value, old, new, first):
    """Return what the heads say, gated [S, D], before the output matrix; write their new matrices."""
    vectors = weights.vectors[layer]
    r = product(mixed[_R], weights.receptance[layer])
    k = product(mixed[_K], weights.key[layer])
    v = product(mixed[_V], weights.value[layer])
    low = product(mixed[_W], weights.w1[layer])
    tangents(low.reshape(-1))
    decay = product(low, weights.w2[layer])
    _gate(decay, vectors[_W0])
    _decays(decay.reshape(-1))
    rate = product(product(mixed[_A], weights.a1[layer]), weights.a2[layer])
    _gate(rate, vectors[_A0])
    low = product(mixed[_G], weights.g1[layer])
    sigmoids(low.reshape(-1))
    gate = product(low, weights.g2[layer])
    if layer == 0:
        first_value[:] = v
    else:
        share = product(product(mixed[_V], weights.v1[layer]), weights.v2[layer])
        _gate(share, vectors[_V0])
        for row in range(v.shape[0]):
            for i in range(v.shape[1]):
                v[row, i] += share[row, i] * (first_value[row, i] - v[row, i])
    y = np.zeros_like(v)
    for row in range(v.shape[0]):
        for head in range(old.shape[2]):
            part = slice(head * sizes.head, (head + 1) * sizes.head)
            _head(
                (
                    r[row, part],
                    decay[row, part],
                    k[row, part],
                    v[row, part],
                    rate[row, part],
                    gate[row, part],
                ),
                vectors[:, part],
                sizes,
                old[layer, first + row, head],
                new[layer, first + row, head],
                y[row, part],
            )
    return y


@compiled
def _decays(values):
    for i in range(values.size):
        values[i] = -_DECAY_SCALE * values[i]
    exponentials(values)


@compiled
def _head(parts, vectors, sizes, old, new, y):
    """Write what one head says of one row, gated, and its new matrix."""
    r, decay, k, v, rate, gate = parts
    size = r.size
    lines, products = np.empty((5, size), np.float32), np.empty((2, size), np.float32)
    unit, write, key = lines[_UNIT], lines[_WRITE], lines[_KEY]
    for i in range(size):
        unit[i] = k[i] * vectors[_K_K, i]
    norm = max(np.sqrt(dot(unit, unit)), _LEAST_NORM)
    for i in range(size):
        unit[i] = unit[i] / norm
        write[i] = unit[i] * rate[i]
        key[i] = k[i] * (ONE + (rate[i] - ONE) * vectors[_K_A, i])
        lines[_DECAY, i], lines[_READ, i] = decay[i], r[i]
        products[0, i], products[1, i] = r[i] * key[i], vectors[_R_K, i]
    if size == HEAD:
        renew(old, new, lines, v, y)
    else:
        renew_any(old, new, lines, v, y)
    normalize(y, sizes.head_eps, y)
    bonus = dot(products[0], products[1])
    for i in range(size):
        said = y[i] * vectors[_HEADS, i] + vectors[_HEADS + 1, i]
        y[i] = (said + bonus * v[i]) * gate[i]


@compiled
def renew_any(old, new, lines, values, outputs):
    """Do what `renew` does, with the same bits, for heads of any size N.

    Args:
        old: [N, N] float32, the head's matrix before the token.
        new: [N, N] float32, receives the one after it.
        lines: [5, N] float32: unit, write, decay, key and receptance.
        values: [N] float32, what is added, by line.
        outputs: [N] float32, receives the product of each new line and the receptance.
    """
    unit, write, decay, key, read = lines[0], lines[1], lines[2], lines[3], lines[4]
    for value in range(values.size):
        was, line = old[value], new[value]
        removed, added = -dot(was, unit), values[value]
        for i in range(values.size):
            line[i] = fma(added, key[i], fma(removed, write[i], was[i] * decay[i]))
        outputs[value] = dot(line, read)

"""The product of a few rows with a matrix: packed weights, and sums in the order of the matrix's rows.

Each output is the sum over k of ``x[k] * W[k]`` from k = 0 on, one product after the other, however many rows
there are. The loops run over neighboring outputs, so the compiler does many at a time. Weights are read once
for all rows.

A matrix is packed in blocks of up to 256 outputs, padded with zeros: ``[blocks, K, width]``, as bits of
float32, or of bfloat16 where that holds every weight exactly, which halves what is read.
"""

from __future__ import annotations

import math

import numpy as np

from sttx_core.experts.arithmetic import compiled

_WIDEST = 256
_DEPTH = 8  # rows of the matrix that are multiplied before sums are stored again
_LANES = 32  # outputs are padded to a multiple of it
_LINE_1, _LINE_2, _LINE_3, _LINE_4, _LINE_5, _LINE_6, _LINE_7 = (
    np.uintp(n * _WIDEST) for n in range(1, _DEPTH)
)


def pack(matrices: np.ndarray, *, halved: bool) -> np.ndarray:
    """Return matrices ``[L, K, O]`` float32 packed: ``[L, blocks, K, width]`` of uint32, or uint16 if halved.

    >>> pack(np.ones((1, 3, 5), np.float32), halved=True).shape
    (1, 1, 8, 32)
    """
    layers, inputs, outputs = matrices.shape
    deep, wide = -(-inputs // _DEPTH) * _DEPTH, -(-outputs // _LANES) * _LANES
    width = math.gcd(wide, _WIDEST)
    bits = np.ascontiguousarray(matrices).view(np.uint32)
    packed = np.zeros((layers, deep, wide), np.uint16 if halved else np.uint32)
    packed[:, :inputs, :outputs] = bits >> 16 if halved else bits
    return np.ascontiguousarray(packed.reshape(layers, deep, wide // width, width).swapaxes(1, 2))


def is_halved_exactly(array: np.ndarray) -> bool:
    """Return whether bfloat16 holds all these float32 values exactly."""
    return not (array.view(np.uint32) & 0xFFFF).any()


@compiled
def product(x, matrix):
    """Return ``x`` [S, at least K] times a packed matrix: [S, outputs], padded with zeros.

    Rows of the matrix by which no x is multiplied but 0 are not read: they would change no bit of the sums.

    Args:
        x: float32; columns from K on are only read where the matrix is padded: any finite number will do.
        matrix: [blocks, K, width] uint16 or uint32.
    """
    blocks, deep, width = matrix.shape
    rows, outputs = x.shape[0], blocks * width
    used, inputs = _used(x, deep)
    y, tile = np.zeros(rows * outputs, np.float32), np.zeros(_DEPTH * _WIDEST, np.float32)
    bits, whole, wide = matrix.reshape(-1), tile.view(np.uint32), np.uintp(width)
    for block in range(blocks):
        for first in range(0, inputs.shape[1], _DEPTH):
            for line in range(min(_DEPTH, used.size - first)):
                start = np.uintp((block * deep + used[first + line]) * width)
                _widen(bits, start, whole, np.uintp(line * _WIDEST), wide)
            for row in range(0, rows - 1, 2):
                start = np.uintp(row * outputs + block * width)
                other = np.uintp((row + 1) * outputs + block * width)
                _add_two(inputs[row, first:], inputs[row + 1, first:], tile, y, start, other, wide)
            if rows % 2:
                start = np.uintp((rows - 1) * outputs + block * width)
                _add_one(inputs[rows - 1, first:], tile, y, start, wide)
    return y.reshape(rows, outputs)


@compiled
def _used(x, deep):
    """Return which columns are not 0 in all rows, and these columns, with zeros up to a multiple of 8."""
    used, count = np.empty(deep, np.int64), 0
    for k in range(deep):
        used[count] = k
        for row in range(x.shape[0]):
            if x[row, k] != 0:
                count += 1
                break
    inputs = np.zeros((x.shape[0], (count + _DEPTH - 1) // _DEPTH * _DEPTH), np.float32)
    for row in range(x.shape[0]):
        for i in range(count):
            inputs[row, i] = x[row, used[i]]
    return used[:count], inputs


# Below, indices are unsigned: numba lets negative ones count from the end, and then the loops stay slow.


@compiled
def _widen(bits, start, whole, line, width):
    """Write the bits of float32 numbers from their bits, or from the upper half of them."""
    if bits.itemsize == 2:
        for i in range(width):
            whole[line + i] = np.uint32(bits[start + i]) << 16
    else:
        for i in range(width):
            whole[line + i] = bits[start + i]


@compiled
def _add_one(x, tile, y, start, width):
    """Add the products of eight inputs, one after the other."""
    a, b, c, d, e, f, g, h = x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]
    for i in range(width):
        total = y[start + i] + a * tile[i]
        total += b * tile[i + _LINE_1]
        total += c * tile[i + _LINE_2]
        total += d * tile[i + _LINE_3]
        total += e * tile[i + _LINE_4]
        total += f * tile[i + _LINE_5]
        total += g * tile[i + _LINE_6]
        total += h * tile[i + _LINE_7]
        y[start + i] = total


@compiled
def _add_two(x, other, tile, y, start, second, width):
    """Add them for two rows, four at a time, so that the weights are loaded once for both."""
    for half in range(0, _DEPTH, 4):
        a, b, c, d = x[half], x[half + 1], x[half + 2], x[half + 3]
        e, f, g, h = other[half], other[half + 1], other[half + 2], other[half + 3]
        line = np.uintp(half * _WIDEST)
        for i in range(width):
            at = line + i
            p, q, r, s = tile[at], tile[at + _LINE_1], tile[at + _LINE_2], tile[at + _LINE_3]
            y[start + i] = (((y[start + i] + a * p) + b * q) + c * r) + d * s
            y[second + i] = (((y[second + i] + e * p) + f * q) + g * r) + h * s

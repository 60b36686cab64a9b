"""The product of a few rows with a matrix: packed weights, and sums in the order of the matrix's rows.

Each output is the sum over k of ``x[k] * W[k]`` from k = 0 on, one fused multiply-add after the other,
however many rows there are. Weights are read once for up to 16 rows.

A matrix is packed in panels of 16 outputs, padded with zeros: ``[panels, K, 16]``, as bits of float32, or of
bfloat16 where that holds every weight exactly, which halves what is read.
"""

from __future__ import annotations

import numpy as np

from sttx_core.experts.arithmetic import compiled
from sttx_train.fused.lanes import LANES, tile

_MOST_ROWS = 16
_PANELS = 2  # panels are padded to a multiple of it
_one, _one_wide = tile(1, 2), tile(1, 8)
_four, _four_wide = tile(4, 2), tile(4, 4)
_eight, _sixteen = tile(8, 2), tile(16, 1)


def pack(matrices: np.ndarray, *, halved: bool) -> np.ndarray:
    """Return matrices ``[L, K, O]`` float32 packed: ``[L, panels, K, 16]`` of uint32, or uint16 if halved.

    >>> pack(np.ones((1, 3, 5), np.float32), halved=True).shape
    (1, 2, 3, 16)
    """
    layers, inputs, outputs = matrices.shape
    width = _PANELS * LANES
    wide = -(-outputs // width) * width
    bits = np.ascontiguousarray(matrices).view(np.uint32)
    packed = np.zeros((layers, inputs, wide), np.uint16 if halved else np.uint32)
    packed[..., :outputs] = bits >> 16 if halved else bits
    return np.ascontiguousarray(packed.reshape(layers, inputs, wide // LANES, LANES).swapaxes(1, 2))


def is_halved_exactly(array: np.ndarray) -> bool:
    """Return whether bfloat16 holds all these float32 values exactly."""
    return not (array.view(np.uint32) & 0xFFFF).any()


@compiled
def product(x, matrix):
    """Return ``x`` [S, at least K] times a packed matrix: [S, outputs], padded with zeros.

    Rows of the matrix by which no x is multiplied but 0 are not read: they would change no bit of the sums.

    Args:
        x: float32; columns from K on are not read.
        matrix: [panels, K, 16] uint16 or uint32, contiguous.
    """
    rows, (panels, deep, _) = x.shape[0], matrix.shape
    y = np.empty((rows + _padding(rows), panels * LANES), np.float32)
    for first in range(0, rows, _MOST_ROWS):
        some = x[first : first + _MOST_ROWS]
        inputs, used, count = _used(some, deep)
        _multiply(inputs, used, count, matrix, y, first)
    return y[:rows]


@compiled
def _at_a_time(rows):
    """Return how many rows are multiplied at a time, of which some are padding."""
    return 1 if rows == 1 else 4 if rows <= 4 else 8 if rows <= 8 else _MOST_ROWS


@compiled
def _padding(rows):
    """Return how many rows of zeros are multiplied beside these."""
    last = rows % _MOST_ROWS
    return _at_a_time(last) - last if last else 0


@compiled
def _used(x, deep):
    """Return the columns [count, rows] that are not 0 in all rows, which these are, and their count."""
    rows = x.shape[0]
    inputs, used, count = np.zeros((deep, _at_a_time(rows)), np.float32), np.empty(deep, np.int64), 0
    for k in range(deep):
        some = False
        for row in range(rows):
            inputs[count, row] = x[row, k]
            some |= x[row, k] != 0
        used[count] = k
        count += some
    return inputs, used, count


@compiled
def _multiply(inputs, used, count, matrix, y, first):
    """Write the products of rows that are multiplied at a time, all outputs of them."""
    panels, deep, _ = matrix.shape
    rows, width = inputs.shape[1], y.shape[1]
    panel = 0
    if rows == 1:
        while panel + 8 <= panels:
            _one_wide(inputs, used, count, matrix, panel, deep, y, first, width)
            panel += 8
        while panel < panels:
            _one(inputs, used, count, matrix, panel, deep, y, first, width)
            panel += 2
    elif rows == 4:
        while panel + 4 <= panels:
            _four_wide(inputs, used, count, matrix, panel, deep, y, first, width)
            panel += 4
        while panel < panels:
            _four(inputs, used, count, matrix, panel, deep, y, first, width)
            panel += 2
    elif rows == 8:
        while panel < panels:
            _eight(inputs, used, count, matrix, panel, deep, y, first, width)
            panel += 2
    else:
        while panel < panels:
            _sixteen(inputs, used, count, matrix, panel, deep, y, first, width)
            panel += 1

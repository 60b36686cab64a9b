"""The product of a few rows with a matrix: packed weights, and sums in the order of the matrix's rows.

Each output is the sum over k of ``x[k] * W[k]`` from k = 0 on, one fused multiply-add after the other,
however many rows there are. Eight rows are multiplied at a time, and then the next eight with weights that
are still in the cache.

A matrix is packed in panels of 16 outputs, padded with zeros: ``[panels, K, 16]``, as bits of float32, or of
bfloat16 where that holds every weight exactly, which halves what is read.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sttx_core.experts.arithmetic import compiled
from sttx_train.fused.lanes import LANES, tile

_BLOCK = 64 * LANES  # rows or outputs that are packed at a time
_MOST_ROWS = 8
_PANELS = 2  # panels are padded to a multiple of it
_one, _one_wide = tile(1, 2), tile(1, 8)
_four, _four_wide = tile(4, 2), tile(4, 4)
_eight = tile(8, 2)


def pack(matrices: Sequence[np.ndarray | None], *, halved: bool) -> np.ndarray:
    """Return matrices ``[K, O]`` float32 of one shape packed: ``[L, panels, K, 16]`` of uint32, or uint16.

    They are packed a block of outputs at a time, so that little more than the result is in memory.

    Args:
        matrices: of each layer; None stands for zeros.
        halved: whether bfloat16 holds all weights exactly, of which the upper halves are kept.

    >>> pack([np.ones((3, 5), np.float32)], halved=True).shape
    (1, 2, 3, 16)
    """
    inputs, outputs = next(matrix.shape for matrix in matrices if matrix is not None)
    panels = -(-outputs // (_PANELS * LANES)) * _PANELS
    packed = np.zeros((len(matrices), panels, inputs, LANES), np.uint16 if halved else np.uint32)
    for layer, matrix in ((layer, matrix) for layer, matrix in enumerate(matrices) if matrix is not None):
        for start in range(0, outputs, _BLOCK):
            bits = np.ascontiguousarray(matrix[:, start : start + _BLOCK]).view(np.uint32)
            wide = np.zeros((inputs, -(-bits.shape[1] // LANES) * LANES), packed.dtype)
            wide[:, : bits.shape[1]] = bits >> 16 if halved else bits
            first = start // LANES
            blocks = wide.reshape(inputs, -1, LANES).swapaxes(0, 1)
            packed[layer, first : first + len(blocks)] = blocks
    return packed


def is_halved_exactly(matrix: np.ndarray) -> bool:
    """Return whether bfloat16 holds all float32 values of a matrix exactly."""
    parts = (np.ascontiguousarray(matrix[row : row + _BLOCK]) for row in range(0, len(matrix), _BLOCK))
    return not any((part.view(np.uint32) & 0xFFFF).any() for part in parts)


@compiled
def product(x, matrix):
    """Return ``x`` [S, at least K] times a packed matrix: [S, outputs], padded with zeros.

    Rows of the matrix by which no x is multiplied but 0 are not read: they would change no bit of the sums.

    Args:
        x: float32; columns from K on are not read.
        matrix: [panels, K, 16] uint16 or uint32, contiguous.
    """
    rows, (panels, deep, _) = x.shape[0], matrix.shape
    step = _at_a_time(rows)
    groups = (rows + step - 1) // step
    y = np.empty((groups * step, panels * LANES), np.float32)
    inputs, used = np.zeros((groups, deep * step), np.float32), np.empty((groups, deep), np.int64)
    counts = np.empty(groups, np.int64)
    for group in range(groups):
        counts[group] = _used(x[group * step : (group + 1) * step], step, inputs[group], used[group])
    panel = 0
    while panel < panels:
        wide = _panels_at_a_time(step, panels - panel)
        for group in range(groups):
            some = inputs[group], used[group], counts[group], matrix, panel, deep, y, group * step, y.shape[1]
            if step == 1 and wide == 8:
                _one_wide(*some)
            elif step == 1:
                _one(*some)
            elif step == 4 and wide == 4:
                _four_wide(*some)
            elif step == 4:
                _four(*some)
            else:
                _eight(*some)
        panel += wide
    return y[:rows]


@compiled
def _at_a_time(rows):
    """Return how many rows are multiplied at a time, of which some may be padding."""
    return 1 if rows == 1 else 4 if rows <= 4 else _MOST_ROWS


@compiled
def _panels_at_a_time(rows, panels):
    """Return how many of the panels that are left are multiplied at a time with so many rows."""
    most = 8 if rows == 1 else 4 if rows == 4 else 2
    return most if panels >= most else _PANELS


@compiled
def _used(x, step, inputs, used):
    """Write which columns of x are not 0 in all rows, and these columns [count, step]; return their count."""
    deep, count = used.size, 0
    some = np.zeros(deep, np.bool_)
    for row in range(x.shape[0]):
        line = x[row]
        for k in range(deep):
            some[k] |= line[k] != 0
    for k in range(deep):
        used[count] = k
        count += some[k]
    # Unsigned indices are faster: numba lets negative ones count from the end.
    for row in range(x.shape[0]):
        line, place = x[row], np.uintp(row)
        for i in range(count):
            inputs[place] = line[np.uintp(used[i])]
            place += np.uintp(step)
    return count

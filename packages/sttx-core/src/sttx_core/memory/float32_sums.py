"""Sums of float32 in the order in which PyTorch adds them on the CPU: the same bits.

A sum in float32 depends on its order, and a bound of 170 is printed with more digits than float32 has.
"""

import numpy as np

from sttx_core.memory.draws import Floats

_LANES = 8  # numbers that are added side by side
_ROWS = 4  # vectors of lanes that are added side by side
_GROUP = 16  # numbers that are added before their sum is passed on
_LEVELS = 4
_MOST = _GROUP**_LEVELS


def sum_rows(values: Floats) -> Floats:
    """Return the sum over the first axis, of 1 to 65,535 rows, as `torch.sum(values, 0)` adds."""
    assert 0 < len(values) < _MOST, len(values)
    parts, rest = [], values
    for _ in range(_LEVELS - 1):
        whole = len(rest) // _GROUP * _GROUP
        parts.append(_in_order(rest[whole:]))
        groups = rest[:whole].reshape(-1, _GROUP, *values.shape[1:])
        rest = np.add.accumulate(groups, axis=1)[:, -1]
    parts.append(_in_order(rest))
    return _in_order(np.stack(parts))


def sum_all(values: Floats) -> np.float32:
    """Return the sum of all values, a multiple of 8, as `torch.sum` adds those of a contiguous tensor."""
    lanes = values.reshape(-1, _LANES)
    whole = len(lanes) // _ROWS * _ROWS
    parts = np.zeros((_ROWS, _LANES), np.float32)
    if whole:
        parts = sum_rows(lanes[:whole].reshape(-1, _ROWS, _LANES))
    parts[0] = _in_order(np.concatenate([parts[:1], lanes[whole:]]))
    return np.float32(_in_order(_in_order(parts)))


def normalized(vectors: Floats) -> Floats:
    """Return vectors of 32 values, shape (N, 32), divided by their length, as `v / v.norm()` does."""
    lanes = (vectors * vectors).reshape(-1, _ROWS, _LANES)
    squares = np.add.accumulate(np.add.accumulate(lanes, axis=1)[:, -1], axis=1)[:, -1]
    return (vectors / np.sqrt(squares)[:, None]).astype(np.float32, copy=False)


def _in_order(values: Floats) -> Floats:
    """Return the sum over the first axis, added one after the other; 0 if it is empty."""
    if not len(values):
        return np.zeros(values.shape[1:], np.float32)
    return np.add.accumulate(values, axis=0)[-1]

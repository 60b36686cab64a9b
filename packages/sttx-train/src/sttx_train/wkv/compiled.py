"""The wkv recurrence token by token, compiled: a CPU's fastest way where no gradient is ever wanted.

The state of a head stays in the cache while its tokens pass. The order of operations is fixed, so that a row
gives the same bits alone, in any batch and with any number of threads. The state here is [key, value], the
transpose of the public layout, so that the inner loops run over neighboring numbers.

Legend: B rows, T steps, H heads, N head size.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from sttx_core.experts.kept import compiled_once


def wkv_compiled(
    r: Tensor, log_w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Same contract as :func:`~sttx_train.wkv.recurrent.wkv_recurrent`, in float32 on a CPU, no gradients."""
    B, T, H, N = r.shape
    inputs = [_array(x) for x in (r, torch.exp(log_w), k, v, a, b)]
    carried = _array(state.transpose(-1, -2).clone(memory_format=torch.contiguous_format))
    y = np.empty((B, T, H, N), np.float32)
    workers = min(torch.get_num_threads(), B * H)
    bounds = [B * H * part // workers for part in range(workers + 1)]
    if workers == 1:
        _read(*inputs, carried, y, 0, B * H)
    else:
        with ThreadPoolExecutor(workers) as pool:
            list(
                pool.map(
                    lambda part: _read(*inputs, carried, y, *part), zip(bounds, bounds[1:], strict=False)
                )
            )
    return torch.from_numpy(y), torch.from_numpy(carried).transpose(-1, -2).contiguous()


def _array(x: Tensor) -> np.ndarray:
    return x.detach().contiguous().numpy()


def _heads(r, w, k, v, a, b, state, y, first, last):
    """Read all tokens with the heads from ``first`` to ``last - 1``, counted over all rows."""
    steps, heads, size = r.shape[1], r.shape[2], r.shape[3]
    removed = np.empty(size, np.float32)
    for pair in range(first, last):
        row, head = pair // heads, pair % heads
        matrix = state[row, head]
        for step in range(steps):
            r_t, w_t, k_t = r[row, step, head], w[row, step, head], k[row, step, head]
            v_t, a_t, b_t = v[row, step, head], a[row, step, head], b[row, step, head]
            y_t = y[row, step, head]
            removed[:] = 0
            y_t[:] = 0
            for key in range(size):
                line, weight = matrix[key], a_t[key]
                for value in range(size):
                    removed[value] += line[value] * weight
            for key in range(size):
                line, keep, write, add, ask = matrix[key], w_t[key], b_t[key], k_t[key], r_t[key]
                for value in range(size):
                    new = line[value] * keep + removed[value] * write + v_t[value] * add
                    line[value] = new
                    y_t[value] += new * ask


_read: Callable[..., None] = compiled_once(_heads)

"""Products with matrices that do not learn: by torch, or by the processor's matrix unit where it is as exact.

Legend: M rows, K inputs, O outputs.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sttx_train.fused.products import is_halved_exactly
from sttx_train.fused.tiles import ROWS, fits, multiplying, pack, tiles_reason
from sttx_train.parts import parts_of, run_parts

MOST_TILED = 2**28
"""Most weights of a model that are packed in tiles, forward and back: 1 GiB."""

_LEAST = 2**14  # numbers of a matrix: with smaller ones torch is as fast


class Matrix:
    """A matrix that does not learn.

    Args:
        dense: ``[K, O]`` float32 on the CPU.
        tiled: use the matrix unit, if there is one and bfloat16 holds all weights.
    """

    def __init__(self, dense: Tensor, *, tiled: bool) -> None:
        self.dense = dense
        self._tiled = tiled and tiles_reason() is None and dense.numel() >= _LEAST and fits(*dense.shape)

    @cached_property
    def tiles(self) -> np.ndarray | None:
        """The matrix as the unit reads it; None if torch multiplies."""
        return self._packed(self.dense) if self._tiled and self._is_exact else None

    @cached_property
    def tiles_back(self) -> np.ndarray | None:
        """Its transpose, in the same way."""
        return self._packed(self.dense.t()) if self._tiled and self._is_exact else None

    def __call__(self, x: Tensor, *, plus: Tensor | None = None) -> Tensor:
        """Return the product with ``x [M, K]``, added to ``plus [M, O]``."""
        return _product(x, self.dense, self.tiles, plus, None)

    def back(self, d: Tensor, *, out: Tensor | None = None) -> Tensor:
        """Return the gradient by x, given that by the product ``[M, O]``.

        Args:
            d: the gradient.
            out: ``[M, K]`` receives the result, if it is given.
        """
        return _product(d, self.dense.t(), self.tiles_back, None, out)

    def differentiable(self, x: Tensor) -> Tensor:
        """Return the product with ``x [M, K]``, differentiable in x."""
        return _Differentiable.apply(x, self)

    @cached_property
    def _is_exact(self) -> bool:
        return is_halved_exactly(np.ascontiguousarray(self.dense.numpy()))

    @staticmethod
    def _packed(dense: Tensor) -> np.ndarray:
        return pack(np.ascontiguousarray(dense.numpy()))


class _Differentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Matrix) -> Tensor:
        ctx.matrix = matrix
        return matrix(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return ctx.matrix.back(d), None


def _product(
    x: Tensor, dense: Tensor, tiles: np.ndarray | None, plus: Tensor | None, out: Tensor | None
) -> Tensor:
    if tiles is None:
        return torch.mm(x, dense, out=out) if plus is None else torch.addmm(plus, x, dense)
    rows = len(x)
    blocks = -(-rows // ROWS)
    direct = out is not None and rows == blocks * ROWS
    found = out if direct else x.new_empty(blocks * ROWS, dense.shape[1])
    assert found is not None
    if plus is not None:
        found[:rows] = plus
    arguments = (x.detach().contiguous().numpy(), tiles, found.numpy(), plus is not None)
    parts = parts_of(blocks, torch.get_num_threads())
    run_parts(multiplying(), [(*arguments, *part) for part in parts])
    if out is None:
        return found[:rows]
    return out if direct else out.copy_(found[:rows])

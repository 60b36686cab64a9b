"""Tensors by shape and dtype alone, to describe files without reading their values. Loads no torch."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol, Self, TypeVar


class TensorLike(Protocol):
    """What renaming needs of a tensor; `torch.Tensor` and `TensorInfo` have it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of each dimension."""
        ...

    def t(self) -> Self:
        """Return the transposed matrix."""
        ...

    def flatten(self) -> Self:
        """Return the same values in one dimension."""
        ...


AnyTensor = TypeVar("AnyTensor", bound=TensorLike)


class TensorInfo(NamedTuple):
    """The shape and the dtype of a tensor, without its values.

    Attributes:
        shape: the size of each dimension.
        dtype: torch's name for the data type, such as ``bfloat16``.

    >>> TensorInfo((2, 3), "float32").t().shape, TensorInfo((1, 1, 300), "int8").flatten().shape
    ((3, 2), (300,))
    """

    shape: tuple[int, ...]
    dtype: str

    def numel(self) -> int:
        """Return the number of values."""
        return math.prod(self.shape)

    def t(self) -> TensorInfo:
        """Return what the transposed matrix would be."""
        return TensorInfo(self.shape[::-1], self.dtype)

    def flatten(self) -> TensorInfo:
        """Return what the same values in one dimension would be."""
        return TensorInfo((self.numel(),), self.dtype)

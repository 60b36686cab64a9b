"""Tensors by shape and dtype alone, to describe files without reading their values. Loads no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, Self, TypeVar

ITEM_BYTES = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8_e4m3fn": 1,
    "float8_e4m3fnuz": 1,
    "float8_e5m2": 1,
    "float8_e5m2fnuz": 1,
    "float8_e8m0fnu": 1,
    "complex64": 8,
    "complex128": 16,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint64": 8,
    "uint32": 4,
    "uint16": 2,
    "uint8": 1,
    "bool": 1,
}
"""Bytes of one value, by torch's name of the data type."""

_MOST_VALUES = 2**63 - 1
_MOST_DIMENSIONS = 64


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

    def unbind(self) -> Sequence[Self]:
        """Return the parts along the first dimension."""
        ...

    def new_zeros(self, size: tuple[int, ...]) -> Self:
        """Return zeros of a shape, in the same dtype."""
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

    def nbytes(self) -> int:
        """Return the bytes of the values."""
        return self.numel() * ITEM_BYTES[self.dtype]

    def t(self) -> TensorInfo:
        """Return what the transposed matrix would be."""
        return TensorInfo(self.shape[::-1], self.dtype)

    def flatten(self) -> TensorInfo:
        """Return what the same values in one dimension would be."""
        return TensorInfo((self.numel(),), self.dtype)

    def unbind(self) -> tuple[TensorInfo, ...]:
        """Return what the parts along the first dimension would be."""
        return (TensorInfo(self.shape[1:], self.dtype),) * self.shape[0]

    def new_zeros(self, size: tuple[int, ...]) -> TensorInfo:
        """Return what zeros of a shape in the same dtype would be."""
        return TensorInfo(size, self.dtype)


def checked_shape(shape: Any) -> tuple[int, ...]:
    """Return a tensor's shape; raise a ValueError if torch, which counts in 64 bits, cannot have it.

    >>> checked_shape([2, 3])
    (2, 3)
    """
    if not isinstance(shape, list | tuple) or len(shape) > _MOST_DIMENSIONS:
        raise ValueError("a shape that no tensor has")
    if not all(type(size) is int and 0 <= size <= _MOST_VALUES for size in shape):
        raise ValueError("a size that no tensor has")
    if math.prod(shape) > _MOST_VALUES:
        raise ValueError("a shape that no tensor has")
    return tuple(shape)

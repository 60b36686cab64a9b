"""Numbers of 8 and of 4 bits with a scale for each group of a row, and products with them.

A number is ``scale * code``, with codes from -128 to 127 or from -8 to 7. The number of a group that is
furthest from 0 has the lowest code, and the scale its sign. Scales are values of bfloat16.

Legend: R rows, C columns, G groups of a row.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_MOST_ROWS = 16
"""Of more rows, expanding the codes first is faster than torch's kernel (measured with AVX-512)."""


def groups_of(columns: int, group: int) -> int:
    """Return the number of groups of a row."""
    return -(-columns // group) if group else 1


def scales_of(matrix_RC: Tensor, bits: int, group: int) -> Tensor:
    """Return the scale ``[R, G]`` of each group."""
    grouped = _grouped(matrix_RC, group)
    furthest = grouped.gather(-1, grouped.abs().argmax(-1, keepdim=True)).squeeze(-1)
    return (furthest / -(1 << (bits - 1))).bfloat16().to(matrix_RC.dtype)


def codes_of(matrix_RC: Tensor, scales_RG: Tensor, bits: int, group: int) -> Tensor:
    """Return the nearest codes ``[R, C]`` of the numbers, as int8."""
    scales = _spread(scales_RG, matrix_RC.shape[1], group)
    scaled = torch.where(scales == 0, 0, matrix_RC / torch.where(scales == 0, 1, scales))
    most = 1 << (bits - 1)
    return scaled.round().clamp(-most, most - 1).to(torch.int8)


def numbers_of(codes_RC: Tensor, scales_RG: Tensor, group: int) -> Tensor:
    """Return the numbers ``[R, C]``, in the dtype of the scales."""
    return codes_RC.to(scales_RG.dtype) * _spread(scales_RG, codes_RC.shape[1], group)


def rounded(matrix_RC: Tensor, bits: int, group: int) -> Tensor:
    """Return the numbers that codes can hold; the gradient passes as if nothing were rounded."""
    with torch.no_grad():
        scales = scales_of(matrix_RC, bits, group)
        nearest = numbers_of(codes_of(matrix_RC, scales, bits, group), scales, group)
    return matrix_RC + (nearest - matrix_RC).detach()


def ordered_product(left_OR: Tensor, right_RI: Tensor) -> Tensor:
    """Return the product of two matrices; without gradients its sums have a fixed order.

    The order of a library's product differs from machine to machine, and archives need the same bits.
    """
    if torch.is_grad_enabled() and (left_OR.requires_grad or right_RI.requires_grad):
        return left_OR @ right_RI
    total = left_OR.new_zeros(left_OR.shape[0], right_RI.shape[1])
    for index in range(left_OR.shape[1]):
        total += left_OR[:, index : index + 1] * right_RI[index]
    return total


def pack4(codes_RC: Tensor) -> Tensor:
    """Return codes of 4 bits, two in a byte, the lower half first.

    >>> unpack4(pack4(torch.tensor([[-8, 7, 3]], dtype=torch.int8)), 3)
    tensor([[-8,  7,  3]], dtype=torch.int8)
    """
    even = F.pad(codes_RC, (0, codes_RC.shape[1] % 2)).to(torch.int16) + 8
    return (even[:, 0::2] | even[:, 1::2] << 4).to(torch.uint8)


def unpack4(packed: Tensor, columns: int) -> Tensor:
    """Return the codes ``[R, columns]`` of `pack4`."""
    both = torch.stack([packed & 15, packed >> 4], dim=-1).flatten(-2)
    return (both[..., :columns].to(torch.int16) - 8).to(torch.int8)


def has_kernel(x: Tensor, codes_RC: Tensor, scales_RG: Tensor) -> bool:
    """Return whether torch multiplies by the codes of 8 bits themselves, as fast as by expanded ones.

    It does for bfloat16 on a CPU, with one scale a row. Its kernel for float32 took 20 to 50 times as long.
    """
    return (
        x.device.type == "cpu"
        and x.dtype == torch.bfloat16
        and codes_RC.dtype == torch.int8
        and scales_RG.shape[1] == 1
        and not (torch.is_grad_enabled() and x.requires_grad)
    )


def is_fast(x: Tensor) -> bool:
    """Return whether the rows are so few that the kernel is faster than expanding the codes each time."""
    return x.numel() <= _MOST_ROWS * x.shape[-1]


def product(x: Tensor, codes_RC: Tensor, scales_RG: Tensor) -> Tensor:
    """Return ``x`` ``[..., C]`` times the transposed matrix, by torch's kernel."""
    flat = x.reshape(-1, x.shape[-1])
    scales = scales_RG[:, 0].to(x.dtype)
    return torch.ops.aten._weight_int8pack_mm(flat, codes_RC, scales).view(*x.shape[:-1], -1)


def _grouped(matrix_RC: Tensor, group: int) -> Tensor:
    """Return the numbers by group ``[R, G, C / G]``, the last one padded with zeros."""
    columns = matrix_RC.shape[1]
    groups = groups_of(columns, group)
    wide = groups * (group or columns)
    return F.pad(matrix_RC, (0, wide - columns)).view(matrix_RC.shape[0], groups, -1)


def _spread(scales_RG: Tensor, columns: int, group: int) -> Tensor:
    """Return the scale of each number, ``[R, C]``, or ``[R, 1]`` for one scale a row."""
    if scales_RG.shape[1] == 1:
        return scales_RG
    return scales_RG.repeat_interleave(group, dim=1)[:, :columns]

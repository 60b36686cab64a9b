"""Products with a processor's matrix unit (Intel AMX), as exact as float32 ones, of weights in bfloat16.

A float32 number is the sum of three bfloat16 numbers: its upper 8 bits, the next 8, and the rest. So a
product with a matrix that bfloat16 holds is the sum of three products of bfloat16 matrices, for which the
unit takes half the time of one in float32. It adds in float32: nothing is rounded but the sums. The sums of a
row have the same order in every batch.

Legend: M rows, K inputs, O outputs. A tile has 16 rows of 64 bytes.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any, cast

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sttx_core.experts.arithmetic import compiled
from sttx_core.experts.kept import compiled_once, digest_of
from sttx_train.fused import lanes
from sttx_train.fused.lanes import start, steps

ROWS = 32
"""Rows and outputs are multiplied so many at a time, two tiles."""
DEEP = 32
"""Inputs of a tile."""

_PIECES = 3
_PARTS = 8  # tiles of inputs that are multiplied before the next ones, so that they stay in the caches
_BLOCKS = 8  # blocks of rows that are multiplied before the next ones
_FEATURES = ("amx-tile", "amx-bf16")
_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18  # Linux's asm/prctl.h and Intel's XSAVE
_BYTES = 64
_TILE = 16 * _BYTES
_CONFIG = np.array([1] + [0] * 15 + [_BYTES, 0] * 8 + [0] * 16 + [16] * 8 + [0] * 8, np.uint8)
_generated = cast(Any, intrinsic)
_BYTE = ir.IntType(8)
_WORDS = ir.VectorType(ir.IntType(32), lanes.LANES)
_HALVES = ir.VectorType(ir.IntType(16), lanes.LANES)


@cache
def tiles_reason() -> str | None:
    """Return why the matrix unit cannot be used, or None if it can be."""
    features = llvmlite.binding.get_host_cpu_features()
    if sys.platform != "linux" or not all(features.get(name) for name in _FEATURES):
        return "the processor has no AMX, or Linux does not say so"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA):
        return "Linux does not permit AMX"
    return None


def pack(matrix: np.ndarray) -> np.ndarray:
    """Return a matrix ``[K, O]`` float32 that bfloat16 holds, in tiles: ``[O / 16, K / 32, 16, 32]`` uint16.

    Line i of a tile has rows 2 i and 2 i + 1 of the matrix, column by column.

    >>> pack(np.ones((32, 64), np.float32)).shape
    (4, 1, 16, 32)
    """
    deep, wide = matrix.shape
    bits = np.ascontiguousarray(matrix).view(np.uint32) >> 16
    tiles = bits.astype(np.uint16).reshape(deep // DEEP, 16, 2, wide // 16, 16)
    return np.ascontiguousarray(tiles.transpose(3, 0, 1, 4, 2)).reshape(wide // 16, deep // DEEP, 16, 32)


def fits(deep: int, wide: int) -> bool:
    """Return whether a matrix has a size that can be multiplied."""
    return deep % DEEP == 0 and wide % ROWS == 0 and deep > 0 and wide > 0


@compiled
def _split_all(x, first, count, part, parts, pieces):
    """Write rows of x, of some parts of its inputs, as sums of pieces; rows beyond the last are 0."""
    deep = x.shape[1] // DEEP
    for row in range(count):
        block, line = row // ROWS, row % ROWS
        for i in range(parts):
            if first + row >= x.shape[0]:
                pieces[block, i, :, line] = 0
                continue
            place = ((block * pieces.shape[1] + i) * _PIECES * ROWS + line) * DEEP
            _split(x, ((first + row) * deep + part + i) * DEEP, pieces, place, ROWS * DEEP)


@cache
def multiplying() -> Any:
    """Return the compiled product: `multiply` of this file."""
    sources = digest_of(lanes.__file__, __file__)

    def multiply(x, tiles, y, add, first, last):
        """Write the product of x and a matrix, for the blocks of 32 rows from ``first`` to ``last - 1``.

        Args:
            x: [M, K] float32.
            tiles: from `pack`.
            y: [at least M, a multiple of 32; O] float32.
            add: add the product to y.
            first: the first block.
            last: the block after the last one.
        """
        wide, deep = tiles.shape[0], tiles.shape[1]
        pieces = np.empty((min(_BLOCKS, last - first), min(_PARTS, deep), _PIECES, ROWS, DEEP), np.uint16)
        _configure(_CONFIG)
        for part in range(0, deep if sources else 0, _PARTS):
            parts = min(_PARTS, deep - part)
            for group in range(first, last, _BLOCKS):
                blocks = min(_BLOCKS, last - group)
                _split_all(x, group * ROWS, blocks * ROWS, part, parts, pieces)
                for column in range(0, wide, 2):
                    right = (column * deep + part) * 16 * DEEP
                    for block in range(blocks):
                        place, left = ((group + block) * ROWS * wide + column) * 16, block * pieces[0].size
                        keep = add or part > 0
                        _block(pieces, left, tiles, right, deep, parts, y, place, wide * 16, keep)
        _release()

    return compiled_once(multiply)


@_generated
def _split(typingctx, x, index, pieces, place, stride):
    """Write 32 numbers as the sum of three pieces of 8 bits each.

    Args:
        typingctx: numba's.
        x: float32, contiguous.
        index: of the first number.
        pieces: uint16, contiguous: receives the upper halves of the pieces.
        place: of the first number in the first piece.
        stride: from one piece to the next.
    """

    def generate(context, builder, signature, args):
        x, pieces = (start(context, builder, signature.args[i], args[i]) for i in (0, 2))
        index, place, stride = args[1], args[3], args[4]
        for offset in range(0, DEEP, lanes.LANES):
            shift = index.type(offset)
            rest = lanes.load(builder, x, builder.add(index, shift))
            to = builder.add(place, shift)
            for _ in range(_PIECES):
                bits = builder.bitcast(rest, _WORDS)
                upper = builder.and_(bits, ir.Constant(_WORDS, [0xFFFF0000] * lanes.LANES))
                halves = builder.trunc(builder.lshr(bits, ir.Constant(_WORDS, [16] * lanes.LANES)), _HALVES)
                at = builder.bitcast(builder.gep(pieces, [to]), _HALVES.as_pointer())
                builder.store(halves, at, align=2)
                rest = builder.fsub(rest, builder.bitcast(upper, rest.type))
                to = builder.add(to, stride)
        return context.get_dummy_value()

    return types.void(x, types.intp, pieces, types.intp, types.intp), generate


@_generated
def _configure(typingctx, config):
    """Use eight tiles, as 64 bytes say."""

    def generate(context, builder, signature, args):
        _call(builder, "ldtilecfg", _bytes(builder, start(context, builder, signature.args[0], args[0])))
        return context.get_dummy_value()

    return types.void(config), generate


@_generated
def _release(typingctx):
    """Leave the unit as if it had not been used."""

    def generate(context, builder, signature, args):
        _call(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), generate


@_generated
def _block(typingctx, pieces, first, tiles, second, deep, parts, y, place, width, keep):
    """Write the product of 32 rows with 32 columns.

    Args:
        typingctx: numba's.
        pieces: [parts, 3, 2, 16, 32] uint16 for each block of rows, contiguous.
        first: of the numbers of this block of rows.
        tiles: [O / 16, K / 32, 16, 32] uint16, contiguous.
        second: of the numbers of the first column's tiles.
        deep: tiles of a column of the matrix.
        parts: tiles of inputs to multiply.
        y: float32, contiguous.
        place: of the first number of y.
        width: O.
        keep: add the product to y.
    """

    def generate(context, builder, signature, args):
        pieces, tiles, y = (
            _bytes(builder, start(context, builder, signature.args[i], args[i])) for i in (0, 2, 6)
        )
        first, second, deep, parts, place, width, keep = (args[i] for i in (1, 3, 4, 5, 7, 8, 9))
        number = width.type
        line, whole = builder.mul(width, number(4)), builder.mul(deep, number(_TILE))
        left = builder.gep(pieces, [builder.mul(first, number(2))])
        right = builder.gep(tiles, [builder.mul(second, number(2))])
        corner = builder.gep(y, [builder.mul(place, number(4))])
        corners = [
            builder.gep(corner, [builder.add(builder.mul(line, number(16 * row)), number(_BYTES * column))])
            for row in (0, 1)
            for column in (0, 1)
        ]
        with builder.if_else(keep) as (kept, fresh):
            with kept:
                for tile, at in enumerate(corners):
                    _call(builder, "tileloadd64", _BYTE(tile), at, line)
            with fresh:
                for tile in range(4):
                    _call(builder, "tilezero", _BYTE(tile))
        with steps(builder, parts, 1) as part:
            for column in (0, 1):
                at = builder.add(builder.mul(part, number(_TILE)), builder.mul(whole, number(column)))
                _call(builder, "tileloadd64", _BYTE(6 + column), builder.gep(right, [at]), number(_BYTES))
            for piece in reversed(range(_PIECES)):
                for row in (0, 1):
                    at = builder.add(
                        builder.mul(part, number(2 * _PIECES * _TILE)), number((2 * piece + row) * _TILE)
                    )
                    _call(builder, "tileloadd64", _BYTE(4 + row), builder.gep(left, [at]), number(_BYTES))
                for tile in range(4):
                    _call(builder, "tdpbf16ps", _BYTE(tile), _BYTE(4 + tile // 2), _BYTE(6 + tile % 2))
        for tile, at in enumerate(corners):
            _call(builder, "tilestored64", _BYTE(tile), at, line)
        return context.get_dummy_value()

    kinds = (pieces, types.intp, tiles, *[types.intp] * 3, y, types.intp, types.intp, types.boolean)
    return types.void(*kinds), generate


def _bytes(builder, pointer):
    return builder.bitcast(pointer, _BYTE.as_pointer())


def _call(builder, name, *args):
    """Call one of LLVM's functions for Intel's processors."""
    kind = ir.FunctionType(ir.VoidType(), [arg.type for arg in args])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), args)

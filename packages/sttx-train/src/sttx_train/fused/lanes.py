"""Code for 16 float32 numbers at a time, which numba's loops do not express, written as LLVM's instructions.

Products are added by fused multiply-adds: IEEE 754 rounds each once, so they give the same bits on every
machine. Where a processor has none, LLVM calls the C library's `fmaf`, which is exact, and slow.

Functions here read and write memory without checking bounds. Only compiled code can call them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
"""Numbers of a vector, on every machine; LLVM splits it where a processor's are shorter."""

HEAD = 64
"""Size of the heads that `renew` is for, as all published models have."""

_generated = cast(Any, intrinsic)
_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)
_WORDS = ir.VectorType(ir.IntType(32), LANES)
_ZEROS = ir.Constant(_VECTOR, [0.0] * LANES)


@_generated
def fma(typingctx, x, y, z):
    """Return ``x * y + z`` of float32 numbers, rounded once."""

    def generate(context, builder, signature, args):
        return fused_sum(builder, *args)

    return types.float32(types.float32, types.float32, types.float32), generate


@_generated
def dot_of_whole(typingctx, x, y, size):
    """Return the sum of the products: 16 sums of every 16th, whose halves are added until one is left.

    Args:
        typingctx: numba's.
        x: [at least size] float32.
        y: [at least size] float32.
        size: how many, a multiple of 16.
    """

    def generate(context, builder, signature, args):
        x, y = (start(context, builder, signature.args[i], args[i]) for i in (0, 1))
        sums = cgutils.alloca_once_value(builder, _ZEROS)
        with steps(builder, args[2], LANES) as i:
            products = load(builder, x, i), load(builder, y, i)
            builder.store(fused_sum(builder, *products, builder.load(sums)), sums)
        return _sum(builder, builder.load(sums))

    return types.float32(x, y, types.intp), generate


def tile(rows: int, vectors: int) -> Callable[..., Any]:
    """Return a function that multiplies ``rows`` rows with 16 * ``vectors`` columns of a matrix.

    All sums stay in registers, so their number should be from 8 to 16.
    """

    @_generated
    def multiply(typingctx, inputs, used, count, bits, panel, depth, outputs, first, width):
        """Write the sums over i, in order, of ``inputs[i, row]`` times row ``used[i]`` of the matrix.

        Args:
            typingctx: numba's.
            inputs: [at least count, rows] float32, contiguous.
            used: [at least count] int64.
            count: how many rows of the matrix are multiplied.
            bits: panels of 16 columns: [panels, depth, 16], uint16 or uint32, upper bits of float32 numbers.
            panel: the first panel.
            depth: rows of the matrix.
            outputs: [rows, width] float32, contiguous.
            first: the row of outputs to write to; the columns are those of the panels.
            width: columns of outputs.
        """
        names = ("inputs", "used", "count", "bits", "panel", "depth", "outputs", "first", "width")

        def generate(context, builder, signature, args):
            given = dict(zip(names, args, strict=True))
            for name, kind in zip(names, signature.args, strict=True):
                if isinstance(kind, types.Array):
                    given[name] = start(context, builder, kind, given[name])
            _tile(builder, rows, vectors, **given)
            return context.get_dummy_value()

        return types.void(inputs, used, count, bits, panel, depth, outputs, first, width), generate

    return multiply


def _tile(builder, rows, vectors, *, inputs, used, count, bits, panel, depth, outputs, first, width):
    one = count.type
    size = builder.mul(depth, one(LANES))
    start = builder.mul(panel, size)
    sums = [[cgutils.alloca_once_value(builder, _ZEROS) for _ in range(vectors)] for _ in range(rows)]
    with steps(builder, count, 1) as i:
        line = builder.add(start, builder.mul(builder.load(builder.gep(used, [i])), one(LANES)))
        weights = [
            _widened(builder, bits, builder.add(line, builder.mul(size, one(vector))))
            for vector in range(vectors)
        ]
        for row in range(rows):
            at = builder.add(builder.mul(i, one(rows)), one(row))
            x = everywhere(builder, builder.load(builder.gep(inputs, [at])))
            for weight, total in zip(weights, sums[row], strict=True):
                builder.store(fused_sum(builder, x, weight, builder.load(total)), total)
    for row in range(rows):
        line = builder.mul(builder.add(first, one(row)), width)
        for vector in range(vectors):
            at = builder.add(line, builder.mul(builder.add(panel, one(vector)), one(LANES)))
            # Adding 0 turns -0 into 0: the sign of a 0 would tell which rows were multiplied beside it.
            store(builder, builder.fadd(builder.load(sums[row][vector]), _ZEROS), outputs, at)


@_generated
def renew(typingctx, old, new, lines, values, outputs):
    """Write the matrix of a head after a token, and what it says, as `layers.renew_any` does, but faster.

    Args:
        typingctx: numba's.
        old: [64, 64] float32, the head's matrix before the token.
        new: [64, 64] float32, receives the one after it.
        lines: [5, 64] float32: unit, write, decay, key and receptance.
        values: [64] float32, what is added, by line.
        outputs: [64] float32, receives the product of each new line and the receptance.
    """

    def generate(context, builder, signature, args):
        starts = [start(context, builder, *pair) for pair in zip(signature.args, args, strict=True)]
        _renew(builder, *starts)
        return context.get_dummy_value()

    return types.void(old, new, lines, values, outputs), generate


def _renew(builder, old, new, lines, values, outputs):
    one, firsts = ir.IntType(64), range(0, HEAD, LANES)
    unit, write, decay, key, read = (
        [load(builder, lines, one(line * HEAD + first)) for first in firsts] for line in range(5)
    )
    with steps(builder, one(HEAD), 1) as value:
        places = [builder.add(builder.mul(value, one(HEAD)), one(first)) for first in firsts]
        line = [load(builder, old, place) for place in places]
        removed = everywhere(builder, builder.fneg(_dot(builder, line, unit)))
        added = everywhere(builder, builder.load(builder.gep(values, [value])))
        for part, place in enumerate(places):
            kept = fused_sum(builder, removed, write[part], builder.fmul(line[part], decay[part]))
            line[part] = fused_sum(builder, added, key[part], kept)
            store(builder, line[part], new, place)
        builder.store(_dot(builder, line, read), builder.gep(outputs, [value]))


# -- parts of them -----------------------------------------------------------------------------------------


def start(context, builder, kind, array):
    """Return the address of an array's first number; the others must follow without gaps."""
    assert kind.layout == "C", kind
    return context.make_array(kind)(context, builder, array).data


@contextmanager
def steps(builder, stop, step):
    """Give each ``step``-th index before ``stop`` to the code that is generated in the block."""
    with cgutils.for_range_slice(builder, stop.type(0), stop, stop.type(step), inc=True) as (index, _):
        yield index


def _vector_at(builder, start, index, kind):
    return builder.bitcast(builder.gep(start, [index]), kind.as_pointer())


def load(builder, start, index):
    """Return the 16 numbers from an index on."""
    return builder.load(_vector_at(builder, start, index, _VECTOR), align=4)


def store(builder, vector, start, index):
    """Write 16 numbers from an index on."""
    builder.store(vector, _vector_at(builder, start, index, _VECTOR), align=4)


def _widened(builder, bits, index):
    """Return 16 float32 numbers from their bits, or from the upper half of them."""
    kind = ir.VectorType(bits.type.pointee, LANES)
    words = builder.load(_vector_at(builder, bits, index, kind), align=kind.element.width // 8)
    if kind != _WORDS:
        words = builder.shl(builder.zext(words, _WORDS), ir.Constant(_WORDS, [16] * LANES))
    return builder.bitcast(words, _VECTOR)


def everywhere(builder, number):
    """Return a vector of one number."""
    nothing = ir.Constant(_VECTOR, ir.Undefined)
    vector = builder.insert_element(nothing, number, ir.IntType(32)(0))
    return builder.shuffle_vector(vector, nothing, ir.Constant(_WORDS, [0] * LANES))


def _sum(builder, vector):
    """Return the sum of a vector's numbers: halves are added until one is left."""
    width = LANES // 2
    while width:
        halves = [
            builder.shuffle_vector(
                vector,
                ir.Constant(vector.type, ir.Undefined),
                ir.Constant(ir.VectorType(ir.IntType(32), width), list(range(first, first + width))),
            )
            for first in (0, width)
        ]
        vector = builder.fadd(*halves)
        width //= 2
    return builder.extract_element(vector, ir.IntType(32)(0))


def _dot(builder, x, y):
    """Return what `dot_of_whole` does, of lists of vectors."""
    sums = _ZEROS
    for some, others in zip(x, y, strict=True):
        sums = fused_sum(builder, some, others, sums)
    return _sum(builder, sums)


def fused_sum(builder, x, y, z):
    """Return ``x * y + z``, rounded once."""
    name = "llvm.fma.f32" if x.type == _FLOAT else f"llvm.fma.v{LANES}f32"
    kind = ir.FunctionType(x.type, [x.type] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [x, y, z])

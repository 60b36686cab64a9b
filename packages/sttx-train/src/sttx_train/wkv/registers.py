"""One step of a head of 64 in float32, forward and back, with all sums in vector registers.

The state is ``[key, value]``. Each function passes once over its matrices: numba's loops would pass three
times forward and six times back, and store every sum. Products are added by fused multiply-adds, in a fixed
order.

Functions here read and write memory without checking bounds. Only compiled code can call them.
"""

from __future__ import annotations

from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sttx_train.fused.lanes import HEAD, LANES, everywhere, fused_sum, load, start, steps, store

_generated = cast(Any, intrinsic)
_ZEROS = ir.Constant(ir.VectorType(ir.FloatType(), LANES), [0.0] * LANES)
_PARTS = range(HEAD // LANES)
_WORD, _INDEX = ir.IntType(64), ir.IntType(32)
_FIRST = _WORD(0)


@_generated
def combine(typingctx, weights, matrix, total):
    """Write the sum of a matrix's lines, each with its weight.

    Args:
        typingctx: numba's.
        weights: [64] float32.
        matrix: [64, 64] float32.
        total: [64] float32, receives the sum.
    """

    def generate(context, builder, signature, args):
        weights, matrix, total = _starts(context, builder, signature, args)
        sums = _sums(builder)
        with steps(builder, _WORD(HEAD), 1) as i:
            weight = _weight(builder, weights, i)
            for line, place in zip(_line(builder, matrix, i), sums, strict=True):
                _add(builder, weight, line, place)
        _store_line(builder, map(builder.load, sums), total)
        return context.get_dummy_value()

    return types.void(weights, matrix, total), generate


@_generated
def advance(typingctx, old, new, w, removed, b, v, k, r, y, next_a, next_removed):
    """Write the state after a step, what is read of it, and what the next step removes.

    Args:
        typingctx: numba's.
        old: [64, 64] float32, the state before.
        new: [64, 64] float32, receives the one after; it may be ``old``.
        w: [64] float32, the decay.
        removed: [64] float32, what this step removes.
        b: [64] float32, where to.
        v: [64] float32, what is added.
        k: [64] float32, where to.
        r: [64] float32, where to read.
        y: [64] float32, receives what is read.
        next_a: [64] float32, where the next step removes.
        next_removed: [64] float32, receives what it removes; it may be ``removed``.
    """

    def generate(context, builder, signature, args):
        old, new, w, removed, b, v, k, r, y, next_a, next_removed = _starts(context, builder, signature, args)
        gone, added = _line(builder, removed), _line(builder, v)
        said, later = _sums(builder), _sums(builder)
        with steps(builder, _WORD(HEAD), 1) as i:
            keep, write, add, read, remove = (_weight(builder, x, i) for x in (w, b, k, r, next_a))
            for part, line in enumerate(_line(builder, old, i)):
                line = fused_sum(builder, gone[part], write, builder.fmul(line, keep))
                line = fused_sum(builder, added[part], add, line)
                store(builder, line, new, _place(builder, i, part))
                _add(builder, read, line, said[part])
                _add(builder, remove, line, later[part])
        _store_line(builder, map(builder.load, said), y)
        _store_line(builder, map(builder.load, later), next_removed)
        return context.get_dummy_value()

    return types.void(old, new, w, removed, b, v, k, r, y, next_a, next_removed), generate


@_generated
def gradients(typingctx, d, before, after, r, dy, k, b, v, removed, dr, dk, db, dw, dv, du):
    """Add what was read to the gradient of the state; write all gradients but that of ``a``.

    Args:
        typingctx: numba's.
        d: [64, 64] float32, the gradient of the state after a step, from later steps; is added to.
        before: [64, 64] float32, the state before the step.
        after: [64, 64] float32, the one after it.
        r: [64] float32, as all that follow.
        dy: the gradient of what is read.
        k: as in `advance`.
        b: as in `advance`.
        v: as in `advance`.
        removed: as in `advance`.
        dr: receives a gradient, as those that follow.
        dk: by k.
        db: by b.
        dw: by the decay.
        dv: by v.
        du: by ``removed``.
    """

    def generate(context, builder, signature, args):
        d, before, after, r, dy, k, b, v, removed, dr, dk, db, dw, dv, du = _starts(
            context, builder, signature, args
        )
        asked, added, gone = (_line(builder, x) for x in (dy, v, removed))
        by_v, by_u = _sums(builder), _sums(builder)
        with steps(builder, _WORD(HEAD), 4) as first:
            products = []
            for offset in range(4):
                i = builder.add(first, _WORD(offset))
                read, add, write = (_weight(builder, x, i) for x in (r, k, b))
                sums = [_ZEROS] * 4  # by r, k, b and w
                olds, news = _line(builder, before, i), _line(builder, after, i)
                for part, line in enumerate(_line(builder, d, i)):
                    line = fused_sum(builder, read, asked[part], line)
                    store(builder, line, d, _place(builder, i, part))
                    _add(builder, add, line, by_v[part])
                    _add(builder, write, line, by_u[part])
                    pairs = (
                        (news[part], asked[part]),
                        (line, added[part]),
                        (line, gone[part]),
                        (line, olds[part]),
                    )
                    sums = [fused_sum(builder, *pair, one) for pair, one in zip(pairs, sums, strict=True)]
                products.append(sums)
            in_order = [products[offset][which] for which in range(4) for offset in range(4)]
            found = _sums_of(builder, in_order)
            for which, to in enumerate((dr, dk, db, dw)):
                _store_four(builder, found, which, to, first)
        _store_line(builder, map(builder.load, by_v), dv)
        _store_line(builder, map(builder.load, by_u), du)
        return context.get_dummy_value()

    kinds = (d, before, after, r, dy, k, b, v, removed, dr, dk, db, dw, dv, du)
    return types.void(*kinds), generate


@_generated
def retreat(typingctx, d, before, w, a, du, da):
    """Turn the gradient of the state after a step into that of the state before it; write that by ``a``.

    Args:
        typingctx: numba's.
        d: [64, 64] float32, the gradient, which is replaced.
        before: [64, 64] float32, the state before the step.
        w: [64] float32, the decay.
        a: [64] float32, where the step removes.
        du: [64] float32, the gradient by what it removes.
        da: [64] float32, receives the gradient by a.
    """

    def generate(context, builder, signature, args):
        d, before, w, a, du, da = _starts(context, builder, signature, args)
        gone = _line(builder, du)
        with steps(builder, _WORD(HEAD), LANES) as first:
            products = []
            for offset in range(LANES):
                i = builder.add(first, _WORD(offset))
                keep, remove = (_weight(builder, x, i) for x in (w, a))
                olds, total = _line(builder, before, i), _ZEROS
                for part, line in enumerate(_line(builder, d, i)):
                    line = fused_sum(builder, remove, gone[part], builder.fmul(line, keep))
                    store(builder, line, d, _place(builder, i, part))
                    total = fused_sum(builder, olds[part], gone[part], total)
                products.append(total)
            store(builder, _sums_of(builder, products), da, first)
        return context.get_dummy_value()

    return types.void(d, before, w, a, du, da), generate


# -- parts of them -----------------------------------------------------------------------------------------


def _starts(context, builder, signature, args):
    return [start(context, builder, *pair) for pair in zip(signature.args, args, strict=True)]


def _sums(builder):
    return [cgutils.alloca_once_value(builder, _ZEROS) for _ in _PARTS]


def _place(builder, line, part):
    return builder.add(builder.mul(line, _WORD(HEAD)), _WORD(part * LANES))


def _line(builder, matrix, line=_FIRST):
    return [load(builder, matrix, _place(builder, line, part)) for part in _PARTS]


def _store_line(builder, vectors, to):
    for part, vector in enumerate(vectors):
        store(builder, vector, to, _WORD(part * LANES))


def _weight(builder, weights, index):
    return everywhere(builder, builder.load(builder.gep(weights, [index])))


def _add(builder, x, y, place):
    """Add the product of two vectors to a sum."""
    builder.store(fused_sum(builder, x, y, builder.load(place)), place)


def _sums_of(builder, vectors):
    """Return the sums of 16 vectors as one: halves of two are joined and added until each has one number."""
    half = LANES // 2
    while half:
        pairs = zip(vectors[: len(vectors) // 2], vectors[len(vectors) // 2 :], strict=True)
        vectors = [
            builder.fadd(*(_halves(builder, *pair, half, place) for place in (0, 1))) for pair in pairs
        ]
        half //= 2
    return vectors[0]


def _halves(builder, x, y, half, place):
    """Return the lower or upper half of each group of 2 * half numbers: that of x, and then that of y."""
    lanes = []
    for group in range(0, LANES, 2 * half):
        lower = group + place * half
        lanes += [*range(lower, lower + half), *range(LANES + lower, LANES + lower + half)]
    return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(_INDEX, LANES), lanes))


def _store_four(builder, vector, which, to, index):
    """Store the ``which``-th four of a vector's numbers."""
    lanes = ir.Constant(ir.VectorType(_INDEX, 4), list(range(4 * which, 4 * which + 4)))
    four = builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), lanes)
    place = builder.bitcast(builder.gep(to, [index]), four.type.as_pointer())
    builder.store(four, place, align=4)

"""A dense matrix in a form: the nearest one, by the error that its inputs see if they are known.

With the inputs' Gram matrix C = X^T X = L L^T, the error of the outputs is |(W - W') L|, so a low-rank matrix
is cut from the singular values of W L and multiplied by L^-1 again. A sparse one keeps the numbers whose
|w| * sqrt(C_ii) is largest (Sun et al., "Wanda", 2023). Codes and zeros are set column by column, and the
columns that are still to come make up for the error (Frantar et al., "GPTQ", 2022; "SparseGPT", 2023).

Legend: O outputs (rows), I inputs (columns).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from sttx_train.forms import numbers
from sttx_train.forms.form import Form

_DAMPING = 0.01  # of the mean of C's diagonal, added to it: directions that the text lacks still count


def encode(form: Form, matrix_OI: Tensor, gram_II: Tensor | None = None) -> dict[str, Tensor]:
    """Return the tensors of a matrix in a form, by the names that `Form.tensors` gives them.

    Args:
        form: how to store it.
        matrix_OI: the dense matrix.
        gram_II: sum of x x^T over inputs of the layer; every direction counts the same when None.

    Raises:
        UsageError: no matrix of this shape has the form.
    """
    rows, columns = matrix_OI.shape
    form.tensors((rows, columns))  # checks the shape
    matrix = matrix_OI.detach().cpu().double()
    gram = None if gram_II is None else _damped(gram_II.cpu().double())
    match form.structure:
        case "dense":
            return encode_parts(form, {"full": matrix}, {"full": gram})
        case "low-rank":
            return encode_parts(form, _low_rank(matrix, form.rank, gram), {"right": gram})
        case "ghost":
            parts, order = _ghost(matrix, form, gram)
            return encode_parts(form, parts, {"core": gram}) | {"order": order}
        case "sparse":
            mask = _largest(_scores(matrix, gram).flatten(), form.kept).view(rows, columns)
            values = _without(matrix, mask, gram)[mask].unsqueeze(0)
            return encode_parts(form, {"values": values}) | {"mask": _packed_bits(mask)}
        case "2:4":
            places = _scores(matrix, gram).view(rows, -1, 4).topk(2).indices.sort().values
            mask = torch.zeros(rows, columns // 4, 4, dtype=torch.bool).scatter_(-1, places, True)
            kept = _without(matrix, mask.view(rows, columns), gram)
            values = kept.view(rows, -1, 4).gather(-1, places).flatten(1)
            return encode_parts(form, {"values": values}) | {"places": _packed_pairs(places)}


def start(form: Form, matrix_OI: Tensor) -> dict[str, Tensor]:
    """Return the tensors from which a matrix starts to be trained, made of a dense one of random values.

    The rows of an orthogonal matrix say nothing about each other, so a ghost form keeps its first rows as
    core. Its cheap rows are random combinations of these, of the same mean size.
    """
    if form.structure != "ghost":
        return encode(form, matrix_OI)
    rows, matrix = len(matrix_OI), matrix_OI.detach().cpu().float()
    generator = torch.Generator().manual_seed(int(matrix.abs().sum().mul(1e6).long()) & (2**62 - 1))
    down, up = torch.empty(form.rank, form.core), torch.empty(rows - form.core, form.rank)
    torch.nn.init.orthogonal_(down, generator=generator)
    torch.nn.init.orthogonal_(up, math.sqrt(max(1.0, len(up) / form.rank)), generator=generator)
    parts = {"core": matrix[: form.core], "down": down, "up": up}
    return encode_parts(form, parts) | {"order": torch.arange(rows, dtype=torch.int32)}


def singular_values(matrix_OI: Tensor, gram_II: Tensor | None = None) -> Tensor:
    """Return the singular values by which a low-rank form would be cut, largest first, in float64."""
    matrix = matrix_OI.detach().cpu().double()
    return torch.linalg.svdvals(
        matrix if gram_II is None else matrix @ _root(_damped(gram_II.cpu().double()))
    )


def relative_error(matrix_OI: Tensor, other_OI: Tensor, gram_II: Tensor | None = None) -> float:
    """Return |W - W'| / |W|, both times the root of the inputs' Gram matrix if it is known."""
    matrix, other = matrix_OI.detach().cpu().double(), other_OI.detach().cpu().double()
    if gram_II is not None:
        root = _root(_damped(gram_II.cpu().double()))
        matrix, other = matrix @ root, other @ root
    size = matrix.norm()
    return float((matrix - other).norm() / size) if size else 0.0


def encode_parts(
    form: Form, parts: Mapping[str, Tensor], grams: Mapping[str, Tensor | None] = MappingProxyType({})
) -> dict[str, Tensor]:
    """Return the parts as the form's numbers; those with a Gram matrix of their inputs are chosen by it."""
    stored: dict[str, Tensor] = {}
    for name, part in parts.items():
        if not form.bits or form.training:
            stored[name] = part.float()
            continue
        codes, scales = _codes(part, form.bits, form.group, grams.get(name))
        stored[f"{name}_codes"] = codes if form.bits == 8 else numbers.pack4(codes)
        stored[f"{name}_scales"] = scales.float()
    return stored


def _codes(part_RC: Tensor, bits: int, group: int, gram_CC: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return codes ``[R, C]`` and scales ``[R, G]``."""
    scales = numbers.scales_of(part_RC, bits, group)
    if gram_CC is None:
        return numbers.codes_of(part_RC, scales, bits, group), scales
    codes = torch.zeros(part_RC.shape, dtype=torch.int8)
    wide = group or part_RC.shape[1]

    def nearest(column: int, left_RC: Tensor) -> Tensor:
        number = column // wide
        if column % wide == 0:
            scales[:, number] = numbers.scales_of(left_RC[:, column : column + wide], bits, 0)[:, 0]
        scale = scales[:, number : number + 1]
        code = numbers.codes_of(left_RC[:, column : column + 1], scale, bits, 0)
        codes[:, column] = code[:, 0]
        return numbers.numbers_of(code, scale, 0)[:, 0]

    _compensated(part_RC, gram_CC, nearest)
    return codes, scales


def _compensated(matrix_RC: Tensor, gram_CC: Tensor, nearest: Callable[[int, Tensor], Tensor]) -> Tensor:
    """Replace the columns one after the other; later columns make up for the error of each.

    Args:
        matrix_RC: the matrix.
        gram_CC: of its inputs, with an inverse.
        nearest: returns what replaces a column, given its number and the matrix as it is by then.
    """
    # The upper factor of the inverse: row j says how later columns make up for an error in column j.
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram_CC))
    upper = torch.linalg.cholesky(inverse, upper=True)
    left = matrix_RC.clone()
    for column in range(matrix_RC.shape[1]):
        error = (left[:, column] - nearest(column, left)) / upper[column, column]
        left[:, column:] -= error.unsqueeze(1) * upper[column, column:]
    return left


def _without(matrix_OI: Tensor, mask_OI: Tensor, gram_II: Tensor | None) -> Tensor:
    """Return a matrix without the numbers outside a mask; the others make up for them."""
    if gram_II is None:
        return matrix_OI
    return _compensated(matrix_OI, gram_II, lambda column, left: left[:, column] * mask_OI[:, column])


def _low_rank(matrix: Tensor, rank: int, gram: Tensor | None) -> dict[str, Tensor]:
    root = None if gram is None else _root(gram)
    u, s, vt = torch.linalg.svd(matrix if root is None else matrix @ root, full_matrices=False)
    scale = s[:rank].sqrt()
    right = scale.unsqueeze(1) * vt[:rank]
    if root is not None:
        right = torch.linalg.solve_triangular(root, right, upper=False, left=False)
    return {"left": u[:, :rank] * scale, "right": right}


def _ghost(matrix: Tensor, form: Form, gram: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
    """Return the parts, and where each row is among the core rows and then the cheap ones, int32.

    The core rows are those that the rest depends on most, one after the other. The projection is the least
    squares solution of its rank: its rows' predictions are cut to their largest singular directions.
    """
    weighed = matrix if gram is None else matrix @ _root(gram)
    chosen = _independent_rows(weighed, form.core)
    others = torch.ones(len(matrix), dtype=torch.bool)
    others[chosen] = False
    cheap = others.nonzero().flatten()
    solution = torch.linalg.lstsq(weighed[chosen].t(), weighed[cheap].t(), driver="gelsd").solution.t()
    u, _, _ = torch.linalg.svd(solution @ weighed[chosen], full_matrices=False)
    up = u[:, : form.rank]
    if up.shape[1] < form.rank:  # fewer cheap rows than the rank
        up = torch.cat([up, up.new_zeros(len(up), form.rank - up.shape[1])], dim=1)
    order = torch.empty(len(matrix), dtype=torch.int32)
    order[torch.cat([chosen, cheap])] = torch.arange(len(matrix), dtype=torch.int32)
    return {"core": matrix[chosen], "down": up.t() @ solution, "up": up}, order


def _independent_rows(matrix: Tensor, count: int) -> Tensor:
    """Return rows, sorted: the largest, then each time the one that is largest without what is spanned."""
    rest, chosen = matrix.clone(), []
    sizes = rest.square().sum(1)
    for _ in range(count):
        row = int(sizes.argmax())
        chosen.append(row)
        size = rest[row].norm()
        if size > 0:
            direction = rest[row] / size
            rest -= torch.outer(rest @ direction, direction)
        sizes = rest.square().sum(1)
        sizes[chosen] = -1
    return torch.tensor(sorted(chosen))


def _scores(matrix: Tensor, gram: Tensor | None) -> Tensor:
    return matrix.abs() if gram is None else matrix.abs() * gram.diagonal().sqrt()


def _largest(scores: Tensor, count: int) -> Tensor:
    """Return a mask of the largest scores, exactly so many."""
    mask = torch.zeros(len(scores), dtype=torch.bool)
    mask[scores.argsort(descending=True, stable=True)[:count]] = True
    return mask


def _damped(gram: Tensor) -> Tensor:
    """Return a Gram matrix that has an inverse."""
    mean = gram.diagonal().mean()
    return gram + torch.eye(len(gram), dtype=gram.dtype) * (_DAMPING * mean if mean > 0 else 1.0)


def _root(gram: Tensor) -> Tensor:
    """Return the lower triangular L with L L^T = C."""
    return torch.linalg.cholesky(gram)


def _packed_bits(mask_OI: Tensor) -> Tensor:
    padded = torch.nn.functional.pad(mask_OI, (0, -mask_OI.shape[1] % 8)).view(len(mask_OI), -1, 8)
    return (padded.to(torch.int64) << torch.arange(8)).sum(-1).to(torch.uint8)


def _packed_pairs(places: Tensor) -> Tensor:
    """Return places ``[O, I / 4, 2]`` of 2 bits, four in a byte."""
    four = places.view(len(places), -1, 4)
    return (four << torch.arange(0, 8, 2)).sum(-1).to(torch.uint8)

"""Which form each matrix of a model gets. Knows no files.

Structures are for the linear layers, and factors for the embedding too. The low-rank maps of decay, gate and
the like, which are factors already, only get codes. A matrix whose form would not be smaller stays dense.

Legend: O outputs (rows), I inputs (columns).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sttx_core.errors import UsageError
from sttx_train.forms import Form, singular_values
from sttx_train.rwkv7 import RWKV7
from sttx_train.rwkv7.config import parameter_shapes, stored_forms
from sttx_train.shrink.config import ShrinkConfig

_FLOAT_BYTES = 2  # of what stays floating-point: bfloat16
_HEADER = 120  # bytes of a tensor's entry in the file's header
_PROBES = 60  # halvings of the search for a threshold
_EMBEDDING = "emb.weight"


@dataclass(frozen=True)
class _Matrix:
    name: str
    shape: tuple[int, int]
    is_layer: bool


def choose_forms(model: RWKV7, config: ShrinkConfig, grams: Mapping[str, Tensor]) -> dict[str, Form]:
    """Return the form of each matrix that is to have one, by name of the dense parameter.

    Args:
        model: the model; matrices that have a structure keep it.
        config: what to do.
        grams: Gram matrices of the layers' inputs, by which singular values are weighed; may be empty.

    Raises:
        UsageError: the size cannot be reached, or a matrix cannot have the form.
    """
    plain = Form(
        bits=0 if config.bits == 16 else config.bits, group=config.scale_group if config.bits != 16 else 0
    )
    matrices, given = _matrices(model), stored_forms(model.config)
    forms = {matrix.name: _layer_form(matrix, config, plain) for matrix in matrices}
    if config.energy or config.size:
        values = _singular_values(model, matrices, grams)
        if config.energy:
            ranks = {name: _rank_of_energy(s, config.energy) for name, s in values.items()}
        else:
            ranks = _ranks_of_size(model, matrices, values, plain, config.size)
        for matrix in matrices:
            if matrix.name in ranks:
                forms[matrix.name] = _factored(matrix.shape, ranks[matrix.name], plain)
    forms |= {name: replace(form, bits=plain.bits, group=plain.group) for name, form in given.items()}
    return {name: form for name, form in forms.items() if str(form)}


def _matrices(model: RWKV7) -> list[_Matrix]:
    found = []
    for name, shape in parameter_shapes(model.config).items():
        if len(shape) == 2 and not name.endswith("r_k"):
            layer = name.endswith(".weight") and name != _EMBEDDING
            found.append(_Matrix(name, (shape[0], shape[1]), layer))
    return found


def _layer_form(matrix: _Matrix, config: ShrinkConfig, plain: Form) -> Form:
    """Return the form of a matrix, factors left out."""
    rows, columns = matrix.shape
    if not matrix.is_layer:
        return plain
    if config.two_of_four:
        if columns % 8:
            raise UsageError(
                f"--two-of-four needs rows of a multiple of 8 numbers; {matrix.name!r} has {columns}"
            )
        return replace(plain, structure="2:4")
    if config.zeros:
        kept = max(1, round((1 - config.zeros) * rows * columns))
        return _smaller(replace(plain, structure="sparse", kept=kept), plain, matrix.shape)
    if config.ghost and matrix.name.startswith("blocks."):
        core = min(max(1, round((1 - config.ghost) * rows)), rows - 1)
        rank = max(1, min(core, columns) // 8)
        return _smaller(replace(plain, structure="ghost", core=core, rank=rank), plain, matrix.shape)
    return plain


def _factored(shape: tuple[int, int], rank: int, plain: Form) -> Form:
    return _smaller(replace(plain, structure="low-rank", rank=rank), plain, shape)


def _smaller(form: Form, other: Form, shape: tuple[int, int]) -> Form:
    return form if form.nbytes(shape, _FLOAT_BYTES) < other.nbytes(shape, _FLOAT_BYTES) else other


def _singular_values(
    model: RWKV7, matrices: list[_Matrix], grams: Mapping[str, Tensor]
) -> dict[str, np.ndarray]:
    """Return the squared singular values of each layer and of the embedding, as shares of their sum."""
    weights, values = model.dense_weights(), {}
    for matrix in matrices:
        if matrix.is_layer or matrix.name == _EMBEDDING:
            squares = singular_values(weights[matrix.name], grams.get(matrix.name)).square()
            total = squares.sum()
            values[matrix.name] = (squares / total if total else torch.zeros_like(squares)).numpy()
    return values


def _rank_of_energy(shares: np.ndarray, energy: float) -> int:
    """Return the least rank that keeps a share of the energy.

    >>> _rank_of_energy(np.array([0.6, 0.3, 0.1]), 0.8)
    2
    """
    return min(int(np.searchsorted(np.cumsum(shares), energy)) + 1, len(shares))


def _ranks_of_size(
    model: RWKV7, matrices: list[_Matrix], values: Mapping[str, np.ndarray], plain: Form, size: int
) -> dict[str, int]:
    """Return ranks with which the weights file fits in so many bytes.

    A direction is kept if its share of its matrix's energy for each number that it takes is above a
    threshold, which is the same for all matrices and as low as the size allows.
    """
    shapes = {matrix.name: matrix.shape for matrix in matrices}
    fixed = sum(
        _FLOAT_BYTES * int(np.prod(shape))
        for name, shape in parameter_shapes(model.config).items()
        if name not in shapes
    )
    fixed += 2 * _HEADER * len(parameter_shapes(model.config))
    fixed += sum(plain.nbytes(shape, _FLOAT_BYTES) for name, shape in shapes.items() if name not in values)

    def ranks(threshold: float) -> dict[str, int]:
        return {
            name: max(1, int((shares / sum(shapes[name]) >= threshold).sum()))
            for name, shares in values.items()
        }

    def total(chosen: Mapping[str, int]) -> int:
        forms = {name: _factored(shapes[name], rank, plain) for name, rank in chosen.items()}
        return fixed + sum(form.nbytes(shapes[name], _FLOAT_BYTES) for name, form in forms.items())

    if total(least := ranks(1.0)) > size:
        raise UsageError(f"--size {size:,} cannot be reached with factors: they need {total(least):,} bytes")
    low, high = -60.0, 0.0  # powers of two
    for _ in range(_PROBES):
        middle = (low + high) / 2
        low, high = (low, middle) if total(ranks(2.0**middle)) <= size else (middle, high)
    return ranks(2.0**high)

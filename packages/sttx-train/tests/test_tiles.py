"""Products with the processor's matrix unit, and by torch where it cannot be used, against float64."""

import numpy as np
import pytest
import torch

from sttx_train.fused import tiles
from sttx_train.rwkv7 import matrices
from sttx_train.rwkv7.matrices import Matrix

SHAPES = [(128, 128), (320, 96), (64, 544)]


def draw(rows, deep, wide, *, exact=True):
    g = torch.Generator().manual_seed(0)
    weight = torch.randn(deep, wide, generator=g)
    scales = torch.exp2(torch.randint(-40, 40, (rows, 1), generator=g).float())
    return scales * torch.randn(rows, deep, generator=g), weight.bfloat16().float() if exact else weight


@pytest.fixture(params=["unit", "torch"])
def unit(request, monkeypatch):
    """Say whether the unit is used; a processor without it is tested with torch alone."""
    if request.param == "torch":
        monkeypatch.setattr(matrices, "tiles_reason", lambda: "as if there were none")
    elif reason := tiles.tiles_reason():
        pytest.skip(reason)
    return request.param == "unit"


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [0, 1, 31, 70, 290])
@pytest.mark.parametrize(("deep", "wide"), SHAPES)
def test_products_are_those_of_float32(unit, monkeypatch, threads, rows, deep, wide):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    x, weight = draw(rows, deep, wide)
    matrix = Matrix(weight, tiled=True)
    assert (matrix.tiles is not None) is unit
    assert_close(matrix(x), x.double() @ weight.double(), x, weight)
    assert_close(matrix(x, plus=torch.ones(rows, wide)), 1 + x.double() @ weight.double(), x, weight)
    back, _ = draw(rows, wide, deep)
    out = torch.empty(rows, deep)
    assert matrix.back(back, out=out) is out
    for found in (out, matrix.back(back)):
        assert_close(found, back.double() @ weight.double().t(), back, weight.t())


def assert_close(found, expected, x, weight):
    """Compare with float64: each number is off by as much as float32 may be, given the size of its terms."""
    assert found.dtype == torch.float32 and found.shape == expected.shape
    terms = 1 + x.double().abs() @ weight.double().abs()
    assert bool(((found - expected).abs() < 4e-6 * terms).all())


def test_gradients_of_a_head(unit):
    x, weight = draw(5, 128, 160)
    x.requires_grad_()
    found = Matrix(weight, tiled=True).differentiable(x)
    (gradient,) = torch.autograd.grad(found.square().sum(), x)
    torch.testing.assert_close(gradient, 2 * found.detach() @ weight.t(), rtol=1e-5, atol=1e-5)


def test_a_row_has_the_same_bits_in_any_batch():
    if reason := tiles.tiles_reason():
        pytest.skip(reason)
    x, weight = draw(70, 320, 96)
    matrix = Matrix(weight, tiled=True)
    assert torch.equal(matrix(x)[40:41], matrix(x[40:41]))


@pytest.mark.parametrize(
    ("weight", "tiled"),
    [
        (draw(1, 128, 128, exact=False)[1], True),
        (draw(1, 128, 130)[1], True),
        (draw(1, 64, 64)[1], True),
        (draw(1, 128, 128)[1], False),
    ],
    ids=["inexact", "odd", "small", "not asked for"],
)
def test_torch_multiplies_what_does_not_fit(weight, tiled):
    assert Matrix(weight, tiled=tiled).tiles is None and Matrix(weight, tiled=tiled).tiles_back is None


def test_packed_tiles_hold_all_weights():
    weight = np.arange(64 * 32, dtype=np.float32).reshape(64, 32) % 128
    packed = (tiles.pack(weight).astype(np.uint32) << 16).view(np.float32)
    for k, o in ((0, 0), (1, 0), (33, 17), (63, 31)):
        assert packed[o // 16, k // 32, k % 32 // 2, o % 16 * 2 + k % 2] == weight[k, o]

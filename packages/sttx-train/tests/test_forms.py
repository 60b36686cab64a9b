"""Forms of matrices: each runs, expands and trains as the dense matrix that it stands for."""

import copy

import pytest
import torch

from sttx_core.errors import ModelError, UsageError
from sttx_train.forms import Form, StoredEmbedding, StoredMatrix, encode, relative_error, singular_values
from sttx_train.forms import numbers as coded

ROWS, COLUMNS = 48, 32
FORMS = (
    "low-rank:12",
    "ghost:24:8",
    "sparse:700",
    "2:4",
    "int8",
    "int8:8",
    "int4:16",
    "low-rank:11+int8",
    "low-rank:12+int4:32",
    "ghost:24:8+int4:16",
    "sparse:701+int4:32",
    "2:4+int8",
    "int4:8+training",
    "low-rank:12+int8+training",
)


@pytest.fixture(scope="module")
def matrix():
    return torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def inputs():
    """Inputs that differ in size and depend on each other, as those of a model do."""
    generator = torch.Generator().manual_seed(2)
    mixing = torch.randn(COLUMNS, COLUMNS, generator=generator) + torch.diag(torch.logspace(-1, 1, COLUMNS))
    return torch.randn(200, COLUMNS, generator=generator) @ mixing


def stored(text, matrix, gram=None, kind=StoredMatrix):
    form = Form.parse(text)
    layer = kind(form, tuple(matrix.shape))
    layer.set_tensors(encode(form, matrix, gram))
    layer.check("some.weight", "somewhere")
    return layer


@pytest.mark.parametrize("text", FORMS)
def test_a_stored_matrix_is_the_dense_matrix_that_it_expands_to(text, matrix, inputs):
    layer, rows = stored(text, matrix), stored(text, matrix, kind=StoredEmbedding)
    for learns in (True, False):  # expanded each time, or kept
        layer.requires_grad_(learns), rows.requires_grad_(learns)
        weight = layer.weight
        assert torch.allclose(layer(inputs), inputs @ weight.t(), atol=2e-4)
        assert torch.allclose(inputs[:, :1].expand(-1, ROWS) @ layer, inputs[:, :1].expand(-1, ROWS) @ weight)
        ids = torch.tensor([[0, 5], [ROWS - 1, 5]])
        assert torch.allclose(rows(ids), weight[ids], atol=1e-5)
        assert torch.equal(rows.weight, weight)


@pytest.mark.parametrize("text", FORMS)
def test_the_tensors_are_those_that_the_form_says_and_a_form_reads_its_own_text(text, matrix):
    form, dtypes = Form.parse(text), {"int8": torch.int8, "uint8": torch.uint8, "int32": torch.int32}
    tensors = encode(form, matrix)
    expected = form.tensors((ROWS, COLUMNS))
    assert str(form) == text and tensors.keys() == expected.keys()
    for name, one in expected.items():
        assert tuple(tensors[name].shape) == one.shape
        assert tensors[name].dtype == dtypes.get(one.kind, torch.float32)
    size = sum(
        tensor.numel() * (2 if tensor.is_floating_point() else tensor.element_size())
        for tensor in tensors.values()
    )
    assert form.nbytes((ROWS, COLUMNS), 2) == size


def test_errors_are_those_of_the_singular_values_left_out(matrix, inputs):
    gram = inputs.t() @ inputs
    for known in (None, gram):
        values = singular_values(matrix, known)
        error = relative_error(matrix, stored("low-rank:12", matrix, known).weight, known)
        assert error == pytest.approx(float(values[12:].norm() / values.norm()), rel=1e-4)


@pytest.mark.parametrize("text", ["low-rank:12", "ghost:24:8", "sparse:700", "2:4", "int8", "int4:16"])
def test_known_inputs_lower_the_error_that_they_see(text, matrix, inputs):
    gram = inputs.t() @ inputs
    blind = relative_error(matrix, stored(text, matrix).weight, gram)
    assert relative_error(matrix, stored(text, matrix, gram).weight, gram) < blind


def test_the_projection_of_a_ghost_matrix_is_the_best_of_its_rank(matrix):
    layer = stored("ghost:24:8", matrix).requires_grad_(False)
    order = layer.get_buffer("order").long()
    core, cheap = matrix[order < 24], matrix[order >= 24]
    assert torch.allclose(layer.weight[order < 24], core, atol=1e-5)
    error = (layer.weight[order >= 24] - cheap).norm()
    solution = torch.linalg.lstsq(core.t(), cheap.t()).solution.t()
    for rank in (7, 8):  # not even the best projection of a lower rank is as good
        u, s, vt = torch.linalg.svd(solution @ core)
        best = ((u[:, :rank] * s[:rank]) @ vt[:rank] - cheap).norm()
        assert error == pytest.approx(float(best), rel=1e-4) if rank == 8 else error < best


def test_a_ghost_matrix_of_enough_rank_is_exact():
    core = torch.randn(6, 20, generator=torch.Generator().manual_seed(3))
    mixed = torch.randn(10, 6, generator=torch.Generator().manual_seed(4)) @ core
    matrix = torch.cat([mixed, core])[torch.randperm(16, generator=torch.Generator().manual_seed(5))]
    assert relative_error(matrix, stored("ghost:6:6", matrix).weight) < 1e-5


@pytest.mark.parametrize(("bits", "most"), [(8, 1 / 256), (4, 1 / 16)])
def test_codes_are_within_half_a_step_and_bfloat16_of_the_numbers(bits, most, matrix):
    layer = stored(f"int{bits}:16", matrix)
    furthest = (
        matrix.view(ROWS, -1, 16).abs().amax(-1, keepdim=True).expand(-1, -1, 16).reshape(ROWS, COLUMNS)
    )
    # A number on the other side of the scale's may be clipped by a step; bfloat16 rounds scales by 1/256.
    assert ((layer.weight - matrix).abs() <= furthest * (2 * most + 1 / 256)).all()
    assert ((layer.weight - matrix).abs() <= furthest * (most + 1 / 256)).float().mean() > 0.95


def test_rows_of_zeros_stay_zeros():
    matrix = torch.zeros(8, 16)
    for text in ("int8", "int4:16", "low-rank:4", "ghost:4:2", "sparse:10", "2:4"):
        assert not stored(text, matrix).weight.any()
        assert not stored(text, matrix, torch.zeros(16, 16)).weight.any()


def test_torch_multiplies_by_codes_in_bfloat16(matrix, monkeypatch):
    layer = stored("int8", matrix).to(torch.bfloat16).requires_grad_(False)
    x = torch.randn(3, COLUMNS, generator=torch.Generator().manual_seed(6)).bfloat16()
    expected = x.float() @ copy.deepcopy(layer).weight.float().t()
    monkeypatch.setattr(layer, "_part", None)  # nothing is expanded
    assert torch.allclose(layer(x).float(), expected, rtol=0.02, atol=0.05)
    many = torch.randn(100, COLUMNS).bfloat16()  # expanded for the product, and not kept
    assert layer(many).shape == (100, ROWS) and "full" not in layer._kept


def test_an_expanded_matrix_follows_its_tensors(matrix):
    layer = stored("int8", matrix).requires_grad_(False)
    before = layer.weight
    assert layer.weight is before
    layer.get_buffer("full_scales").mul_(2)
    assert torch.equal(layer.weight, 2 * before)
    copied = copy.deepcopy(layer)
    copied.get_buffer("full_scales").zero_()
    assert torch.equal(layer.weight, 2 * before) and not copied.weight.any()
    assert layer.to(torch.float64).weight.dtype == torch.float64


def test_an_expanded_matrix_of_inference_mode_takes_gradients_later(matrix):
    layer = stored("2:4", matrix).requires_grad_(False)
    with torch.inference_mode():
        layer(torch.zeros(1, COLUMNS))
    x = torch.zeros(1, COLUMNS, requires_grad=True)
    layer(x).sum().backward()
    assert torch.allclose(x.grad[0], layer.weight.sum(0), atol=1e-5)


@pytest.mark.parametrize("text", ["low-rank:5", "ghost:8:4", "sparse:90", "2:4"])
def test_gradients_of_parts_are_those_of_finite_differences(text):
    layer = stored(text, torch.randn(12, 16, generator=torch.Generator().manual_seed(7))).double()
    parts = [part.requires_grad_(True) for part in layer.parameters()]
    x = torch.randn(3, 16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), (x, *parts))


def test_gradients_pass_what_is_rounded_in_training(matrix, inputs):
    layer = stored("int4:16+training", matrix)
    layer(inputs).sum().backward()
    assert torch.allclose(layer.get_parameter("full").grad, inputs.sum(0).expand(ROWS, -1), rtol=1e-4)


def test_codes_go_to_training_and_back(matrix):
    layer = stored("low-rank:12+int4:16", matrix)
    trained = StoredMatrix(Form.parse("low-rank:12+int4:16+training"), (ROWS, COLUMNS))
    trained.set_tensors(layer.recoded(trained.form))
    assert torch.allclose(trained.weight, layer.weight, atol=1e-5)
    again = trained.recoded(layer.form)
    assert all(torch.equal(again[name], tensor) for name, tensor in layer.state_dict().items())


@pytest.mark.parametrize("columns", [1, 2, 7, 64])
def test_codes_of_four_bits_are_packed_two_in_a_byte(columns):
    codes = torch.randint(-8, 8, (5, columns), dtype=torch.int8)
    packed = coded.pack4(codes)
    assert packed.shape == (5, (columns + 1) // 2) and torch.equal(coded.unpack4(packed, columns), codes)


@pytest.mark.parametrize(
    "text",
    ["", "dense", "int16", "int8:0", "low-rank", "low-rank:0", "low-rank:8+2:4", "int8+int4", "training"]
    + ["low-rank:8+training", "int8+training+training", "2:4:1", "low-rank:99999999999", "x" * 1000, 5, None]
    + ["ghost:4", " int8", "int8\n"],
)
def test_other_texts_are_no_forms(text):
    with pytest.raises(UsageError, match="is not a form of a matrix"):
        Form.parse(text)


@pytest.mark.parametrize("text", ["low-rank:33", "ghost:48:1", "ghost:8:9", "sparse:1537"])
def test_forms_that_do_not_fit_are_refused(text):
    with pytest.raises(UsageError, match="no matrix of 48 x 32 has the form"):
        Form.parse(text).tensors((ROWS, COLUMNS))
    with pytest.raises(UsageError, match="no matrix of 3 x 12 has the form"):
        Form.parse("2:4").tensors((3, 12))


@pytest.mark.parametrize(
    ("text", "name", "damage"),
    [
        ("ghost:24:8", "order", lambda order: order.fill_(3)),
        ("ghost:24:8", "order", lambda order: order.fill_(-1)),
        ("ghost:24:8", "order", lambda order: order[:1].fill_(10**6)),
        ("sparse:700", "mask", lambda mask: mask.zero_()),
        ("sparse:700", "mask", lambda mask: mask.fill_(255)),
        ("2:4", "places", lambda places: places.zero_()),
        ("2:4", "places", lambda places: places.fill_(255)),
    ],
)
def test_impossible_places_are_refused(text, name, damage, matrix):
    layer = stored(text, matrix)
    damage(layer.get_buffer(name))
    with pytest.raises(ModelError, match="'some.weight' are impossible"):
        layer.check("some.weight", "somewhere")


def test_bits_beyond_a_row_of_a_mask_are_refused():
    layer = stored("sparse:20", torch.randn(5, 9))
    mask = layer.get_buffer("mask")
    mask[0, 0] &= 0
    mask[0, 1] = 0
    missing = 20 - int(sum(int(byte).bit_count() for byte in mask.flatten()))
    mask[0, 1] = (1 << missing) - 1 << 1  # as many bits as are missing, past the ninth
    with pytest.raises(ModelError, match="impossible"):
        layer.check("some.weight", "somewhere")

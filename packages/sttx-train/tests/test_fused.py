"""The compiled step: it agrees with the definition in torch, and a row's bits depend on nothing else."""

import copy
import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from numba import njit

from sttx_train import Predictor, SamplingConfig
from sttx_train.fused import FusedStep, choose_step, lanes, layers, products
from sttx_train.fused import arithmetic as exact
from sttx_train.online import LearnerConfig
from sttx_train.online.optimizer import online_optimizer
from sttx_train.pretrain import PretrainConfig
from sttx_train.pretrain.optimizer import make_optimizer
from sttx_train.rwkv7 import RecurrentState

FIELDS = ("att_shift", "wkv", "ffn_shift")
BITS = 1.4426950408889634
SIZES = [{}, {"num_layers": 1}, {"hidden_size": 24, "head_size": 8, "ffn_size": 40, "vocab_size": 300}]


def fused_step(model):
    config = model.config
    sizes = {"eps": config.layer_norm_eps, "head_eps": config.group_norm_eps}
    return FusedStep(dict(model.named_parameters()), head_size=config.head_size, **sizes)


def random_state(config, rows, seed=0):
    generator = torch.Generator().manual_seed(seed)
    zeros = RecurrentState.zeros(config, rows)
    shapes = (zeros.att_shift.shape, zeros.wkv.shape, zeros.ffn_shift.shape)
    return tuple(torch.randn(shape, generator=generator) for shape in shapes)


@njit
def apply(which, values, others, eps):
    """Run one function of the room, which only compiled code may call."""
    if which == 0:
        exact.exponentials(values)
    elif which == 1:
        exact.sigmoids(values)
    elif which == 2:
        exact.tangents(values)
    elif which == 3:
        exact.normalize(values, eps, others)
    return exact.dot(values, others)


def test_functions_are_accurate():
    x, eps = np.linspace(-60, 60, 20001, dtype=np.float32), np.float32(1e-5)
    wide = x.astype(np.float64)
    expected = [np.exp(wide), 1 / (1 + np.exp(-wide)), np.tanh(wide)]
    for which, (known, relative) in enumerate(zip(expected, (3e-7, 3e-7, 0), strict=True)):
        values = x.copy()
        apply(which, values, values, eps)
        np.testing.assert_allclose(values, known, rtol=relative, atol=0 if relative else 2e-7)
    values = np.array([-1e30, -1e30, 1e30, 1e30], np.float32)
    apply(1, values, values, eps)
    assert values[:2].max() < 1e-34 and values[2:].min() == 1
    for length in (3, 8, 67):
        x, y = np.random.default_rng(length).normal(size=(2, length)).astype(np.float32)
        wide = x.astype(np.float64)
        assert apply(4, x, y, eps) == pytest.approx(wide @ y, abs=1e-5)
        apply(3, x, y, eps)
        np.testing.assert_allclose(y, (wide - wide.mean()) / np.sqrt(wide.var() + 1e-5), atol=1e-5)


@njit
def by_rows(x, matrix, packed):
    """Return the packed product, and the same one number after the other."""
    expected = np.zeros((x.shape[0], matrix.shape[1]), np.float32)
    for row in range(x.shape[0]):
        for out in range(matrix.shape[1]):
            for k in range(matrix.shape[0]):
                expected[row, out] = lanes.fma(x[row, k], matrix[k, out], expected[row, out])
    return products.product(x, packed), expected


@njit
def renewed(old, lines, values):
    """Return matrices and what they say, by the function for heads of 64 and by the one for any."""
    new, said = np.empty((2, 64, 64), np.float32), np.empty((2, 64), np.float32)
    lanes.renew(old, new[0], lines, values, said[0])
    layers.renew_any(old, new[1], lines, values, said[1])
    return new, said


def some_products(rows, shape, halved):
    random = np.random.default_rng(rows)
    x, matrix = (random.normal(size=size).astype(np.float32) for size in ((rows, shape[0]), shape))
    x[random.random(x.shape) < 0.5] = 0
    x[:, 1] = 0
    if halved:
        matrix = (matrix.view(np.uint32) & 0xFFFF0000).view(np.float32)
    return by_rows(x, matrix, products.pack(matrix[None], halved=halved)[0])


@pytest.mark.parametrize("halved", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 4, 5, 8, 9, 16, 17, 23])
def test_products_have_the_bits_of_the_plain_loop(rows, halved):
    for shape in ((3, 5), (16, 32), (24, 300)):
        found, expected = some_products(rows, shape, halved)
        assert found[:, : shape[1]].tobytes() == expected.tobytes()
        assert not found[:, shape[1] :].any()


def test_both_functions_for_heads_have_the_same_bits():
    random = np.random.default_rng(0)
    old, lines, values = (random.normal(size=size).astype(np.float32) for size in ((64, 64), (5, 64), 64))
    new, said = renewed(old, lines, values)
    assert new[0].tobytes() == new[1].tobytes() and said[0].tobytes() == said[1].tobytes()
    unit, write, decay, key, read = lines.astype(np.float64)
    wide = old * decay - np.outer(old @ unit, write) + np.outer(values, key)
    np.testing.assert_allclose(new[0], wide, atol=1e-4)
    np.testing.assert_allclose(said[0], wide @ read, atol=1e-3)


def digest_of_products():
    """Return a digest of products and of a head's step: `OTHER_PROCESSOR` prints it too."""
    found = [some_products(rows, (24, 300), True)[0] for rows in (1, 3, 8, 16)]
    random = np.random.default_rng(0)
    head = renewed(*(random.normal(size=size).astype(np.float32) for size in ((64, 64), (5, 64), 64)))
    return hashlib.sha256(b"".join(array.tobytes() for array in (*found, *head))).hexdigest()


OTHER_PROCESSOR = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("test_fused", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(module.digest_of_products())
"""


def test_a_processor_without_vectors_or_fused_products_gives_the_same_bits():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", OTHER_PROCESSOR, __file__],
        env={**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == digest_of_products()


@pytest.mark.parametrize("halved", [False, True])
@pytest.mark.parametrize("shape", [(3, 5), (16, 32), (24, 300)])
def test_packed_weights_are_the_weights(shape, halved):
    matrix = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    matrix = (matrix.bfloat16().float() if halved else matrix).numpy()
    packed = products.pack(matrix, halved=halved)
    assert packed.dtype == (np.uint16 if halved else np.uint32)
    assert products.is_halved_exactly(matrix) == halved
    flat = packed[0].swapaxes(0, 1).reshape(packed.shape[2], -1)
    bits = flat.astype(np.uint32) << (16 if halved else 0)
    np.testing.assert_array_equal(bits.view(np.float32)[: shape[0], : shape[1]], matrix[0])
    assert not bits[shape[0] :].any() and not bits[:, shape[1] :].any()


@pytest.mark.parametrize("halved", [False, True])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_the_step_agrees_with_the_definition(make_model, sizes, halved):
    model = make_model(**sizes)
    if halved:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(parameter.bfloat16())
    state = random_state(model.config, 3)
    ids = torch.tensor([4, 9, 1])
    with torch.inference_mode():
        step = fused_step(model)
        logits, new = step(model.emb(ids), state)
    exact_model = copy.deepcopy(model).double()
    exact_model.backend = "recurrent"
    fields = dict(zip(FIELDS, (part.double() for part in state), strict=True))
    expected, after = exact_model(ids[:, None], RecurrentState(**fields))
    difference = logits.double().log_softmax(-1) - expected[:, 0].log_softmax(-1)
    assert difference.abs().max() * BITS < 1e-4
    for part, known in zip(new, (after.att_shift, after.wkv, after.ffn_shift), strict=True):
        torch.testing.assert_close(part.double(), known, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_gives_the_same_bits_in_any_batch(make_model, threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    model = make_model()
    step, state = fused_step(model), random_state(model.config, 5)
    ids = torch.tensor([4, 9, 1, 60, 33])
    with torch.inference_mode():
        together, new = step(model.emb(ids), state)
        for row in range(5):
            alone, own = step(model.emb(ids[[row]]), tuple(part[:, [row]] for part in state))
            assert torch.equal(alone[0], together[row])
            assert all(torch.equal(x[:, 0], y[:, row]) for x, y in zip(own, new, strict=True))


def test_the_step_changes_no_state_and_follows_the_weights(make_model):
    model = make_model()
    state = RecurrentState.zeros(model.config, 2)
    ids = torch.tensor([3, 5])
    with torch.inference_mode():
        first, _ = model.step(ids, state)
        assert not state.wkv.any() and not state.att_shift.any()
        again, _ = model.step(ids, state)
    assert torch.equal(first, again)
    with torch.no_grad():
        model.blocks[1].att.receptance.weight.mul_(2)
    with torch.inference_mode():
        changed, _ = model.step(ids, state)
    expected, _ = model(ids[:, None], state)
    assert not torch.equal(first, changed)
    torch.testing.assert_close(changed, expected[:, 0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("learning", ["pretraining", "online"])
def test_the_step_follows_weights_that_an_optimizer_changes(make_model, learning):
    model = make_model().requires_grad_(True)
    if learning == "pretraining":
        optimizer = make_optimizer(model, PretrainConfig(lr=0.01))
    else:
        optimizer = online_optimizer(dict(model.named_parameters()), LearnerConfig(scope=("all",)))
    ids, state = torch.tensor([3]), RecurrentState.zeros(model.config)
    seen = []
    for _ in range(2):
        with torch.inference_mode():
            fused, _ = model.step(ids, state)
        with torch.no_grad():
            expected, _ = model(ids.unsqueeze(1), state)
        torch.testing.assert_close(fused, expected[:, 0], rtol=1e-4, atol=1e-4)
        seen.append(fused.clone())
        model(torch.tensor([[3, 1, 4, 1, 5]]), state)[0].square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert model.step_choice.fused and not torch.allclose(seen[0], seen[1], atol=1e-3)


def test_paths_can_be_exchanged_at_any_token(make_model, draw_ids):
    model, ids = make_model(), draw_ids(1, 24)
    expected, _ = model(ids)
    with torch.inference_mode():
        _, state = model(ids[:, :8])
        for token in range(8, 24):
            if token % 3:
                logits, state = model.step(ids[:, token], state)
            else:
                logits, state = model(ids[:, token : token + 1], state)
            found = logits.reshape(-1).log_softmax(-1)
            assert (found - expected[0, token].log_softmax(-1)).abs().max() * BITS < 1e-4


def test_choices_are_reported(make_model):
    model = make_model()
    assert model.step_choice.fused and "cpu" in model.step_choice.reason
    model.backend = "recurrent"
    assert model.step_choice == (False, "kernel 'recurrent' was asked for")
    assert model.step(torch.tensor([1]), RecurrentState.zeros(model.config))[0].shape == (1, 61)
    parameters = dict(model.double().named_parameters())
    assert choose_step(parameters, "compiled") == (False, "the compiled step is for float32")
    huge = {name: p.to("meta", torch.float32) for name, p in parameters.items()}
    assert not choose_step(huge, "compiled").fused


def test_without_inference_mode_gradients_flow(make_model):
    model = make_model().requires_grad_(True)
    logits, _ = model.step(torch.tensor([3]), RecurrentState.zeros(model.config))
    logits.sum().backward()
    assert model.emb.weight.grad is not None


def test_rows_of_one_state_are_joined_without_a_copy(make_model):
    parts = random_state(make_model().config, 3)
    whole = RecurrentState(**dict(zip(FIELDS, parts, strict=True)))
    rows = whole.rows()
    joined = RecurrentState.joined(rows)
    assert joined.wkv.data_ptr() == whole.wkv.data_ptr() and torch.equal(joined.wkv, whole.wkv)
    for order in ([1, 0, 2], [0, 1], [1, 2], [2], [0, 0, 1]):
        some = RecurrentState.joined([rows[row] for row in order])
        for field in FIELDS:
            assert torch.equal(getattr(some, field), getattr(whole, field)[:, order])
            assert getattr(some, field).is_contiguous()


@pytest.mark.parametrize("experts", [False, True])
def test_kernels_generate_the_same_greedy_text(tiny, experts):
    texts = []
    for kernel in ("auto", "compiled", "recurrent"):
        loaded = tiny()
        loaded.model.backend = kernel
        assert loaded.model.step_choice.fused == (kernel != "recurrent")
        predictor = Predictor(loaded, experts=experts)
        texts.append("".join(predictor.generate("to read", SamplingConfig(temperature=0), max_tokens=24)))
    assert texts[0] == texts[1] == texts[2]

"""Models with inner steps: what they compute, carry, save and refuse."""

import json

import pytest
import torch

from sttx_core.errors import ModelError, UsageError
from sttx_core.tokenizers import ByteTokenizer, IntegerTokenizer
from sttx_train import RWKV7, RecurrentState, RWKV7Config, load_model, save_model
from sttx_train.export.gguf import check_gguf
from sttx_train.pretrain import PretrainConfig, Pretrainer
from sttx_train.rwkv7.stored import with_inner_steps

VARIANTS = {
    "steps": {"inner_steps": 3, "inner_lr": 0.2},
    "momentum": {"inner_steps": 1, "inner_lr": 0.2, "inner_momentum": 0.9},
    "batch": {"inner_steps": 2, "inner_lr": 0.5, "inner_batch": 3},
    "all": {"inner_steps": 2, "inner_lr": 0.5, "inner_batch": 3, "inner_momentum": 0.5},
}
SIZES = {"vocab_size": 257, "hidden_size": 16, "num_layers": 2, "head_size": 8}


def lively(model, seed=5):
    """Fill a model so that its layers have an effect."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and not name.endswith("r_k"):
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=g).to(parameter))
    return model


def build(name, backend="auto", **sizes):
    return lively(RWKV7(RWKV7Config(**SIZES | VARIANTS[name] | sizes), backend=backend, seed=1))


def ids(batch=3, steps=40):
    return torch.randint(0, 257, (batch, steps), generator=torch.Generator().manual_seed(3))


@pytest.fixture(params=list(VARIANTS))
def name(request):
    return request.param


def test_every_kernel_gives_the_same(name):
    expected, state = build(name, "recurrent")(ids())
    for backend in ("auto", "chunked"):
        found, after = build(name, backend)(ids())
        assert torch.allclose(found, expected, atol=1e-4)
        assert after.tensors().keys() == state.tensors().keys()
    plain, _ = lively(RWKV7(RWKV7Config(**SIZES), seed=1))(ids())
    assert not torch.allclose(plain, expected, atol=1e-2)


def test_reading_in_pieces_gives_the_same(name):
    model = build(name)
    starts = torch.zeros(3, 40, dtype=torch.bool)
    starts[1, 11] = starts[2, 26] = True
    whole, after = model(ids(), None, None, starts)
    for cut in (1, 12, 26, 39):
        first, state = model(ids()[:, :cut], None, None, starts[:, :cut])
        second, state = model(ids()[:, cut:], state, None, starts[:, cut:])
        assert torch.allclose(torch.cat([first, second], 1), whole, atol=1e-4)
        assert torch.allclose(state.wkv, after.wkv, atol=1e-4)


def test_token_by_token_and_padded_rows_give_the_same(name):
    model = build(name)
    lengths = torch.tensor([40, 9, 1])
    with torch.inference_mode():
        whole, padded = model(ids(), None, lengths)
        state = RecurrentState.zeros(model.config, 3)
        steps = []
        for token in ids().unbind(1)[:9]:
            logits, state = model.step(token, state)
            steps.append(logits)
    assert not model.step_choice.fused and "inner steps" in model.step_choice.reason
    assert torch.allclose(torch.stack(steps, 1)[:2], whole[:2, :9], atol=1e-4)
    for field, tensor in padded.tensors().items():
        assert torch.allclose(tensor[:, 1], state.tensors()[field][:, 1], atol=1e-4), field


def test_a_row_alone_is_the_row_in_a_batch_and_states_are_rows(name):
    model = build(name)
    _, after = model(ids())
    _, alone = model(ids()[1:2])
    for state in (after.select([1]), after.rows()[1], RecurrentState.stack([after.rows()[1]])):
        assert state.nbytes == alone.nbytes
        for field, tensor in alone.tensors().items():
            assert torch.allclose(state.tensors()[field], tensor, atol=1e-5)
    assert RecurrentState.joined(after.rows()) is after
    assert after.detach().tensors().keys() == after.clone().tensors().keys() == alone.tensors().keys()
    injected = after.inject(torch.ones_like(after.wkv[:, 0])).tensors()
    assert torch.equal(injected["wkv"], after.wkv + 1) and injected.keys() == after.tensors().keys()


def test_the_state_has_a_size_that_does_not_grow(name):
    model = build(name)
    _, short = model(ids(1, 2))
    _, long = model(ids(1, 40))
    inner = VARIANTS[name]
    matrices = 2 * 2 * 8 * 8 * 4
    recent = 2 * (inner.get("inner_batch", 1) - 1) * 3 * 16 * 4
    expected = 2 * 2 * 16 * 4 + matrices * (2 if "inner_momentum" in inner else 1) + recent
    assert short.nbytes == long.nbytes == RecurrentState.zeros(model.config).nbytes == expected


@pytest.mark.parametrize("layers", [1, 2, 12])
def test_values_and_gradients_are_finite(name, layers):
    model = build(name, num_layers=layers)
    logits, state = model(ids(2, 64))
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids(2, 64)[:, 1:].flatten())
    (loss + sum(x.square().mean() for x in state.tensors().values())).backward()
    assert logits.isfinite().all() and all(x.isfinite().all() for x in state.tensors().values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert all(block.att.inner_rate.grad.abs().sum() > 0 for block in model.blocks)


def test_recomputing_gives_the_same_gradients(name):
    gradients = []
    for recompute in (False, True):
        model = build(name)
        model.recompute = recompute
        model(ids(2, 20))[0].square().mean().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert all(torch.allclose(x, y, atol=1e-6) for x, y in zip(*gradients, strict=True))


def test_a_rate_of_0_is_the_plain_model(name):
    plain = lively(RWKV7(RWKV7Config(**SIZES), seed=1))
    inner = with_inner_steps(plain, **VARIANTS[name] | {"inner_lr": 0.0})
    for backend in ("recurrent", "auto"):
        plain.backend = inner.backend = backend
        (expected, before), (found, after) = plain(ids()), inner(ids())
        if backend == "recurrent" or inner.config.plain_recurrence:
            assert torch.equal(found, expected) and torch.equal(after.wkv, before.wkv)
        assert torch.allclose(found, expected, atol=1e-4)


def test_it_is_saved_and_loaded(name, tmp_path):
    model = build(name)
    save_model(model, tmp_path / "model", tokenizer=ByteTokenizer())
    loaded = load_model(tmp_path / "model")
    assert loaded.model.config == model.config
    assert loaded.kernel == model.kernel(torch.device("cpu"))
    with torch.no_grad():
        assert torch.equal(loaded.model(ids())[0], model(ids())[0])
    saved = json.loads((tmp_path / "model" / "config.json").read_text())
    assert saved["version"] == 3 and saved["model"]["inner_steps"] == VARIANTS[name]["inner_steps"]
    with pytest.raises(ModelError, match="whose number only its config.json says"):
        load_model(tmp_path / "model" / "model.safetensors")
    for format in ("blinkdl", "huggingface"):
        with pytest.raises(UsageError, match=f"takes inner steps, which '{format}' cannot hold"):
            save_model(model, tmp_path / "other.pth", format=format)
    with pytest.raises(UsageError, match="takes inner steps, which llama.cpp does not compute"):
        check_gguf(
            RWKV7Config(**SIZES | VARIANTS[name] | {"hidden_size": 64, "head_size": 64}), ByteTokenizer()
        )


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        ({"inner_steps": 65}, "at most 64"),
        ({"inner_steps": 2.5}, "whole number"),
        ({"inner_batch": 65}, "at most 64"),
        ({"inner_momentum": 0.999}, "from 0.05 to 0.99"),
        ({"inner_lr": True}, "from 0 to 1"),
        ({"inner_steps": 0}, "without inner_steps"),
        ({"hidden_size": 24}, "does not fit"),
    ],
)
def test_a_damaged_config_is_refused(damage, match, tmp_path):
    save_model(build("all"), tmp_path / "model", tokenizer=ByteTokenizer())
    path = tmp_path / "model" / "config.json"
    saved = json.loads(path.read_text())
    saved["model"] |= damage
    path.write_text(json.dumps(saved))
    with pytest.raises(ModelError, match=match):
        load_model(tmp_path / "model")


def test_an_older_version_is_refused(tmp_path):
    save_model(build("all"), tmp_path / "model", tokenizer=ByteTokenizer())
    path = tmp_path / "model" / "config.json"
    path.write_text(path.read_text().replace('"version": 3', '"version": 2'))
    with pytest.raises(ModelError, match="has format version 2, and its inner steps need 3"):
        load_model(tmp_path / "model")


@pytest.mark.parametrize("setting", [{"inner_lr": 0.1}, {"inner_momentum": 0.9}, {"inner_batch": 2}])
def test_settings_without_effect_are_refused(setting):
    with pytest.raises(UsageError, match="has no effect without inner_steps"):
        RWKV7Config(**SIZES, **setting)


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ({"inner_lr": 1.5}, "--inner-lr must be a share from 0 to 1"),
        ({"inner_momentum": 0.01}, "--inner-momentum must be 0, or from 0.05 to 0.99"),
        ({"inner_batch": 0}, "--inner-batch must be at least 1"),
        ({"inner_steps": -1}, "--inner-steps must not be negative"),
        ({"inner_steps": 65}, "--inner-steps must be at most 64"),
        ({"architecture": "x060"}, "--inner-steps is for x070"),
    ],
)
def test_impossible_settings_are_refused(setting, match):
    with pytest.raises(UsageError, match=match):
        PretrainConfig(**{"inner_steps": 2} | setting)


def test_a_kernel_that_cannot_is_refused(tmp_path):
    save_model(build("momentum"), tmp_path / "model", tokenizer=ByteTokenizer())
    with pytest.raises(UsageError, match="'compiled' cannot compute inner steps with a momentum or a batch"):
        load_model(tmp_path / "model", kernel="compiled")
    assert load_model(tmp_path / "model").kernel.backend == "chunked"


TRAINING = {"hidden_size": 16, "layers": 2, "head_size": 8, "ctx": 16, "batch": 2, "validation": 0.0}


def train(folder, data, steps, **options):
    config = PretrainConfig(**TRAINING, steps=steps, bf16=False, **options)
    pretrainer = Pretrainer(config, folder, resume=(folder / "latest").exists(), device="cpu")
    pretrainer.fit(data)
    return pretrainer.model.state_dict()


def test_a_run_resumes_to_the_last_bit(name, tmp_path):
    data = torch.randint(0, 50, (20, 30), generator=torch.Generator().manual_seed(2)).numpy()
    whole = train(tmp_path / "whole", data, 4, schedule="constant", **VARIANTS[name])
    train(tmp_path / "parts", data, 2, schedule="constant", **VARIANTS[name])
    parts = train(tmp_path / "parts", data, 4, schedule="constant", **VARIANTS[name])
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    rates = whole["blocks.0.att.inner_rate"]
    assert not torch.equal(rates, torch.full_like(rates, VARIANTS[name]["inner_lr"]))


def test_a_plain_model_learns_its_rates(name, tmp_path):
    save_model(
        lively(RWKV7(RWKV7Config(**SIZES), seed=1)), tmp_path / "plain", tokenizer=IntegerTokenizer(255)
    )
    data = torch.randint(0, 50, (20, 30), generator=torch.Generator().manual_seed(2)).numpy()
    settings = {**VARIANTS[name], "inner_lr": 0.0, "ctx": 16, "batch": 2, "validation": 0.0, "bf16": False}
    config = PretrainConfig(**settings, steps=3)
    pretrainer = Pretrainer(config, start=tmp_path / "plain", device="cpu")
    pretrainer.fit(data)
    assert pretrainer.model.config.inner_steps == VARIANTS[name]["inner_steps"]
    assert pretrainer.model.state_dict()["blocks.1.att.inner_rate"].abs().sum() > 0
    pretrainer.save_model(tmp_path / "inner")
    again = Pretrainer(config, start=tmp_path / "inner", device="cpu")
    with pytest.raises(UsageError, match="takes inner steps already, and keeps them"):
        again.fit(data)

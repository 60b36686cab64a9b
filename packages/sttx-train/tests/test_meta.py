"""Pretraining with --meta: gradients flow through the outer step, exactly, and runs resume bit for bit."""

from typing import Any

import numpy as np
import pytest
import torch

from sttx_core.errors import UsageError
from sttx_core.tokenizers import ByteTokenizer, IntegerTokenizer
from sttx_train.data.documents import Packed
from sttx_train.data.sampling import IGNORED, WindowBatch
from sttx_train.export.model import model_to_export
from sttx_train.formats import load_model
from sttx_train.inspect import inspect_model
from sttx_train.pretrain import PretrainConfig, Pretrainer
from sttx_train.pretrain.evaluation import pay
from sttx_train.pretrain.meta import pay_after_step
from sttx_train.pretrain.start import TrainingData
from sttx_train.pretrain.trainer import Trainer
from sttx_train.run_folder import RunFolder
from sttx_train.rwkv7 import RecurrentState
from sttx_train.shrink import ShrinkConfig, shrink_to
from sttx_train.workers import Workers

EOT = 60
TINY: dict[str, Any] = {
    "vocab_size": 13,
    "hidden_size": 32,
    "layers": 2,
    "head_size": 16,
    "ctx": 16,
    "batch": 2,
}
HOW: dict[str, Any] = {
    "lr": 6e-3,
    "warmup": 2,
    "steps": 6,
    "checkpoint_every": 2,
    "validation": 0.0,
    "bf16": False,
}


def config(**options):
    return PretrainConfig(**(TINY | HOW | {"meta": True} | options))


def documents(count=30, length=49):
    rows = (np.arange(length) + np.arange(count)[:, None]) % 12 + 1
    return Packed(np.concatenate([np.zeros((count, 1), int), rows], axis=1).ravel())


def trainer(made, folder=None, **options):
    data = TrainingData(train=documents())
    return Trainer(made, data, folder=folder and RunFolder(folder, kind="pretrain", keep=2), **options)


@pytest.fixture
def window(draw_ids):
    ids = draw_ids(2, 13).numpy() % EOT
    targets = ids[:, 1:].copy()
    targets[1, -2:] = IGNORED
    return WindowBatch(ids[:, :-1], targets)


@pytest.fixture
def learning(make_model):
    """Return a function that makes a model whose weights learn, and a state that it has read to."""

    def make(dtype=torch.float64, **sizes):
        model = make_model(dtype=dtype, **sizes).requires_grad_(True)
        state = RecurrentState.zeros(model.config, 2, dtype=dtype)
        with torch.no_grad():
            _, state = model(torch.tensor([[3, 1, 4], [1, 5, 9]]), state)
        return model, state

    return make


def priced(model, window, state, rate=0.3, weight=1.0):
    return pay_after_step(model, window, state, EOT, rate=rate, first_weight=weight)


class TestObjective:
    @pytest.mark.parametrize(
        "sizes",
        [
            {},
            {"num_layers": 1},
            {"inner_steps": 1, "inner_lr": 0.1},
            {"inner_steps": 2, "inner_lr": 0.1, "inner_momentum": 0.5, "inner_batch": 2},
            {"architecture": "x060"},
            {"architecture": "x052"},
        ],
        ids=["x070", "one-layer", "inner-steps", "momentum", "x060", "x052"],
    )
    def test_its_gradients_are_those_of_finite_differences(self, learning, window, sizes):
        model, state = learning(**({"num_layers": 2} | sizes))
        priced(model, window, state)[0].backward()
        generator = torch.Generator().manual_seed(0)
        for name, parameter in model.named_parameters():
            direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            found = float((parameter.grad * direction).sum())
            prices = []
            for step in (1e-6, -1e-6):
                with torch.no_grad():
                    parameter.add_(direction, alpha=step)
                prices.append(float(priced(model, window, state)[0].detach()))
                with torch.no_grad():
                    parameter.sub_(direction, alpha=step)
            assert (prices[0] - prices[1]) / 2e-6 == pytest.approx(found, rel=1e-4, abs=1e-5), name

    def test_gradients_flow_through_the_step(self, learning, window, monkeypatch):
        model, state = learning()
        priced(model, window, state)[0].backward()
        whole = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
        model.zero_grad()
        monkeypatch.setattr("sttx_train.pretrain.meta.scaled", lambda gradient: scale(gradient.detach()))
        from sttx_train.online.outer import scaled as scale

        priced(model, window, state)[0].backward()
        first_order = dict(model.named_parameters())
        assert any(not torch.allclose(whole[name], p.grad, rtol=1e-3) for name, p in first_order.items())

    def test_weights_are_of_the_gradient_and_the_value_is_the_price(self, learning, window):
        model, state = learning()
        gradients, values = [], []
        for weight in (0.0, 1.0, 0.3):
            model.zero_grad()
            summed, _ = priced(model, window, state, weight=weight)
            summed.backward()
            values.append(float(summed.detach()))
            gradients.append(model.head.weight.grad.clone())
        assert values[0] == pytest.approx(values[1]) and values[0] == pytest.approx(values[2])
        expected = gradients[0] + 0.3 * (gradients[1] - gradients[0])
        torch.testing.assert_close(gradients[2], expected)

    def test_a_step_lowers_the_price_of_the_same_text_again(self, learning, draw_ids):
        model, state = learning()
        half = draw_ids(2, 8).numpy() % EOT
        window = WindowBatch(np.tile(half, 2)[:, :-1], np.tile(half, 2)[:, 1:])
        none, after = (float(priced(model, window, state, rate=r)[0].detach()) for r in (1e-12, 1e-3))
        plain, _ = pay(model, window, state, model.device, EOT)
        assert after < none == pytest.approx(float(plain.detach()), rel=1e-6)

    def test_where_a_document_starts_in_the_first_half_no_step_is_taken(self, learning, window):
        model, state = learning()
        window.inputs[0, 2] = EOT
        own = [WindowBatch(*(ids[row : row + 1] for ids in window)) for row in range(2)]
        for row, steps in ((0, False), (1, True)):
            one = state.select([row])
            adapted, after = priced(model, own[row], one)
            plain, end = pay(model, own[row], one, model.device, EOT)
            assert torch.allclose(adapted, plain) == (not steps)
            assert torch.allclose(after.wkv, end.wkv) == (not steps)

    def test_rows_are_alone(self, learning, window):
        model, state = learning()
        whole, after = priced(model, window, state)
        single = [
            priced(model, WindowBatch(*(ids[row : row + 1] for ids in window)), state.select([row]))
            for row in range(2)
        ]
        assert float(whole.detach()) == pytest.approx(sum(float(one.detach()) for one, _ in single))
        torch.testing.assert_close(after.wkv, torch.cat([one.wkv for _, one in single], dim=1))


class TestRuns:
    @pytest.mark.parametrize(
        "options", [{"layers": 1}, {"layers": 2, "bf16": True}, {"layers": 12}, {"ghost_ratio": 0.5}], ids=str
    )
    def test_losses_are_finite_and_fall(self, options):
        losses = [step.loss for step in trainer(config(steps=12, **options)).run()]
        assert np.isfinite(losses).all() and losses[-1] < losses[0]

    def test_a_run_resumes_bit_for_bit(self, tmp_path, assert_same_tensors):
        whole = trainer(config(), tmp_path / "whole")
        losses = [step.loss for step in whole.run()]
        torn, steps = trainer(config(), tmp_path / "torn"), []
        for step in torn.run():
            steps.append(step.loss)
            if len(steps) == 3:
                break
        resumed = trainer(config(), tmp_path / "torn", resume=True)
        assert resumed.step == 2 and [step.loss for step in resumed.run()] == losses[2:]
        assert_same_tensors(dict(resumed.model.state_dict()), dict(whole.model.state_dict()))
        with pytest.raises(UsageError, match="--meta-lr 0.1, and this run has 0.2"):
            trainer(config(meta_lr=0.2), tmp_path / "torn", resume=True)
        with pytest.raises(UsageError, match="--meta True, and this run has False"):
            trainer(config(meta=False), tmp_path / "torn", resume=True)

    def test_a_model_says_how_it_was_pretrained(self, tmp_path):
        for meta in (True, False):
            made = config(meta=meta, vocab_size=0, steps=2, meta_lr=0.25)
            pretrainer = Pretrainer(made, tokenizer=ByteTokenizer())
            pretrainer.fit(documents(6))
            pretrainer.save_model(tmp_path / "m")
            facts = {"pretrained with --meta": "--meta-lr 0.25, --meta-weight 1, windows of 8"}
            assert inspect_model(tmp_path / "m")["metadata"] == (facts if meta else {})
            loaded = load_model(tmp_path / "m")
            shrink_to(loaded, tmp_path / "small", ShrinkConfig(bits=8))
            assert load_model(tmp_path / "small").metadata == (facts if meta else {}) == loaded.metadata
            assert any("pretrained for outer steps" in note for note in model_to_export(loaded).notes) == meta

    def test_several_processes_are_refused_before_a_step(self):
        workers = Workers(rank=0, count=2)
        pretrainer = Pretrainer(config(vocab_size=0), tokenizer=IntegerTokenizer(12))
        with pytest.raises(UsageError, match="--meta cannot be used in several processes"):
            pretrainer._trainer(documents(), workers)
        assert pretrainer._trainer(documents(), Workers()).workers.count == 1

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"phrase_prob": 0.5}, "--phrase-prob cannot be used with --meta"),
            ({"compile": True}, "--compile cannot be used with --meta"),
            ({"recompute": True}, "--recompute cannot be used with --meta"),
            ({"ctx": 1}, "--ctx must be at least 2"),
            ({"meta_lr": 0.0}, "--meta-lr must be above 0"),
            ({"meta_lr": float("inf")}, "--meta-lr must be finite"),
            ({"meta_weight": -1.0}, "--meta-weight must not be negative"),
        ],
    )
    def test_what_cannot_be_is_refused(self, options, said):
        with pytest.raises(UsageError, match=said):
            config(**options)

    def test_options_without_effect_are_named(self):
        assert {"meta_lr", "meta_weight"} <= PretrainConfig().without_effect(alone=True).keys()
        assert not {"meta_lr", "meta_weight"} & config().without_effect(alone=True).keys()

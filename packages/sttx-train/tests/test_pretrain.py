"""Pretraining: a loss that falls, limits that hold, and runs that resume as if uninterrupted."""

import importlib.machinery
import json
import math
import sys
import types
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sttx_core.errors import CheckpointError, DataError, UsageError
from sttx_core.tokenizers import ByteTokenizer, IntegerTokenizer
from sttx_train.checkpoint.store import CheckpointStore
from sttx_train.data.documents import Packed
from sttx_train.formats import load_model, save_model
from sttx_train.pretrain import PretrainConfig, Pretrainer, Validation, validation_bits
from sttx_train.pretrain.optimizer import make_optimizer
from sttx_train.pretrain.spike_guard import PATIENCE, SpikeGuard
from sttx_train.pretrain.start import StartingModel, TrainingData, model_sizes
from sttx_train.pretrain.trainer import Trainer
from sttx_train.run_folder import BEST, RunFolder
from sttx_train.rwkv7 import RWKV7, RWKV7Config, initialize

TINY: dict[str, Any] = {
    "vocab_size": 13,
    "hidden_size": 32,
    "layers": 2,
    "head_size": 16,
    "ctx": 16,
    "batch": 2,
    "lr": 6e-3,
    "warmup": 2,
    "steps": 9,
    "checkpoint_every": 2,
    "eval_every": 4,
    "validation": 0.0,
    "bf16": False,
}


def config(**options):
    return PretrainConfig(**(TINY | options))


def counting(documents=40, length=49):
    """Documents that follow a rule: each counts up and starts again."""
    rows = (np.arange(length) + np.arange(documents)[:, None]) % 12 + 1
    return Packed(np.concatenate([np.zeros((documents, 1), int), rows], axis=1).ravel())


def trained(config, directory=None, train=None, validation=None, hashes=None, **options):
    """Return a trainer; ``hashes`` are those of its vocabulary and its starting model."""
    hashes = hashes or {}
    data = TrainingData(
        train=counting() if train is None else train,
        validation=validation,
        tokenizer_sha256=hashes.get("--tokenizer"),
    )
    start = (
        StartingModel(model=RWKV7(model_sizes(config)), sha256=hashes["--start-from"])
        if "--start-from" in hashes
        else None
    )
    folder = RunFolder(directory, kind="pretrain", keep=2) if directory else None
    return Trainer(config, data, start=start, folder=folder, **options)


class TestConfig:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"steps": -3}, "--steps must not be negative"),
            ({"epochs": -1}, "--epochs"),
            ({"tokens": -1}, "--tokens"),
            ({"minutes": -1.0}, "--minutes"),
            ({"ctx": 0}, "--ctx must be at least 1"),
            ({"batch": 0}, "--batch"),
            ({"accumulate": 0}, "--accumulate"),
            ({"checkpoint_every": 0}, "--checkpoint-every"),
            ({"eval_every": 0}, "--eval-every"),
            ({"warmup": -1}, "--warmup"),
            ({"lr": 0.0}, "--lr must be above 0"),
            ({"lr": math.nan}, "--lr must be above 0"),
            ({"clip": 0.0}, "--clip"),
            ({"final": -0.1}, "--final must be a share"),
            ({"final": 1.5}, "--final"),
            ({"decay": 1.5}, "--decay"),
            ({"layers": 0}, "--layers"),
            ({"head_size": 0}, "--head-size"),
            ({"weight_decay": -0.1}, "--weight-decay"),
            ({"spike": 0.5}, "--spike must be 0, or a factor above 1"),
            ({"validation": 1.0}, "--validation"),
            ({"schedule": "linear"}, "--schedule must be one of cosine, wsd, constant, not 'linear'"),
            ({"parallel": "both"}, "--parallel must be one of ddp, fsdp"),
            ({"steps": 2.5}, "--steps must be a whole number, not 2.5"),
            ({"lr": math.inf}, "--lr must be finite"),
            ({"seed": -1}, "--seed must not be negative"),
        ],
        ids=str,
    )
    def test_bad_options_are_refused_by_name(self, options, said):
        with pytest.raises(UsageError, match=said):
            config(**options)

    def test_sizes_are_the_models(self):
        sizes = model_sizes(config())
        assert (sizes.vocab_size, sizes.hidden_size, sizes.num_layers, sizes.head_size) == (13, 32, 2, 16)
        with pytest.raises(UsageError, match="--hidden-size 40 must be a multiple of --head-size 16"):
            model_sizes(config(hidden_size=40))
        with pytest.raises(UsageError, match="vocab_size"):
            model_sizes(config(vocab_size=0))

    def test_the_limit_that_is_nearest_counts_and_without_any_it_is_one_epoch(self):
        assert config(steps=0).share_done(step=5, tokens=9, epochs=0.5, seconds=1.0) == 0.5
        assert config(steps=10, epochs=2).share_done(step=1, tokens=0, epochs=0.5, seconds=0) == 0.25
        assert config(steps=0, tokens=100).share_done(step=1, tokens=60, epochs=7, seconds=0) == 0.6
        assert config(steps=0, minutes=2.0).share_done(step=1, tokens=60, epochs=7, seconds=180) == 1.0

    @pytest.mark.parametrize("schedule", ["cosine", "wsd", "constant"])
    def test_the_rate_warms_up_and_falls_as_its_schedule_says(self, schedule):
        made = config(schedule=schedule, warmup=4, final=0.1, decay=0.25, lr=1.0)
        rates = [made.learning_rate(step, step / 20) for step in range(21)]
        assert rates[:4] == sorted(rates[:4]) and rates[0] == pytest.approx(0.25, rel=0.01)
        assert rates[4:] == sorted(rates[4:], reverse=True) and max(rates) <= 1.0
        assert rates[20] == pytest.approx(1.0 if schedule == "constant" else 0.1)
        assert rates[14] == (pytest.approx(1.0) if schedule != "cosine" else pytest.approx(0.285, abs=0.01))


class TestOptimizer:
    def test_decay_is_on_matrices_only_and_w0_learns_twice_as_fast(self):
        model = RWKV7(model_sizes(config()))
        names = {id(weight): name for name, weight in model.named_parameters()}
        matrices, rest, doubled = make_optimizer(model, config(weight_decay=0.3)).param_groups
        assert [group["weight_decay"] for group in (matrices, rest, doubled)] == [0.3, 0.0, 0.0]
        assert [group["lr_scale"] for group in (matrices, rest, doubled)] == [1.0, 1.0, 2.0]
        by_group = [{names[id(weight)] for weight in group["params"]} for group in (matrices, rest, doubled)]
        assert by_group[2] == {"blocks.0.att.w0", "blocks.1.att.w0"}
        assert {
            "emb.weight",
            "head.weight",
            "blocks.1.ffn.key.weight",
            "blocks.0.att.output.weight",
        } <= by_group[0]
        assert {"blocks.0.att.w1", "blocks.1.att.r_k", "ln_out.weight", "blocks.0.ln0.bias"} <= by_group[1]
        assert sum(map(len, by_group)) == len(names) == len(set.union(*by_group))

    def test_it_begins_with_the_published_initialization(self, assert_same_tensors):
        expected = initialize(RWKV7(model_sizes(config())), seed=5).state_dict()
        assert_same_tensors(dict(trained(config(seed=5)).model.state_dict()), expected)


class TestLimits:
    def test_the_loss_on_a_rule_falls(self, run):
        losses = run(trained(config(steps=150, lr=1e-2)))
        assert losses[0] == pytest.approx(np.log(13), rel=0.05), "a new model knows nothing"
        assert losses[-1] < 0.35 * losses[0]

    def test_every_step_is_reported(self, tmp_path):
        trainer = trained(config(steps=3), tmp_path)
        steps = list(trainer.run())
        assert [step.step for step in steps] == [1, 2, 3]
        assert [step.tokens for step in steps] == [32, 64, 96]
        assert all(step.grad_norm > 0 and step.lr > 0 and not step.skipped for step in steps)
        assert trainer.progress() == 1.0 and trainer.folder.checkpoints.load().step == 3

    def test_epochs_read_every_id_so_often(self, run):
        trainer = trained(config(steps=0, epochs=2))
        run(trainer)
        assert trainer.tokens == 2 * (40 * 50 - 1) and trainer.epochs == 2.0

    def test_tokens_end_it_with_the_step_that_reaches_them(self, run):
        trainer = trained(config(steps=0, tokens=70))
        assert len(run(trainer)) == 3 and trainer.tokens == 96

    def test_minutes_end_it_too(self, run):
        trainer = trained(config(steps=0, minutes=1e-9))
        assert len(run(trainer)) == 1 and trainer.progress() == 1.0

    @pytest.mark.parametrize("options", [{"batch": 1, "accumulate": 4}, {"batch": 2, "accumulate": 2}])
    def test_accumulated_passes_are_a_larger_batch(self, options, run):
        whole, parts = (trained(config(**rows)) for rows in ({"batch": 4}, options))
        assert run(parts) == pytest.approx(run(whole), rel=1e-5)
        for name, weight in parts.model.state_dict().items():
            assert torch.allclose(weight, whole.model.state_dict()[name], atol=1e-3), name

    @pytest.mark.parametrize("options", [{"recompute": True}, {"bf16": True}], ids=str)
    def test_ways_to_compute_give_nearly_the_same(self, options, run):
        limit = 0.03 if "bf16" in options else 1e-5
        assert run(trained(config(**options))) == pytest.approx(run(trained(config())), rel=limit)

    def test_ids_beyond_the_vocabulary_are_refused(self, run):
        with pytest.raises(DataError, match="holds the id 12, and the model has 12 rows"):
            run(trained(config(vocab_size=12)))


@pytest.mark.slow
def test_a_planted_rule_is_learned_within_a_minute():
    """Values follow a = (3 a + 1) mod 97: all but the first of each row and its end can be predicted."""
    values = np.random.default_rng(0).integers(0, 97, (200, 1024))
    for column in range(1, 1024):
        values[:, column] = (3 * values[:, column - 1] + 1) % 97
    sizes = {"hidden_size": 64, "layers": 2, "head_size": 32, "ctx": 128, "batch": 8}
    how = {"lr": 4e-3, "warmup": 20, "steps": 100, "validation": 0.1, "bf16": False}
    pretrainer = Pretrainer(PretrainConfig(**sizes, **how))
    report = pretrainer.fit(values)
    assert report.loss["validation"] / math.log(2) < 0.05
    assert report.skipped == 0 and report.seconds < 120


class TestResume:
    @pytest.mark.parametrize(
        ("died_after", "bf16"), [([3], False), ([2, 5], False), ([1, 3, 4], False), ([2, 5], True)], ids=str
    )
    def test_interrupted_anywhere_it_equals_the_uninterrupted_run(
        self, tmp_path, died_after, bf16, run, assert_same_tensors
    ):
        made = config(bf16=bf16, steps=0, tokens=32 * 22)
        data = counting(10)
        whole = trained(made, tmp_path / "whole", data, validation=counting(3))
        losses = run(whole)
        assert whole.epochs > 1
        torn = trained(made, tmp_path / "torn", data, validation=counting(3))
        torn.save()
        for steps in died_after:
            run(torn, steps=2 * steps)
            torn = trained(made, tmp_path / "torn", data, validation=counting(3), resume=True)
            assert torn.step % 2 == 0
        done = torn.step
        assert run(torn) == losses[done:]
        assert_same_tensors(dict(torn.model.state_dict()), dict(whole.model.state_dict()))
        one, other = (trainer.folder.checkpoints.load() for trainer in (whole, torn))
        for file in ("optimizer", "state"):
            assert_same_tensors(one.tensors[file], other.tensors[file])
        assert one.documents["progress"] == other.documents["progress"]

    def test_a_finished_run_resumes_to_nothing_more_and_may_be_made_longer(self, tmp_path, run):
        run(trained(config(steps=4), tmp_path))
        assert run(trained(config(steps=4), tmp_path, resume=True)) == []
        assert len(run(trained(config(steps=6), tmp_path, resume=True))) == 2

    def test_the_same_rows_may_be_divided_otherwise(self, tmp_path, run):
        expected = run(trained(config(batch=4)))
        run(trained(config(batch=4), tmp_path), steps=5)
        torn = trained(config(batch=1, accumulate=4), tmp_path, resume=True)
        assert run(torn) == pytest.approx(expected[4:], rel=1e-5)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"vocab_size": 26}, "--vocab-size 13, and this run has 26: give the same"),
            ({"hidden_size": 64}, "--hidden-size 32, and this run has 64"),
            ({"layers": 4}, "--layers"),
            ({"ctx": 32}, "--ctx"),
            ({"lr": 1.0}, "--lr"),
            ({"seed": 1}, "--seed"),
            ({"schedule": "wsd"}, "--schedule"),
            (
                {"batch": 4},
                r"reads 2 rows a step, not 4: --batch x --accumulate x processes must stay 2$",
            ),
        ],
        ids=str,
    )
    def test_a_run_of_other_settings_is_refused(self, tmp_path, options, said):
        trained(config(), tmp_path).save()
        with pytest.raises(UsageError, match=said):
            trained(config(**options), tmp_path, resume=True)

    def test_a_run_of_other_data_is_refused(self, tmp_path):
        trained(config(), tmp_path).save()
        message = "read other data, of 2,000 ids, not these of 2,050: give the same data and --tokenizer$"
        with pytest.raises(UsageError, match=f"^the run in '.*' {message}"):
            trained(config(), tmp_path, counting(41), resume=True)

    @pytest.mark.parametrize(
        ("size", "name"), [("num_layers", "--layers"), ("ffn_size", "ffn_size")], ids=lambda value: value
    )
    def test_a_model_of_another_size_is_refused_by_that_size(self, tmp_path, monkeypatch, size, name):
        trained(config(), tmp_path).save()
        sizes = RWKV7Config.to_dict
        monkeypatch.setattr(RWKV7Config, "to_dict", lambda self: sizes(self) | {size: 7})
        with pytest.raises(UsageError, match=rf"made with a model of {name} \d+, and this run has 7: give"):
            trained(config(), tmp_path, resume=True)

    @pytest.mark.parametrize("name", ["--tokenizer", "--start-from"])
    def test_a_run_of_another_vocabulary_or_model_is_refused(self, tmp_path, name, run):
        run(trained(config(), tmp_path, hashes={name: "one"}))
        with pytest.raises(UsageError, match=f"a {name} of SHA-256 'one', and this run has 'two'"):
            trained(config(), tmp_path, hashes={name: "two"}, resume=True)
        assert trained(config(), tmp_path, hashes={name: "one"}, resume=True).step == 9

    def test_a_run_of_another_kind_is_refused(self, tmp_path):
        trained(config(), tmp_path / "a").folder.checkpoints.save(
            1, tensors={}, documents={"config": {}}, manifest={"kind": "stream"}
        )
        with pytest.raises(UsageError, match="holds a run of 'sttx train', not of 'sttx pretrain'"):
            trained(config(), tmp_path / "a", resume=True)
        with pytest.raises(CheckpointError, match="leave out --resume to start there"):
            trained(config(), tmp_path / "b", resume=True)


class TestSpikeGuard:
    def test_losses_that_are_not_finite_and_spikes_are_skipped(self):
        guard = SpikeGuard(2.0)
        assert guard.skips(math.nan, 1.0) and guard.skips(1.0, math.inf)
        assert not any(guard.skips(9.0, 1.0) for _ in range(20))
        assert guard.skips(18.1, 1.0) and not guard.skips(17.9, 1.0) and not guard.exhausted
        assert guard.skipped == 3
        again = SpikeGuard(2.0)
        again.load_state_dict(json.loads(json.dumps(guard.state_dict())))
        assert [again.skips(19.0, 1.0) for _ in range(PATIENCE)] == [True] * PATIENCE
        assert again.exhausted and not SpikeGuard(0.0).skips(1e9, 1.0)
        easy = SpikeGuard(3.0)
        assert not any(easy.skips(loss, 1.0) for loss in (*[0.01] * 30, 0.9)) and easy.skips(1.2, 1.0)

    def test_skipped_steps_change_nothing_and_are_reported(self, monkeypatch):
        said, trainer = [], trained(config(steps=4, lr=1e-4))
        trainer._say = said.append
        taken = trainer._passes

        def spoilt(window, scale):
            nats, state = taken(window, scale)
            return (nats * math.nan if trainer.step == 1 else nats), state

        monkeypatch.setattr(trainer, "_passes", spoilt)
        steps = list(trainer.run())
        assert [step.skipped for step in steps] == [False, True, False, False]
        assert [step.tokens for step in steps] == [32, 32, 64, 96]
        assert "step 2 is skipped: its loss is nan" in said[0] and len(said) == 1
        assert all(weight.isfinite().all() for weight in trainer.model.parameters())

    def test_a_run_that_diverges_ends_with_a_checkpoint(self, tmp_path, monkeypatch, run):
        trainer = trained(config(steps=90, checkpoint_every=50), tmp_path)
        monkeypatch.setattr(
            trainer._spike_guard,
            "skips",
            lambda *numbers: SpikeGuard.skips(trainer._spike_guard, math.nan, 1),
        )
        with pytest.raises(DataError, match="5 steps in a row were skipped.*step 5 is saved in"):
            run(trainer)
        assert trainer.folder.checkpoints.load().step == 5

    def test_a_loss_that_is_not_finite_is_never_the_best(self, tmp_path, run):
        trainer = trained(config(validation=0.2), tmp_path, validation=counting(4))
        prices = iter([math.nan, 2.0, math.inf])
        trainer._evaluation = lambda *_: Validation(next(prices), None, 1)
        run(trainer)
        assert trainer.best.loss == 2.0
        assert len(CheckpointStore(tmp_path / BEST).folders()) == 1


class TestPretrainer:
    def test_an_array_trains_a_model_that_loads(self, tmp_path):
        array = (np.arange(30) + np.arange(20)[:, None]) % 7
        pretrainer = Pretrainer(config(vocab_size=0, validation=0.2), tmp_path / "run")
        report = pretrainer.fit(array)
        assert report.steps == 9 and report.parameters == sum(
            x.numel() for x in pretrainer.model.parameters()
        )
        assert set(report.loss) == {"train", "validation", "validation_phrases"}
        assert set(report.bpb.values()) == {None}
        names = [path.name for path in pretrainer.checkpoints()]
        assert names[:2] == ["step-00000008", "step-00000009"] and len(names) == 3
        pretrainer.save_model(tmp_path / "model")
        loaded = load_model(tmp_path / "model")
        assert loaded.vocabulary.spec == "integer:6" and loaded.model.config.vocab_size == 8
        rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
        assert [row["step"] for row in rows] == list(range(1, 10))
        assert [row["step"] for row in rows if "validation_loss" in row] == [4, 8, 9]
        assert all("validation_bpb" not in row for row in rows)

    def test_the_model_that_did_best_is_kept(self, tmp_path):
        array = (np.arange(30) + np.arange(20)[:, None]) % 7
        pretrainer = Pretrainer(config(vocab_size=0, validation=0.2), tmp_path / "run")
        pretrainer.fit(array)
        best = pretrainer.trainer.best
        with torch.no_grad():
            pretrainer.model.head.weight.mul_(-1)
        assert pretrainer.trainer.measure().loss > best.loss and pretrainer.trainer.best is best
        pretrainer.save_model(tmp_path / "model", dtype=torch.float32)
        pretrainer.model.load_state_dict(load_model(tmp_path / "model").model.state_dict())
        assert pretrainer.trainer.measure() == best

    def test_a_model_saved_on_the_way_changes_nothing(self, tmp_path, assert_same_tensors):
        options = TINY | {"validation": 0.2, "eval_every": 2}
        plain = Pretrainer(PretrainConfig(**options), tmp_path / "plain")
        expected = [step.loss for step in plain.steps(counting())]
        saving, losses = Pretrainer(PretrainConfig(**options), tmp_path / "saving"), []
        for step in saving.steps(counting()):
            losses.append(step.loss)
            if step.step == 5:
                saving.save_model(tmp_path / "model")
        assert losses == expected
        assert_same_tensors(saving.model.state_dict(), plain.model.state_dict())

    def test_a_model_that_diverged_is_not_written(self, tmp_path):
        pretrainer = Pretrainer(config(validation=0.2, steps=3, lr=1e9), tmp_path / "run")
        report = pretrainer.fit(counting())
        assert report.loss["validation"] is None
        with pytest.raises(DataError, match="is not written; start again with a lower --lr"):
            pretrainer.save_model(tmp_path / "model")
        assert not (tmp_path / "model").exists()

    def test_lists_are_an_array(self):
        rows = ((np.arange(30) + np.arange(20)[:, None]) % 7).tolist()
        options = TINY | {"vocab_size": 0, "steps": 2}
        losses = [
            [step.loss for step in Pretrainer(PretrainConfig(**options)).steps(data)]
            for data in (rows, np.array(rows))
        ]
        assert losses[0] == losses[1]
        with pytest.raises(DataError, match="the array"):
            Pretrainer(PretrainConfig(**options)).fit([])

    def test_it_trains_once(self):
        trainer = Pretrainer(config(steps=1))
        trainer.fit(counting())
        with pytest.raises(UsageError, match="has trained already: make another"):
            trainer.fit(counting())

    def test_another_vocabulary_than_the_models_is_noted(self, tmp_path):
        save_model(RWKV7(model_sizes(config(vocab_size=257))), tmp_path / "m", tokenizer=ByteTokenizer())
        said = []
        Pretrainer(config(), tokenizer=IntegerTokenizer(11), start=tmp_path / "m", say=said.append)
        assert any("m was made with another vocabulary" in one for one in said)
        said.clear()
        Pretrainer(config(), tokenizer=ByteTokenizer(), start=tmp_path / "m", say=said.append)
        assert [one.split(":")[0] for one in said] == ["device"]

    def test_text_is_measured_in_bits_per_byte(self, tmp_path):
        ids = [0, *ByteTokenizer().encode("So it goes. " * 20)] * 10
        pretrainer = Pretrainer(config(vocab_size=0, validation=0.2), tokenizer=ByteTokenizer())
        report = pretrainer.fit(Packed(np.array(ids)))
        best = pretrainer.trainer.best
        assert report.bpb["validation"] == best.bpb
        assert best.bpb == pytest.approx(best.loss / math.log(2) * best.tokens / 480, rel=1e-6)

    def test_training_continues_from_a_model(self, tmp_path):
        ids = np.array([0, *ByteTokenizer().encode("So it goes. " * 20)] * 10)
        first = Pretrainer(config(vocab_size=0, steps=40), tokenizer=ByteTokenizer())
        first.fit(Packed(ids))
        save_model(first.model, tmp_path / "model", tokenizer=ByteTokenizer(), dtype=torch.float32)
        second = Pretrainer(config(vocab_size=0, hidden_size=64, steps=1), start=tmp_path / "model")
        report = second.fit(Packed(ids))
        assert second.model.config == first.model.config, "the sizes are the model's"
        assert report.loss["train"] < 1.2 * first.report().loss["train"] < 3.0
        with pytest.raises(UsageError, match="has 257 rows, and the vocabulary has 300 ids"):
            Pretrainer(config(vocab_size=300), start=tmp_path / "model").fit(Packed(ids))

    def test_a_run_that_has_reached_its_limits_says_so(self, tmp_path):
        said = []
        Pretrainer(config(steps=3), tmp_path, say=said.append).fit(counting())
        assert not any("nothing is left" in text for text in said)
        Pretrainer(config(steps=2), tmp_path, resume=True, say=said.append).fit(counting())
        assert said[-1] == "nothing is left to train: the run reached its limits at step 3"

    def test_wrong_use_is_refused(self, tmp_path):
        with pytest.raises(UsageError, match="without a folder"):
            Pretrainer(config(), resume=True)
        with pytest.raises(UsageError, match="there is no model yet"):
            Pretrainer(config()).report()
        with pytest.raises(UsageError, match="come without a vocabulary"):
            Pretrainer(config(vocab_size=0)).fit(counting())
        Pretrainer(config(steps=2), tmp_path).fit(counting())
        with pytest.raises(UsageError, match="already holds a run"):
            Pretrainer(config(steps=2), tmp_path)
        with pytest.raises(UsageError, match="no checkpoint"):
            Pretrainer(config(steps=2), tmp_path / "new", resume=True)


def test_a_writer_that_is_not_installed_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in ("tensorboard", "wandb"):
        with pytest.raises(UsageError, match=f"--log {name} needs the package '{name}'"):
            Pretrainer(config(), tmp_path / "run", log=[name])
    assert not (tmp_path / "run").exists()


def test_metrics_go_to_weights_and_biases(tmp_path, monkeypatch):
    """A stand-in for Weights & Biases: only the calls of its documented interface are made."""
    logged, calls = [], []

    class Run:
        def log(self, row, step):
            logged.append((step, row))

        def finish(self):
            calls.append("finish")

    module = types.ModuleType("wandb")
    module.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
    module.init = lambda **options: calls.append(options) or Run()
    monkeypatch.setitem(sys.modules, "wandb", module)
    Pretrainer(config(steps=2), tmp_path / "run", log=["wandb"]).fit(counting())
    assert [step for step, _ in logged] == [1, 2] and logged[0][1]["loss"] > 0
    assert calls[0]["config"]["lr"] == 6e-3 and calls[1:] == ["finish"]


def test_validation_bits_do_not_depend_on_the_window(make_model):
    model, ids = make_model(), np.append(0, np.random.default_rng(0).integers(1, 61, 49))
    logits, _ = model(torch.from_numpy(ids[None, :-1]))
    whole = float(F.cross_entropy(logits[0], torch.from_numpy(ids[1:]), reduction="sum")) / np.log(2)
    for ctx in (1, 7, 49, 512):
        assert validation_bits(model, ids, ctx=ctx) == pytest.approx(whole, rel=1e-5)

"""Pretraining: every token once, a loss that falls, and a resumed run that is the uninterrupted one."""

import json
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sttx_core.errors import CheckpointError, DataError, UsageError
from sttx_train.pretrain import PretrainConfig, Pretrainer, held_out_bits
from sttx_train.pretrain.data import PackedStreams, iter_documents
from sttx_train.pretrain.trainer import drop_metrics_after, make_optimizer, write_metrics
from sttx_train.rwkv7 import RWKV7, initialize

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
    "bf16": False,
}


def config(**options):
    return PretrainConfig(**(TINY | options))


def counting(length=2000):
    """Tokens that follow a rule: they count up, and begin again."""
    return (np.arange(length) % 12 + 1).astype(np.uint16)


class TestConfig:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"steps": 0}, "--steps or --minutes"),
            ({"steps": -3}, "--steps"),
            ({"minutes": -1.0}, "--minutes"),
            ({"ctx": 0}, "--ctx"),
            ({"batch": 0}, "--batch"),
            ({"checkpoint_every": 0}, "--checkpoint-every"),
            ({"warmup": -1}, "--warmup"),
            ({"lr": 0.0}, "--lr"),
            ({"clip": 0.0}, "--clip"),
            ({"reset": 1.5}, "--reset"),
            ({"final": -0.1}, "--final"),
            ({"final": 1.5}, "--final"),
            ({"layers": 0}, "--layers must be at least 1"),
            ({"head_size": 0}, "--head-size must be at least 1"),
            ({"weight_decay": -0.1}, "--weight-decay"),
        ],
        ids=str,
    )
    def test_bad_options_are_refused_by_name(self, options, said):
        with pytest.raises(UsageError, match=said):
            config(**options)

    def test_sizes_are_the_models(self):
        sizes = config().model_config()
        assert (sizes.vocab_size, sizes.hidden_size, sizes.num_layers, sizes.head_size) == (13, 32, 2, 16)
        with pytest.raises(UsageError, match="--hidden-size 40 must be a multiple of --head-size 16"):
            config(hidden_size=40).model_config()


class TestData:
    def test_documents_come_in_name_order_folders_walked(self, tmp_path):
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "z.txt").write_text("two")
        (tmp_path / "a.txt").write_text("one")
        assert list(iter_documents([tmp_path])) == ["one", "two"]
        assert list(iter_documents([tmp_path / "b", tmp_path / "a.txt"])) == ["two", "one"]

    def test_what_is_no_text_is_passed_over_in_a_folder_and_refused_by_name(self, tmp_path):
        odd = {"latin.txt": b"\xff!", "module.pyc": b"\x00a"}
        for name, content in {"good.txt": b"one\r\nline", **odd}.items():
            (tmp_path / name).write_bytes(content)
        skipped = []
        assert list(iter_documents([tmp_path], skipped)) == ["one\nline"]
        assert skipped == [tmp_path / name for name in odd]
        for name in odd:
            with pytest.raises(DataError, match=f"{name}' is no text"):
                list(iter_documents([tmp_path / name]))

    def test_what_is_absent_or_too_large_is_refused(self, tmp_path, monkeypatch):
        with pytest.raises(DataError, match="does not exist"):
            list(iter_documents([tmp_path / "gone"]))
        monkeypatch.setattr("sttx_train.pretrain.data.TEXT_LIMIT", 3)
        (tmp_path / "long.txt").write_text("four")
        with pytest.raises(DataError, match="split it into documents"):
            list(iter_documents([tmp_path]))

    @pytest.mark.parametrize(
        ("length", "batch", "context"), [(101, 4, 5), (100, 3, 7), (17, 1, 16), (64, 2, 8)]
    )
    def test_an_epoch_predicts_every_token_once_and_each_stream_in_order(self, length, batch, context):
        tokens = np.arange(length, dtype=np.uint16)
        streams = PackedStreams(tokens, batch=batch, context=context)
        windows = [streams.window(step) for step in range(streams.windows)]
        assert {window.shape for window in windows} == {(batch, context + 1)}
        targets = np.concatenate([window[:, 1:] for window in windows], axis=1)
        covered = batch * streams.windows * context
        assert sorted(targets.flatten().tolist()) == list(range(1, covered + 1))
        assert covered > length - 1 - batch * context, "less than a window a stream is left out"
        for one, other in zip(windows, windows[1:], strict=False):
            assert np.array_equal(one[:, -1], other[:, 0]), "a stream goes on where it was"

    def test_the_next_epoch_is_the_same_and_begins_anew(self):
        streams = PackedStreams(np.arange(50, dtype=np.uint16), batch=2, context=6)
        assert np.array_equal(streams.window(1), streams.window(1 + streams.windows))
        assert [streams.starts_epoch(step) for step in range(9)] == [step % 4 == 0 for step in range(9)]

    def test_too_few_tokens_are_refused(self):
        with pytest.raises(DataError, match="8 tokens are too few for 2 streams of 4"):
            PackedStreams(np.zeros(8, dtype=np.uint16), batch=2, context=4)
        assert PackedStreams(np.zeros(9, dtype=np.uint16), batch=2, context=4).windows == 1


class TestOptimizer:
    def test_decay_is_on_matrices_only_and_w0_learns_twice_as_fast(self):
        model = RWKV7(config().model_config())
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

    def test_the_rate_warms_up_and_falls_to_its_share(self, tmp_path):
        trainer = Pretrainer(config(steps=20, warmup=4, final=0.1), tmp_path)
        rates = []
        for trainer.step in range(21):
            rates.append(trainer._learning_rate())
        assert rates[:4] == sorted(rates[:4]) and rates[0] < 0.3 * 6e-3
        assert max(rates) <= 6e-3 and rates[4:] == sorted(rates[4:], reverse=True)
        assert rates[20] == pytest.approx(0.1 * 6e-3)

    def test_it_begins_with_the_published_initialisation(self, tmp_path):
        trainer = Pretrainer(config(seed=5), tmp_path)
        expected = initialize(RWKV7(config().model_config()), seed=5).state_dict()
        assert all(torch.equal(weight, expected[name]) for name, weight in trainer.model.state_dict().items())


def run(trainer, tokens=None, steps=None):
    """Train; stop after so many steps as a kill would, without a last save."""
    losses = []
    for step in trainer.run(counting() if tokens is None else tokens):
        losses.append(step.loss)
        if steps is not None and len(losses) == steps:
            break
    return losses


class TestRun:
    def test_the_loss_on_a_rule_falls(self, tmp_path):
        losses = run(Pretrainer(config(steps=60, checkpoint_every=1000), tmp_path))
        assert losses[0] == pytest.approx(np.log(13), rel=0.02), "a fresh model knows nothing"
        assert losses[-1] < 0.35 * losses[0]

    def test_steps_are_told_as_they_were(self, tmp_path):
        trainer = Pretrainer(config(steps=3), tmp_path)
        told = list(trainer.run(counting()))
        assert [step.step for step in told] == [1, 2, 3]
        assert [step.tokens for step in told] == [32, 64, 96]
        assert all(step.grad_norm > 0 and step.lr > 0 for step in told)
        assert trainer.progress() == 1.0 and trainer.store.load().step == 3

    def test_minutes_end_it_too(self, tmp_path):
        trainer = Pretrainer(config(steps=0, minutes=1e-9), tmp_path)
        assert len(run(trainer)) == 1 and trainer.progress() == 1.0

    @pytest.mark.parametrize("died_after", [[3], [2, 5], [1, 3, 4]], ids=str)
    @pytest.mark.parametrize("bf16", [False, True])
    def test_interrupted_anywhere_it_is_the_uninterrupted_run(self, tmp_path, died_after, bf16):
        options = {"bf16": bf16, "reset": 0.5}
        whole = Pretrainer(config(**options), tmp_path / "whole")
        losses = run(whole)
        torn = Pretrainer(config(**options), tmp_path / "torn")
        torn.save()
        for steps in died_after:
            run(torn, steps=steps)
            torn = Pretrainer(config(**options), tmp_path / "torn", resume=True)
            assert torn.step % 2 == 0
        done = torn.step
        assert run(torn) == losses[done:]
        weights = whole.model.state_dict()
        assert [n for n, w in torn.model.state_dict().items() if not torch.equal(w, weights[n])] == []
        one, other = (trainer.store.load().tensors for trainer in (whole, torn))
        for file in ("optimizer", "state"):
            assert [name for name in one[file] if not torch.equal(one[file][name], other[file][name])] == []

    def test_a_finished_run_resumes_to_nothing_more(self, tmp_path):
        run(Pretrainer(config(steps=4), tmp_path))
        assert run(Pretrainer(config(steps=4), tmp_path, resume=True)) == []
        assert len(run(Pretrainer(config(steps=6), tmp_path, resume=True))) == 2

    @pytest.mark.parametrize("name", ["vocab_size", "hidden_size", "layers", "head_size", "ctx", "batch"])
    def test_a_run_of_another_shape_is_refused(self, tmp_path, name):
        Pretrainer(config(), tmp_path).save()
        option = name.replace("_", "-")
        with pytest.raises(
            UsageError, match=rf"has --{option} {TINY[name]}, not {2 * TINY[name]}: give the same"
        ):
            Pretrainer(config(**{name: 2 * TINY[name]}), tmp_path, resume=True)

    def test_a_run_of_another_kind_is_refused(self, tmp_path):
        Pretrainer(config(), tmp_path / "a").store.save(
            1, tensors={}, documents={"config": {}}, manifest={"kind": "stream"}
        )
        with pytest.raises(CheckpointError, match="has kind 'stream'"):
            Pretrainer(config(), tmp_path / "a", resume=True)
        with pytest.raises(CheckpointError, match="start without resuming"):
            Pretrainer(config(), tmp_path / "b", resume=True)

    def test_states_are_reset_as_often_as_asked_and_at_every_epoch(self, tmp_path):
        for reset, kept in ((0.0, True), (1.0, False)):
            trainer = Pretrainer(config(steps=3, reset=reset), tmp_path / str(reset))
            run(trainer)
            streams = PackedStreams(counting(), batch=2, context=16)
            assert bool(trainer._starting_state(streams).wkv.any()) is kept
            trainer.step = streams.windows
            assert not trainer._starting_state(streams).wkv.any()


def test_held_out_bits_do_not_depend_on_how_the_text_is_cut(make_model):
    model, ids = make_model(), np.random.default_rng(0).integers(0, 61, 50)
    logits, _ = model(torch.from_numpy(ids[None, :-1]))
    whole = float(F.cross_entropy(logits[0], torch.from_numpy(ids[1:]), reduction="sum")) / np.log(2)
    for ctx in (1, 7, 49, 512):
        assert held_out_bits(model, ids, ctx=ctx) == pytest.approx(whole, rel=1e-5)


def test_metrics_are_lines_of_json(tmp_path):
    trainer = Pretrainer(config(steps=2), tmp_path / "run")
    for step in trainer.run(counting()):
        write_metrics(tmp_path / "new" / "metrics.jsonl", step, held=1.5)
    rows = [json.loads(line) for line in (tmp_path / "new" / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["held"]) for row in rows] == [(1, 1.5), (2, 1.5)]
    assert set(rows[0]) == {"step", "loss", "lr", "grad_norm", "tokens", "seconds", "held"}


def test_metrics_of_steps_that_are_done_again_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    drop_metrics_after(path, 3)
    assert not path.exists()
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    drop_metrics_after(path, 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'

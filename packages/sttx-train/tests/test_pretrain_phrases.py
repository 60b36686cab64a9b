"""Pretraining in phrases: the online learner's prices, a table for each stream, runs that resume."""

import json
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sttx_core.errors import UsageError
from sttx_core.hypernet import HyperNetwork
from sttx_core.tokenizers import ByteTokenizer
from sttx_train.data.documents import Packed
from sttx_train.data.sampling import Sampler
from sttx_train.formats import load_model
from sttx_train.online import LearnerConfig, OnlineLearner, Window
from sttx_train.pretrain import PretrainConfig, Pretrainer
from sttx_train.pretrain.phrases import PhraseModel, PhraseStreams, PhraseTraining
from sttx_train.pretrain.start import TrainingData
from sttx_train.pretrain.trainer import Trainer
from sttx_train.run_folder import RunFolder
from sttx_train.rwkv7 import RecurrentState

VOCAB = 61  # of the models that conftest makes
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
    "phrase_prob": 0.5,
}
TEXT = "So it goes, and so it went. " * 12


def config(**options):
    return PretrainConfig(**(TINY | options))


def trained(config, directory=None, validation=None, resume=False):
    folder = RunFolder(directory, kind="pretrain", keep=2) if directory else None
    data = TrainingData(train=counting(), validation=validation)
    return Trainer(config, data, folder=folder, resume=resume)


def counting(documents=10, length=49):
    """Return documents that follow a rule: each counts up and starts again."""
    rows = (np.arange(length) + np.arange(documents)[:, None]) % 12 + 1
    return Packed(np.concatenate([np.zeros((documents, 1), int), rows], axis=1).ravel())


def text(documents=10):
    return Packed(np.array([0, *ByteTokenizer().encode(TEXT)] * documents))


def phrase_model(make_model, seed=3):
    """Return a random model whose hypernetwork is not in its initial state."""
    model = make_model().double()
    hypernet = HyperNetwork(model.config.hidden_size).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in hypernet.parameters():
            weight.normal_(std=0.1, generator=generator)
    return PhraseModel(model, hypernet)


def read(model, data, *, merged, rows=2, context=16, streams=None):
    """Read an epoch; return the nats of each window, the steps, and the streams."""
    sampler = Sampler(data, rows=rows, context=context)
    streams = streams or PhraseStreams(rows, VOCAB)
    state = RecurrentState.zeros(model.model.config, rows, dtype=torch.float64)
    nats, steps = [], 0
    with torch.no_grad():
        for step in range(sampler.windows_per_epoch):
            paid, state, took = model(streams, 0, sampler.window(step), [merged] * rows, state)
            nats.append(float(paid))
            steps += took
    return nats, steps, streams


class TestPrices:
    def test_a_document_costs_what_the_online_learner_pays(self, make_model):
        model = phrase_model(make_model)
        ids = tuple(np.tile([5, 6, 7, 8, 9, 5, 6, 3], 12)[:95].tolist())
        how = LearnerConfig(
            phrases="on", inject="none", replay_rows=0, frozen=False, scope=("bias",), lr_bias=0.0
        )
        learner = OnlineLearner(
            model.model,
            np.ones(VOCAB, dtype=int),
            how,
            hypernet=model.hypernet,
        )
        expected, steps = [], 0
        for start in range(0, len(ids), 16):
            score = learner.step([Window(document="a", ids=ids[start : start + 16])]).score
            expected.append(score.bits * math.log(2))
            steps += score.model_steps
        nats, took, streams = read(model, Packed(np.array([0, *ids])), merged=True, rows=1)
        assert nats == pytest.approx(expected, rel=1e-9)
        assert took == steps < 0.6 * len(ids)
        assert streams.tables[0].state_dict() == learner.table.state_dict()

    def test_windows_that_are_not_merged_cost_what_the_model_alone_pays(self, make_model):
        model, data = phrase_model(make_model), counting()
        nats, steps, _ = read(model, data, merged=False)
        sampler, state = Sampler(data, rows=2, context=16), None
        for step, paid in enumerate(nats):
            inputs, targets = (torch.from_numpy(ids) for ids in sampler.window(step))
            with torch.no_grad():
                logits, state = model.model(inputs, state, None, inputs == 0)
            expected = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum"
            )
            assert paid == pytest.approx(float(expected), rel=1e-9)
        assert steps == sampler.total - 1

    def test_a_document_does_not_depend_on_the_one_before_it(self, make_model):
        """Two rows of different lengths, with equal tables, end with the same document."""
        model = phrase_model(make_model)
        _, _, grown = read(model, Packed(np.array([0, *([1, 2, 3, 4] * 20)])), merged=True, rows=1)
        streams = PhraseStreams(2, VOCAB)
        for table in streams.tables:
            table.load_state_dict(grown.tables[0].state_dict())
        windows = np.array(
            [[0, 1, 2, 3, 4, 1, 2, 3, 4, 0, 1, 2, 3, 7], [0, 9, 3, 1, 9, 2, 2, 5, 4, 0, 1, 2, 3, 7]]
        )
        state = RecurrentState.zeros(model.model.config, 2, dtype=torch.float64)
        with torch.no_grad():
            _, after, steps = model(streams, 0, (windows[:, :-1], windows[:, 1:]), [True, True], state)
        assert steps < 26 and len(streams.tables[0]) > 0
        for field in (after.att_shift, after.wkv, after.ffn_shift):
            assert field.abs().max() > 0 and torch.allclose(field[:, 0], field[:, 1], atol=1e-12)

    def test_no_phrase_spans_two_documents(self, make_model):
        _, _, streams = read(
            phrase_model(make_model), Packed(np.array([0, 4, 5] * 60)), merged=True, context=30
        )
        for table in streams.tables:
            assert {phrase.tokens for phrase in table.live()} == {(4, 5)}

    def test_the_end_of_a_stream_costs_nothing(self, make_model):
        model = phrase_model(make_model)
        data = Packed(np.array([0, *range(1, 19)]))
        nats, steps, streams = read(model, data, merged=True, rows=7, context=2)
        assert steps == 18 and all(math.isfinite(paid) for paid in nats)
        assert streams.contexts[6] == (), "the last of seven streams of three ids has none"


class TestDraws:
    def test_which_rows_are_merged_depends_on_seed_and_step_alone(self, make_model):
        alone = SimpleNamespace(count=1, rank=0)
        training = PhraseTraining(config(), make_model(), None, alone, 64)
        drawn = [training.merged(step) for step in range(20)]
        assert np.array_equal(drawn[7], training.merged(7)) and not np.array_equal(drawn[7], drawn[8])
        assert 0.45 < np.mean(drawn) < 0.55
        parts = [
            PhraseTraining(config(), make_model(), None, SimpleNamespace(count=2, rank=rank), 32).merged(7)
            for rank in (0, 1)
        ]
        assert np.array_equal(np.concatenate(parts), drawn[7])
        assert PhraseTraining(config(phrase_prob=1.0), make_model(), None, alone, 64).merged(0).all()

    def test_settings_that_cannot_work_are_refused(self, make_model):
        with pytest.raises(UsageError, match="--phrase-prob must be a share from 0 to 1, not 1.5"):
            config(phrase_prob=1.5)
        with pytest.raises(UsageError, match="--compile cannot be used with --phrase-prob"):
            config(compile=True)
        with pytest.raises(UsageError, match="--parallel fsdp: use --parallel ddp"):
            PhraseTraining(config(parallel="fsdp"), make_model(), None, SimpleNamespace(count=2, rank=0), 2)


class TestTraining:
    @pytest.mark.parametrize("options", [{}, {"bf16": True, "batch": 1, "accumulate": 2}], ids=str)
    def test_interrupted_anywhere_it_equals_the_uninterrupted_run(
        self, tmp_path, options, run, assert_same_tensors
    ):
        made = config(steps=0, tokens=32 * 18, **options)
        whole = trained(made, tmp_path / "whole", counting(3))
        losses = run(whole)
        assert whole.epochs > 1 and len(whole._phrases.streams.tables[0]) > 0
        torn = trained(made, tmp_path / "torn", counting(3))
        torn.save()
        for steps in (3, 7):
            run(torn, steps=steps)
            torn = trained(made, tmp_path / "torn", counting(3), resume=True)
        assert torn.step == 8
        assert run(torn) == losses[8:]
        one, other = (trainer.folder.checkpoints.load() for trainer in (whole, torn))
        for file in ("model", "hypernet", "optimizer", "hypernet_optimizer", "state"):
            assert_same_tensors(one.tensors[file], other.tensors[file])
        assert one.documents["progress"] == other.documents["progress"]
        assert one.documents["phrases"] == other.documents["phrases"] and len(one.documents["phrases"]) == 2

    def test_passes_get_the_rows_of_one_batch(self, run):
        whole, parts = (trained(config(**rows)) for rows in ({"batch": 4}, {"batch": 1, "accumulate": 4}))
        assert run(parts) == pytest.approx(run(whole), rel=1e-4)

    def test_the_hypernetwork_learns_without_decay_and_tokens_are_base_tokens(self):
        trainer = trained(config(phrase_prob=1.0))
        before = {name: weight.clone() for name, weight in trainer.hypernet.state_dict().items()}
        assert not before["input.2.weight"].any() and not before["output.2.weight"].any()
        group = trainer.optimizer.param_groups[3]
        assert group["weight_decay"] == 0.0 and group["params"] == list(trainer.hypernet.parameters())
        steps = list(trainer.run())
        assert [step.tokens for step in steps[:3]] == [32, 64, 96]
        after = trainer.hypernet.state_dict()
        assert all(not torch.equal(after[name], before[name]) for name in before)

    def test_a_run_saved_before_phrases_existed_resumes(self, tmp_path, run):
        trainer = trained(config(phrase_prob=0.0, steps=4), tmp_path)
        run(trainer)
        saved = trainer.folder.checkpoints.load()
        assert trainer.hypernet is None and set(saved.tensors) == {"model", "optimizer", "state"}
        del saved.documents["config"]["phrase_prob"]
        fields = (
            "kind",
            "seconds",
            "tokenizer_sha256",
            "base_sha256",
            "device",
            "kernel",
            "processes",
            "torch",
        )
        manifest = {name: saved.manifest[name] for name in fields}
        trainer.folder.checkpoints.save(
            4, tensors=saved.tensors, documents=saved.documents, manifest=manifest
        )
        again = trained(config(phrase_prob=0.0, steps=6), tmp_path, resume=True)
        assert len(run(again)) == 2
        with pytest.raises(UsageError, match=r"--phrase-prob 0\.0, and this run has 0\.5: give the same"):
            trained(config(), tmp_path, resume=True)


class TestPretrainer:
    def test_text_is_measured_both_ways_and_the_hypernetwork_is_saved(self, tmp_path, assert_same_tensors):
        made = config(vocab_size=0, validation=0.8, steps=30, ctx=64, eval_every=30)
        pretrainer = Pretrainer(made, tmp_path / "run", tokenizer=ByteTokenizer())
        report = pretrainer.fit(text())
        best, size = pretrainer.trainer.best, 8 * len(TEXT)
        assert best.steps_per_byte == best.tokens / size
        assert best.phrases_steps_per_byte < 0.6 * best.steps_per_byte
        assert best.phrases_bpb == pytest.approx(best.phrases_loss / math.log(2) * best.tokens / size)
        assert report.bpb == {"validation": best.bpb, "validation_phrases": best.phrases_bpb}
        assert report.loss["validation_phrases"] == best.phrases_loss
        assert report.steps_per_byte == {
            "validation": best.steps_per_byte,
            "validation_phrases": best.phrases_steps_per_byte,
        }
        row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
        assert row["validation_bpb"] == best.bpb and row["validation_phrases_bpb"] == best.phrases_bpb
        assert row["validation_phrases_steps_per_byte"] == best.phrases_steps_per_byte

        best = {name: weight.clone() for name, weight in pretrainer.trainer.hypernet.state_dict().items()}
        with torch.no_grad():
            pretrainer.trainer.hypernet.input[2].weight.zero_()
        pretrainer.save_model(tmp_path / "model")
        loaded = load_model(tmp_path / "model")
        assert_same_tensors(dict(loaded.hypernet.state_dict()), best)
        with pytest.raises(UsageError, match="'huggingface' cannot hold the hypernetwork"):
            pretrainer.save_model(tmp_path / "other", format="huggingface")

    def test_a_models_hypernetwork_is_continued_or_left_out_with_a_note(self, tmp_path):
        made = config(vocab_size=0, steps=6)
        first = Pretrainer(made, tokenizer=ByteTokenizer())
        first.fit(text())
        first.save_model(tmp_path / "model", dtype=torch.float32)
        said = []
        second = Pretrainer(config(vocab_size=0, steps=1, lr=1e-9), start=tmp_path / "model", say=said.append)
        second.fit(text())
        for name, weight in first.trainer.hypernet.state_dict().items():
            assert torch.allclose(second.trainer.hypernet.state_dict()[name], weight, atol=1e-7), name
        assert [one.split(":")[0] for one in said] == ["device"]
        said.clear()
        third = Pretrainer(
            config(vocab_size=0, steps=1, phrase_prob=0.0), start=tmp_path / "model", say=said.append
        )
        third.fit(text())
        assert third.trainer.hypernet is None and "hypernetwork" in said[-1] and "--phrase-prob" in said[-1]

    def test_values_have_phrases_too(self):
        array = (np.arange(60) + np.arange(20)[:, None]) % 7
        pretrainer = Pretrainer(config(vocab_size=0, validation=0.2))
        report = pretrainer.fit(array)
        best = pretrainer.trainer.best
        assert best.phrases_loss > 0 and best.phrases_bpb is best.phrases_steps_per_byte is None
        assert report.bpb == {"validation": None, "validation_phrases": None}

"""State tuning: the same learner, in epochs; what it saves, resumes and refuses."""

import json
from dataclasses import replace

import pytest
import torch

from sttx_core.errors import CheckpointError, ModelError, UsageError
from sttx_train import OnlineLearner, Predictor, Window, load_state
from sttx_train.byte_lengths import token_byte_lengths
from sttx_train.export import export_state, state_to_export
from sttx_train.formats import TunedState
from sttx_train.inspect import inspect_path
from sttx_train.online import LearnerConfig
from sttx_train.run_folder import check_checkpoint, load_checkpoint
from sttx_train.tune import TuneConfig, Tuner, pricing, read_examples, split_examples

QUICK = {"epochs": 2, "batch": 3, "warmup": 2, "bf16": False, "patience": 0}


@pytest.fixture(scope="module")
def data(tmp_path_factory, tiny):
    """Return examples of a tiny model, of different lengths: those to learn, and those to measure."""
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    rows = [{"prompt": f"What is {n}?" * (1 + n % 3), "completion": "meow " * (1 + n % 4)} for n in range(14)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    examples = read_examples(path, tiny().tokenizer, TuneConfig()).examples
    return split_examples(examples, 0.25, seed=0)


@pytest.fixture
def make(tiny, data, tmp_path):
    """Return a function that makes a tuner of the tiny model."""

    def tuner(folder=None, **options):
        more = {name: options.pop(name) for name in ("start", "resume", "validation") if name in options}
        train, measured = data
        return Tuner(
            tiny(),
            TuneConfig(**(QUICK | options)),
            train,
            more.pop("validation", measured),
            directory=None if folder is None else tmp_path / folder,
            **more,
        )

    return tuner


def test_one_step_is_that_of_the_online_learner(make, tiny, data):
    examples = data[0]
    tuner = make(batch=len(examples), warmup=0, schedule="constant", lr=0.1)
    tuner.run(stop=lambda: True)
    loaded = tiny()
    config = LearnerConfig(
        inject="start", phrases="off", replay_rows=0, lr_state=0.1, weight_decay=0.0, frozen=False
    )
    learner = OnlineLearner(loaded.model, token_byte_lengths(loaded.tokenizer), config)
    report = learner.step(
        [Window(document=str(n), ids=one.ids, paid=one.paid) for n, one in enumerate(examples)]
    )
    assert tuner.learner.s0.abs().max() > 0.05
    assert torch.allclose(tuner.learner.s0, learner.s0, atol=1e-5)
    assert report.score.bytes == sum(example.bytes for example in examples)


def test_accumulating_and_recomputing_change_nothing(make):
    runs = [make(**o) for o in ({"batch": 6}, {"batch": 2, "accumulate": 3}, {"batch": 6, "recompute": True})]
    steps = [[] for _ in runs]
    for tuner, seen in zip(runs, steps, strict=True):
        tuner.run(seen.append)
    for seen in steps[1:]:
        assert [step.loss for step in seen] == pytest.approx([step.loss for step in steps[0]], abs=1e-4)
    assert [step.lr for step in steps[0]] == [step.lr for step in steps[1]]


def test_bits_fall_and_weights_stay(make, tiny):
    loaded = tiny()
    before = {name: weight.clone() for name, weight in loaded.model.state_dict().items()}
    tuner = make("run", epochs=6, lr=10.0)
    report = tuner.run()
    assert report.after < report.before - 0.01
    assert (report.steps, report.epochs, report.ended) == (24, 6.0, "done")
    after = tuner.loaded.model.state_dict()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())


def test_the_state_is_worth_the_same_where_it_is_read(make, data, tmp_path):
    tuner = make("run", lr=0.1, epochs=4)
    report = tuner.run()
    export_state(state_to_export(tmp_path / "run"), tmp_path / "s.pth", "state-pth")
    assert torch.equal(load_state(tmp_path / "s.pth").s0, tuner.tuned().s0)
    assert load_state(tmp_path / "s.pth").metadata == tuner.tuned().metadata
    for learned in (tmp_path / "run", tmp_path / "s.pth"):
        predictor = Predictor(tuner.loaded, learned, experts=False)
        bits = 0.0
        for example in data[1]:
            prices = predictor.read().score(example.ids)
            bits += float(prices.bits[list(example.paid)].sum())
        assert bits / sum(example.bytes for example in data[1]) == pytest.approx(report.after, abs=1e-4)


def test_the_best_state_is_kept_and_patience_ends_the_run(make, tmp_path, tiny):
    path = tmp_path / "others.jsonl"
    path.write_text(json.dumps({"prompt": "zz", "completion": "QQQQ XXXX"}) + "\n")
    others = read_examples(path, tiny().tokenizer, TuneConfig()).examples
    fitting = Tuner(tiny(), TuneConfig(**QUICK, lr=3.0, steps=30), others)
    fitting.run()
    options = {"lr": 3.0, "epochs": 60, "patience": 2, "eval_every": 1, "schedule": "constant"}
    tuner = make(start=fitting.tuned(), validation=others, **options)
    report = tuner.run()
    assert (report.ended, report.steps) == ("patience", report.best_step + 2)
    assert tuner.measure() > report.after
    assert torch.equal(tuner.tuned().s0, tuner.best)
    assert not torch.equal(tuner.best, tuner.learner.s0)


def test_a_start_is_measured_first(make):
    tuned = make(lr=0.1, epochs=4)
    after = tuned.run().after
    again = make(start=tuned.tuned(), epochs=1, lr=1e-6)
    assert again.run().before == pytest.approx(after, abs=1e-5)


@pytest.mark.parametrize("stopped_at", [1, 5])
def test_a_resumed_run_continues_bit_for_bit(make, tmp_path, stopped_at):
    whole = make("whole", eval_every=2)
    expected = whole.run()
    first = make("parts", eval_every=2)
    report = first.run(stop=lambda: first.step == stopped_at)
    assert report.ended == "interrupted"
    second = make("parts", eval_every=2, resume=True)
    found = second.run()
    assert torch.equal(second.learner.s0, whole.learner.s0)
    assert torch.equal(second.best, whole.best)
    assert (found.before, found.after, found.steps) == (expected.before, expected.after, expected.steps)
    names = ("step", "loss", "lr", "validation_bpb")
    lines = [
        [{name: row.get(name) for name in names} for row in map(json.loads, file.read_text().splitlines())]
        for file in (tmp_path / "whole" / "metrics.jsonl", tmp_path / "parts" / "metrics.jsonl")
    ]
    assert lines[0] == lines[1] and len(lines[0]) == 8


def test_a_run_is_resumed_as_it_was_made_only(make, tmp_path, data, tiny):
    make("run").run()
    with pytest.raises(UsageError, match="made with --lr"):
        make("run", lr=0.5, resume=True)
    with pytest.raises(UsageError, match="validation examples of SHA-256"):
        make("run", validation=data[1][:1], resume=True)
    with pytest.raises(UsageError, match="already holds a run"):
        make("run")
    with pytest.raises(UsageError, match="holds a run of 'sttx tune'"):
        from sttx_train import StreamTrainer

        StreamTrainer(tiny(), directory=tmp_path / "run", resume=True)


def test_inspecting_a_run(make, tmp_path):
    report = make("run").run()
    facts = inspect_path(tmp_path / "run")
    assert (facts["kind"], facts["step"]) == ("tune", report.steps)
    assert facts["progress"]["best_bpb"] == report.after
    assert facts["config"]["batch"] == 3


def test_damage_is_refused(make, tmp_path):
    make("run").run()
    latest = tmp_path / "run" / json.loads((tmp_path / "run" / "latest").read_text())["folder"]
    progress = json.loads((latest / "progress.json").read_text())
    (latest / "progress.json").write_text(json.dumps(progress | {"best_step": 99}))
    with pytest.raises(CheckpointError, match=r"bytes in 'progress\.json'"):
        make("run", resume=True)


def test_forged_documents_are_refused(make, tmp_path):
    make("run").run()
    saved = load_checkpoint(tmp_path / "run")
    progress = saved.documents["progress"]
    for wrong in ({"best_step": 99}, {"tokens": -1}, {"more": 1}):
        with pytest.raises(CheckpointError, match=r"a damaged 'progress\.json'"):
            check_checkpoint(replace(saved, documents={"progress": progress | wrong}))
    options = saved.manifest["tune_config"] | {"lr": 0.0}
    with pytest.raises(CheckpointError, match="`tune_config`"):
        check_checkpoint(replace(saved, manifest={**saved.manifest, "tune_config": options}))


def test_other_opening_and_no_validation(make):
    tuner = make(validation=(), eot=False)
    report = tuner.run()
    assert (report.before, report.after, report.best_step) == (None, None, report.steps)
    assert tuner.tuned().metadata["opening"] == "text"
    assert torch.equal(tuner.tuned().s0, tuner.learner.s0)


def test_a_loss_that_is_not_finite_ends_the_run(make):
    broken = TunedState(s0=torch.full((2, 2, 32, 32), float("nan")))
    with pytest.raises(ModelError, match="the loss is not finite"):
        make(start=broken, validation=()).run()
    tuner = make(start=broken)
    with pytest.raises(ModelError, match="the loss is not finite"):
        tuner.measure()  # or the state of the last step could be kept without a number


def test_another_models_run_is_refused(make, tiny, tmp_path):
    make("run").run()
    with pytest.raises(UsageError, match="learned with another model"):
        Predictor(tiny(seed=5), tmp_path / "run", experts=False)


def test_bfloat16_products_give_nearly_the_same(make):
    exact, rounded = make(epochs=1).run(), make(epochs=1, bf16=True).run()
    assert rounded.before == pytest.approx(exact.before, rel=0.03)
    assert rounded.before != exact.before


def test_a_resumed_run_knows_the_state_it_started_from(make, tmp_path):
    start = make(lr=0.1).tuned()
    start = replace(start, s0=torch.randn(start.s0.shape, generator=torch.Generator().manual_seed(0)))
    make("run", start=start).run(stop=lambda: True)
    other = replace(start, s0=start.s0.mT.contiguous())  # of the same norm
    for wrong in (other, None):
        with pytest.raises(UsageError, match="made with a --state of SHA-256"):
            make("run", start=wrong, resume=True)
    make("run", start=start, resume=True).run()


def test_the_best_state_is_saved_when_it_is_measured(make, tmp_path):
    class Ended(Exception):
        pass

    def end(step):
        if step.step == 3:
            raise Ended

    tuner = make("run", lr=0.1, eval_every=1, checkpoint_every=1000)
    with pytest.raises(Ended):
        tuner.run(end)
    assert tuner.best_step > 0
    saved = state_to_export(tmp_path / "run")
    assert saved.metadata["steps"] == str(tuner.best_step)
    assert torch.equal(saved.s0, tuner.best)


@pytest.mark.parametrize("most", [1, 257 * 20])
def test_the_size_of_a_pass_does_not_change_what_is_measured(make, monkeypatch, most):
    usual = make().measure()
    monkeypatch.setattr(pricing, "_PROBABILITIES", most)
    assert make().measure() == pytest.approx(usual, rel=1e-5)

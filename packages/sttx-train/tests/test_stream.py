"""The loop: what a run writes, when it ends, and that a resumed run equals the uninterrupted one."""

import itertools
import json
from dataclasses import asdict
from typing import Any

import pytest
import torch

from sttx_core.errors import CheckpointError, ModelError, UsageError
from sttx_core.phrases import PhraseConfig
from sttx_core.render import render
from sttx_core.traces import Meta, Other, UserMessage
from sttx_train.checkpoint.store import CheckpointStore
from sttx_train.online import LearnerConfig
from sttx_train.run_folder import METRICS
from sttx_train.stream import StreamConfig, StreamTrainer
from sttx_train.stream.trainer import TIME_FIELDS

LEARNING: dict[str, Any] = {"phrases": "on", "replay_rows": 2, "max_documents": 3}
STREAM: dict[str, Any] = {"window": 32, "checkpoint_every": 3}


@pytest.fixture
def make(tiny, tmp_path):
    """Return a function that makes a trainer with checkpoints; `None` for none."""

    def trainer(directory="run", *, seed=0, resume=False, learning=None, phrases=None, **stream):
        return StreamTrainer(
            tiny(seed),
            LearnerConfig(**(LEARNING | (learning or {}))),
            StreamConfig(**(STREAM | stream)),
            directory=tmp_path / directory if directory else None,
            phrase_config=PhraseConfig(**({"pair_window": 64, "capacity": 16} | (phrases or {}))),
            resume=resume,
        )

    return trainer


def metrics(trainer):
    lines = (trainer.folder.path / METRICS).read_text().splitlines()
    return [json.loads(line) for line in lines]


def lasting(rows):
    """Return metrics without the fields that differ from run to run."""
    return [{name: value for name, value in row.items() if name not in TIME_FIELDS} for row in rows]


def left(traces, taken):
    """Yield what a source delivers to a resumed run: the traces after the first ones of each origin."""
    had = dict(taken)
    for trace in traces:
        if had.get(trace.meta.origin, 0):
            had[trace.meta.origin] -= 1
        else:
            yield trace


def everything(trainer):
    """Return everything in a run's checkpoint, to compare it with another run's."""
    saved = trainer.folder.checkpoints.load()
    tensors = {f"{file}/{name}": t for file, group in saved.tensors.items() for name, t in group.items()}
    documents = {name: saved.documents[name] for name in ("stream", "learner", "phrases", "phrase_list")}
    return tensors, documents


def assert_same_run(one, other):
    assert lasting(metrics(one)) == lasting(metrics(other))
    (tensors, documents), (others, other_documents) = everything(one), everything(other)
    assert documents == other_documents
    assert tensors.keys() == others.keys()
    assert [name for name, tensor in tensors.items() if not torch.equal(tensor, others[name])] == []


class TestRun:
    def test_every_token_is_paid_once(self, make, talk):
        trainer, traces = make(None), talk(16)
        totals = trainer.run(traces)
        size = sum(len(render(trace).encode()) for trace in traces)
        assert totals.bytes == totals.tokens == size
        assert totals.model_steps < totals.tokens, "phrases save steps"
        assert totals == trainer.totals and totals.windows == totals.steps

    def test_one_line_a_step_and_totals_that_add_up(self, make, talk):
        trainer, reports = make(), []
        totals = trainer.run(talk(12), lambda progress: reports.append(progress.report.score))
        rows = metrics(trainer)
        assert [row["step"] for row in rows] == list(range(1, totals.steps + 1))
        assert totals.bits == pytest.approx(sum(score.bits for score in reports))
        assert totals.frozen_bits == pytest.approx(sum(score.frozen_bits for score in reports))
        assert rows[-1]["bpb"]["paid"] == totals.bpb_paid == pytest.approx(totals.bits / totals.bytes)
        assert rows[-1]["bpb"]["network"] == totals.bpb_network
        assert rows[-1]["bpb"]["frozen"] == totals.bpb_frozen
        for name in ("bytes", "tokens", "model_steps"):
            assert rows[-1][name] == getattr(totals, name) == sum(getattr(s, name) for s in reports)
        for row, score in zip(rows, reports, strict=True):
            assert row["bpb"]["now"] == pytest.approx(score.bits / score.bytes)

    def test_a_listener_sees_what_is_written(self, make, talk):
        trainer, seen = make(), []
        trainer.run(talk(12), lambda progress: seen.append(progress.metrics))
        assert seen == metrics(trainer) and len(seen) > 3

    def test_windows_of_several_documents_make_one_step(self, make, talk):
        totals = make(None, batch=2, learning={"max_documents": 8}).run(talk(18, sessions=3))
        assert totals.steps < totals.windows <= 2 * totals.steps

    def test_the_rest_is_paid_at_the_end_of_the_stream(self, make):
        totals = make().run([UserMessage(meta=Meta(session="a"), text="short")])
        assert (totals.steps, totals.bytes) == (1, len("User: short\n\n"))

    def test_an_empty_stream_is_a_run_of_no_steps(self, make):
        trainer = make()
        trainer.run([Other(meta=Meta(session="a", origin="o"), kind="summary", raw={})])
        assert trainer.totals.steps == 0 and set(trainer.report()["bpb"].values()) == {None}
        assert metrics(trainer) == [] and trainer.checkpoint.name == "step-00000000"
        assert make(resume=True).taken == {"o": 1}

    def test_pairs_are_paid_for_their_completions_only(self, make, talk):
        traces = talk(12)
        everything, completions = make(None).run(traces), make(None, api_pairs=True).run(traces)
        assert 0 < completions.bytes < everything.bytes
        assert completions.tokens > completions.bytes

    def test_a_prompt_longer_than_a_window_is_read_unpaid(self, make):
        meta, trainer = Meta(session="a"), make(api_pairs=True)
        trainer.run([UserMessage(meta=meta, text="why " * 30), *talk_back(meta)])
        rows = metrics(trainer)
        assert rows[0]["bpb"]["now"] is None and rows[0]["bytes"] == 0 < rows[0]["tokens"]
        assert rows[-1]["bytes"] == len(" because\n\n")

    def test_without_the_frozen_model_its_metrics_are_null(self, make, talk):
        trainer = make(learning={"frozen": False})
        trainer.run(talk(8))
        assert {row["bpb"]["frozen"] for row in metrics(trainer)} == {None}
        assert trainer.report()["bpb"]["frozen"] is None

    def test_loss_on_a_repeated_stream_falls(self, make, talk):
        trainer = make(None, learning={"scope": ("state", "bias"), "phrases": "off", "lr_bias": 0.1})
        traces, rounds, before = talk(6, sessions=1), [], 0.0
        for _ in range(4):
            totals = trainer.run(traces)
            rounds.append(totals.bits - before)
            before = totals.bits
        assert rounds[-1] < 0.8 * rounds[0]
        assert totals.bpb_paid < totals.bpb_network < totals.bpb_frozen

    def test_memory_does_not_grow(self, make, talk):
        trainer = make(None, experts="off", learning={"max_documents": 2, "replay_capacity": 4})
        sizes = []
        for number in range(3):
            trainer.run(talk(12, sessions=5, seed=number))
            sizes.append(carried_bytes(trainer))
        assert sizes[0] > 0 and sizes[-1] <= 1.01 * sizes[1]
        assert len(trainer.learner.replay) == 4 and len(trainer.learner.carried) == 2


def talk_back(meta):
    from sttx_core.traces import AssistantMessage

    return [AssistantMessage(meta=meta, text="because")]


def carried_bytes(trainer):
    """Return the bytes of all tensors that a run carries from step to step."""
    groups = trainer.learner.state_dict()["tensors"]
    return sum(tensor.nbytes for group in groups.values() for tensor in group.values())


class TestEnd:
    def test_it_stops_after_the_given_steps(self, make, talk):
        trainer, taken = make(steps=5), []
        trainer.run(trace for trace in talk(60) if not taken.append(trace))
        assert trainer.totals.steps == 5 and len(taken) < 30, "it reads no more than it needs"
        assert trainer.checkpoint.name == "step-00000005"
        assert sum(trainer.taken.values()) == len(taken)

    def test_steps_are_counted_from_the_streams_start(self, make, talk):
        make(steps=4).run(talk(60))
        again = make(steps=4, resume=True)
        assert again.run(iter(())).steps == 4
        further = make(steps=6, resume=True)
        assert further.run(left(talk(60), further.taken)).steps == 6

    def test_stop_ends_after_the_current_step_and_saves(self, make, talk):
        trainer = make()
        trainer.run(talk(60), lambda progress: progress.totals.steps == 4 and trainer.stop())
        assert trainer.totals.steps == 4 and len(metrics(trainer)) == 4
        assert trainer.folder.checkpoints.load().step == 4

    def test_stop_between_steps_keeps_the_last_checkpoint(self, make, talk):
        trainer, traces = make(checkpoint_every=1), talk(60)

        def until_stopped():
            for trace in traces:
                yield trace
                if trainer.totals.steps == 2:
                    trainer.stop()

        trainer.run(until_stopped())
        again = make(checkpoint_every=1, resume=True)
        assert again.totals.steps == 2
        assert sum(again.taken.values()) <= sum(trainer.taken.values())

    def test_checkpoint_every_and_keep(self, make, talk):
        trainer = make(steps=11, checkpoint_every=3, keep=2)
        trainer.run(talk(60))
        names = sorted(path.name for path in trainer.folder.path.glob("step-*"))
        assert names == ["step-00000009", "step-00000011"]

    def test_without_a_folder_nothing_is_written(self, make, talk, tmp_path, monkeypatch):
        empty = tmp_path / "empty"
        empty.mkdir()
        monkeypatch.chdir(empty)
        before = sorted(tmp_path.rglob("*"))
        trainer = make(None)
        assert trainer.run(talk(12)).steps > 2
        assert trainer.save() is None and trainer.checkpoint is None
        assert sorted(tmp_path.rglob("*")) == before

    def test_the_event_log_has_start_checkpoints_and_end(self, make, talk, tmp_path, monkeypatch):
        monkeypatch.setenv("STTX_LOG_DIR", str(tmp_path / "logs"))
        trainer = make(steps=4, checkpoint_every=3)
        trainer.run(talk(30))
        (file,) = (tmp_path / "logs").iterdir()
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert [(line["event"], line.get("step")) for line in lines] == [
            ("started", 0),
            ("saved", 3),
            ("saved", 4),
            ("ended", None),
        ]
        assert {line["subsystem"] for line in lines} == {"train"}
        assert lines[0]["learning"]["phrases"] == "on"
        assert lines[2]["checkpoint"] == str(trainer.checkpoint)
        assert lines[-1]["bpb"] == trainer.report()["bpb"]

    def test_every_trace_is_counted_by_origin(self, make, talk):
        trainer, traces = make(), talk(8)
        trainer.run([*traces, Other(meta=Meta(session="s0", origin="elsewhere"), kind="x", raw={})])
        wanted = {"elsewhere": 1}
        for trace in traces:
            wanted[trace.meta.origin] = wanted.get(trace.meta.origin, 0) + 1
        assert trainer.taken == wanted == trainer.folder.checkpoints.load().documents["stream"]["taken"]


class TestNotFinite:
    def test_a_damaged_model_is_refused_at_its_first_text(self, make, talk):
        trainer = make()
        with torch.no_grad():
            trainer.loaded.model.head.weight[3, 0] = torch.nan
        with pytest.raises(ModelError, match="the loss is not finite: the weights"):
            trainer.run(talk(40))
        assert trainer.totals.steps == 0 and not list(trainer.folder.path.glob("step-*"))

    def test_a_run_that_diverges_keeps_its_last_checkpoint(self, make, talk):
        trainer = make()

        def ruin(progress):
            if progress.totals.steps == 4:
                trainer.learner.s0.data.fill_(torch.nan)

        with pytest.raises(ModelError, match="or the learning rate is too high"):
            trainer.run(talk(40), ruin)
        assert make(resume=True).totals.steps == 3


class TestResume:
    """A killed run runs the steps after its checkpoint again, with the same result."""

    TRACES = 16

    @pytest.mark.parametrize(
        ("died_after", "options"),
        [([1, 4], {}), ([8, 1, 1, 3], {}), ([5, 2], {"batch": 2}), ([7, 4], {"api_pairs": True})],
        ids=str,
    )
    def test_interrupted_anywhere_it_equals_the_uninterrupted_run(self, make, talk, died_after, options):
        traces = talk(self.TRACES)
        whole = make("whole", **options)
        whole.run(traces)
        torn = make("torn", **options)
        torn.save()
        for count in died_after:
            with pytest.raises(Died):
                torn.run(left(traces, torn.taken), die_after(count))
            torn = make("torn", resume=True, **options)
        torn.run(left(traces, torn.taken))
        assert whole.totals == torn.totals
        assert_same_run(whole, torn)

    @pytest.mark.parametrize("learning", [{"phrases": "auto"}, {"scope": ("bias", "vectors"), "seed": 3}])
    def test_other_ways_to_learn_resume_as_well(self, make, talk, learning, monkeypatch):
        # Turns so short that they change on both sides of the kill.
        monkeypatch.setattr("sttx_train.online.gate.TURN", 3)
        monkeypatch.setattr("sttx_train.online.gate.SETTLE", 1)
        traces = talk(self.TRACES)
        whole = make("whole", learning=learning)
        whole.run(traces)
        torn = make("torn", learning=learning)
        with pytest.raises(Died):
            torn.run(traces, die_after(7))
        torn = make("torn", learning=learning, resume=True)
        assert torn.totals.steps == 6
        torn.run(left(traces, torn.taken))
        assert_same_run(whole, torn)

    def test_interrupted_while_the_rest_is_flushed(self, make, talk):
        traces = talk(12, sessions=6)
        whole = make("whole", checkpoint_every=1, learning={"max_documents": 8})
        whole.run(traces)
        torn = make("torn", checkpoint_every=1, learning={"max_documents": 8})
        with pytest.raises(Died):
            torn.run(traces, die_after(whole.totals.steps - 1))
        torn = make("torn", checkpoint_every=1, learning={"max_documents": 8}, resume=True)
        assert list(left(traces, torn.taken)) == [], "only buffered tokens are left"
        torn.run(iter(()))
        assert_same_run(whole, torn)

    def test_a_stopped_run_resumes_exactly(self, make, talk):
        traces = talk(self.TRACES)
        whole = make("whole")
        whole.run(traces)
        torn = make("torn")
        torn.run(traces, lambda progress: progress.totals.steps == 4 and torn.stop())
        torn = make("torn", resume=True)
        torn.run(left(traces, torn.taken))
        assert_same_run(whole, torn)

    def test_a_run_that_was_not_resumed_differs(self, make, talk):
        """The comparison can fail: a run that continues without its phrases and averages differs."""
        traces = talk(self.TRACES)
        whole, fresh = make("whole"), make("fresh")
        whole.run(traces)
        fresh.run(traces[5:])
        assert lasting(metrics(whole))[-1] != lasting(metrics(fresh))[-1]

    def test_a_run_that_died_before_its_first_checkpoint_leaves_no_lines_behind(self, make, talk):
        with pytest.raises(Died):
            make().run(talk(20), die_after(2))
        trainer = make()
        trainer.run(talk(20))
        assert [row["step"] for row in metrics(trainer)] == list(range(1, trainer.totals.steps + 1))


class Died(Exception):
    """Stands for the death of the process."""


def die_after(steps):
    count = itertools.count(1)

    def listener(progress):
        if next(count) == steps:
            raise Died

    return listener


class TestRefusals:
    @pytest.fixture
    def run(self, make, talk):
        trainer = make()
        trainer.run(talk(12))
        return trainer

    def test_a_folder_with_a_run_is_not_written_over(self, run, make):
        with pytest.raises(UsageError, match="already holds a run; continue it with --resume"):
            make()

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"seed": 1}, "a --model of SHA-256 '[0-9a-f]{64}', and this run has '[0-9a-f]{64}'"),
            ({"window": 64}, "--window 32, and this run has 64"),
            ({"batch": 2}, "--batch 1, and this run has 2"),
            ({"api_pairs": True}, "--api-pairs False, and this run has True"),
            ({"learning": {"scope": ("bias",)}}, r"--scope \['state'\], and this run has \['bias'\]"),
            ({"learning": {"lr_state": 0.2}}, r"--lr-state [\d.]+, and this run has 0.2"),
            ({"phrases": {"capacity": 8}}, "--phrase-capacity 16, and this run has 8"),
        ],
        ids=str,
    )
    def test_another_run_is_not_resumed(self, run, make, change, said):
        before = lasting(metrics(run))
        with pytest.raises(UsageError, match=f"was made with {said}: give the same options, or start"):
            make(resume=True, **change)
        assert lasting(metrics(run)) == before

    def test_an_option_that_no_longer_exists_is_refused(self, run, make):
        now = StreamTrainer._identity
        run._identity = lambda: {**now(run), "learning": {**now(run)["learning"], "gone": 7}}
        run._saved_step = None
        run.save()
        with pytest.raises(UsageError, match="was made with --gone 7, and this run has no such option"):
            make(resume=True)

    @pytest.mark.parametrize("change", [{"steps": 3}, {"checkpoint_every": 1}, {"keep": 1}], ids=str)
    def test_options_that_shape_nothing_may_change(self, run, make, change):
        assert make(resume=True, **change).totals == run.totals

    def test_resuming_needs_a_folder_and_a_checkpoint(self, make):
        with pytest.raises(UsageError, match="--checkpoint-dir"):
            make(None, resume=True)
        with pytest.raises(CheckpointError, match="leave out --resume to start there"):
            make("nothing here", resume=True)

    def test_metrics_that_are_shorter_than_saved_are_refused(self, run, make):
        path = run.folder.path / METRICS
        path.write_bytes(path.read_bytes()[:-5])
        with pytest.raises(CheckpointError, match="shorter than when the checkpoint was saved"):
            make(resume=True)
        path.unlink()
        with pytest.raises(CheckpointError, match="shorter than when the checkpoint was saved"):
            make(resume=True)

    def test_metrics_of_steps_after_the_checkpoint_are_dropped(self, run, make):
        path = run.folder.path / METRICS
        saved = path.read_bytes()
        path.write_bytes(saved + b'{"step": 99}\n{"st')
        make(resume=True)
        assert path.read_bytes() == saved

    @pytest.mark.parametrize(
        "options",
        [{"steps": -1}, {"window": 0}, {"batch": 0}, {"checkpoint_every": -1}, {"keep": 0}],
        ids=str,
    )
    def test_bad_options_are_refused_by_name(self, options):
        (name,) = options
        with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} must be at least"):
            StreamConfig(**options)


class TestReport:
    def test_it_is_json_and_agrees_with_the_totals(self, make, talk):
        trainer = make()
        totals = trainer.run(talk(14))
        report = json.loads(json.dumps(trainer.report(), allow_nan=False))
        assert {name: report[name] for name in ("steps", "windows", "bytes", "tokens", "model_steps")} == {
            name: value for name, value in asdict(totals).items() if not name.endswith("bits")
        }
        assert report["phrases"]["steps_saved"] == totals.tokens - totals.model_steps > 0
        assert report["phrases"]["live"] == len(trainer.learner.table) > 0
        assert report["replay"] == {"size": totals.windows, "draws": 2 * (totals.steps - 1)}
        assert report["model"]["sha256"] == trainer.loaded.sha256
        assert report["norm_s0"] > 0 and report["scope"] == ["state"]
        assert report["checkpoint"] == str(trainer.checkpoint)
        heads = 2 * 2 * 32 * 32
        assert report["trainable_parameters"] == heads + sum(
            weight.numel() for weight in trainer.learner.hypernet.parameters()
        )

    def test_a_checkpoint_holds_the_report_of_its_step(self, make, talk):
        trainer = make()
        trainer.run(talk(6))
        saved = CheckpointStore(trainer.folder.path).load().documents["report"]
        assert saved | {"checkpoint": None} == trainer.report() | {"checkpoint": None}

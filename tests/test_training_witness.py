"""A real run of the command, checked from outside: what changed, what did not, whether the reports agree."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sttx_ccsniff import open_source
from sttx_core.render import render
from sttx_train.formats import load_model
from sttx_train.online import LearnerConfig
from sttx_train.run_folder import METRICS
from sttx_train.stream.trainer import StreamConfig, StreamTrainer

FIXTURE = Path(__file__).parents[1] / "test-data" / "ccsniff-fixture.ndjson"
STEPS, WINDOW = 8, 96


def sttx(*arguments):
    """Run the command and return the JSON object that it prints."""
    command = [sys.executable, "-m", "sttx_cli", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def run(tiny_model, tmp_path_factory):
    """Run eight steps; return the report, the run folder, and the model's hashes before and after."""
    folder = tmp_path_factory.mktemp("witness") / "run"
    before = digests(tiny_model)
    options = ["--steps", STEPS, "--window", WINDOW, "--model", tiny_model, "--phrases", "on"]
    report = sttx("train", "--ccsniff-from", FIXTURE, "--checkpoint-dir", folder, *options)
    return report, folder, before, digests(tiny_model)


def test_the_named_model_is_loaded_and_unchanged_on_disk(run, tiny_model):
    report, _, before, after = run
    assert before == after
    assert report["model"]["sha256"] == before["model.safetensors"]
    assert report["model"]["id"] == "tiny" and report["model"]["hidden_size"] == 64


def test_eight_steps_are_paid_for(run):
    report, folder, _, _ = run
    rows = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1)) and report["ended"] == "steps"
    assert report["tokens"] == rows[-1]["tokens"] == report["bytes"]
    assert STEPS * WINDOW / 2 < report["tokens"] <= STEPS * WINDOW
    assert rows[-1]["bpb"]["paid"] == report["bpb"]["paid"]
    assert all(row["grad_s0"] > 0 for row in rows)
    assert report["bpb"]["paid"] != report["bpb"]["frozen"]


def test_s0_has_changed_and_no_weight_was_saved(run):
    report, folder, _, _ = run
    learned = load_file(Path(report["checkpoint"]) / "learned.safetensors")
    assert float(learned["s0"].norm()) == pytest.approx(report["norm_s0"]) != 0
    assert learned["s0"].shape == (2, 2, 32, 32)
    assert {name.split(".")[0] for name in learned} == {"s0", "s0_average", "hypernet"}


def test_inspect_agrees_with_the_run(run):
    report, folder, _, _ = run
    inspected = sttx("inspect", folder)
    shared = set(inspected) & set(report)
    assert {"steps", "bytes", "bpb", "phrases", "replay", "norm_s0", "model", "kernel"} <= shared
    assert {name: inspected[name] for name in shared} == {name: report[name] for name in shared}
    assert inspected["kind"] == "stream" and inspected["taken"] == {
        str(FIXTURE): sum(inspected["taken"].values())
    }


def test_merge_stats_agree_with_the_run(run):
    report, folder, _, _ = run
    stats = sttx("merge-stats", folder)
    assert stats["totals"] == report["phrases"] and stats["steps"] == STEPS
    assert len(stats["phrases"]) == report["phrases"]["live"] > 0
    with open_source(FIXTURE, say=lambda message: None) as source:
        text = "".join(render(trace) for trace in source)
    words = [row["text"] for row in stats["phrases"] if row["text"].isalpha()]
    assert words and all(word in text for word in words)


def test_the_checkpoint_restores_the_run(run, tiny_model):
    """The same steps in this process, by the library: the same learned tensors, bit for bit."""
    report, folder, _, _ = run
    options = LearnerConfig(phrases="on"), StreamConfig(window=WINDOW, steps=STEPS)
    resumed = StreamTrainer(load_model(tiny_model), *options, directory=folder, resume=True)
    assert resumed.totals.steps == STEPS and resumed.totals.bytes == report["bytes"]
    learned = load_file(Path(report["checkpoint"]) / "learned.safetensors")
    assert {*resumed.learner.trainable(), "s0_average"} == learned.keys()
    assert torch.equal(resumed.learner.average.value, learned["s0_average"])
    for name, tensor in resumed.learner.trainable().items():
        assert torch.equal(tensor.detach(), learned[name]), name
    with open_source(FIXTURE, say=lambda message: None) as source:
        again = StreamTrainer(load_model(tiny_model), *options)
        again.run(source)
    assert again.totals.bits == pytest.approx(resumed.totals.bits, rel=1e-5)
    assert again.totals.bytes == resumed.totals.bytes and again.taken == resumed.taken

"""The run folder: strict JSON metrics, runs that resume or are refused, and errors that say what to do."""

import json
import math
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from sttx_core.errors import CheckpointError, UsageError
from sttx_train.run_folder import METRICS, MetricsFile, RunFolder, finite_numbers, require_same_run
from sttx_train.run_folder.folder import MARKER


def refuse(word):
    raise AssertionError(f"{word} is not JSON")


@pytest.fixture
def metrics(tmp_path):
    return MetricsFile(tmp_path / "new" / METRICS)


def write(metrics, content):
    metrics.path.parent.mkdir(exist_ok=True)
    metrics.path.write_bytes(content)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_null(metrics, value):
    metrics.append({"step": 1, "loss": value, "bpb": {"now": value, "paid": 2.5}, "skipped": True})
    line = json.loads(metrics.path.read_text(), parse_constant=refuse)
    assert line == {"step": 1, "loss": None, "bpb": {"now": None, "paid": 2.5}, "skipped": True}


@pytest.mark.parametrize(
    ("content", "number"),
    [
        (b'{"epoch": 1}\n', 1),
        (b'{"step": 1}\n{"epoch": 1}\n{"step": 2}\n', 2),
        (b'{"step": "one"}\n', 1),
        (b'{"step": true}\n', 1),
        (b"[1]\n", 1),
        (b'{"step": 1}\n7\n', 2),
        (b'{"step": 1}\nnotes\n', 2),
        (b"\xff\xfe\n", 1),
        (b"[" * 100_000 + b"\n", 1),
    ],
    ids=lambda value: str(value)[:40],
)
@pytest.mark.parametrize("step", [0, 5])
def test_a_file_of_something_else_is_refused_and_not_changed(metrics, content, number, step):
    write(metrics, content)
    with pytest.raises(
        CheckpointError, match=rf"line {number} of '.*metrics\.jsonl' is not a JSON object with its step"
    ):
        metrics.cut_back(step)
    assert metrics.path.read_bytes() == content


@pytest.mark.parametrize("keep", range(1, 24, 3))
def test_a_last_line_cut_short_is_removed(metrics, keep):
    write(metrics, b'{"step": 1}\n{"step": 2}\n' + '{"step": 3, "né": 1, "x":'.encode()[:keep])
    metrics.cut_back(2)
    metrics.append({"step": 3, "loss": 1.0})
    assert [json.loads(line)["step"] for line in metrics.path.read_text().splitlines()] == [1, 2, 3]


def test_a_complete_last_line_without_its_line_end_is_kept(metrics):
    write(metrics, b'{"step": 1}')
    metrics.cut_back(1)
    metrics.append({"step": 2})
    assert metrics.path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_lines_of_later_steps_are_removed(metrics):
    write(metrics, b'{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    metrics.cut_back(2, size=24)
    assert metrics.path.read_text() == '{"step": 1}\n{"step": 2}\n'
    metrics.cut_back(0)
    assert metrics.path.read_bytes() == b""


@pytest.mark.parametrize("content", [None, b"", b'{"step": 1}\n', b'{"step": 1}\n{"step": 2'])
def test_metrics_that_are_shorter_than_when_they_were_saved_are_refused(metrics, content):
    if content is not None:
        write(metrics, content)
    with pytest.raises(CheckpointError, match="is shorter than when the checkpoint was saved: restore it"):
        metrics.cut_back(2, size=24)
    assert content is None or metrics.path.read_bytes() == content


def test_metrics_of_known_size_are_cut_without_reading_more_than_their_end(metrics, monkeypatch):
    for step in range(1, 4):
        metrics.append({"step": step})
    monkeypatch.setattr(MetricsFile, "_end_of", lambda *_: pytest.fail("all lines are read"))
    metrics.cut_back(2, size=24)
    assert metrics.path.read_text() == '{"step": 1}\n{"step": 2}\n'
    metrics.cut_back(2, size=24)
    assert metrics.path.stat().st_size == 24


def test_metrics_of_unknown_size_are_read_in_little_memory(metrics):
    write(metrics, b"".join(b'{"step": %d, "note": "%s"}\n' % (step, b"x" * 1000) for step in range(1, 3001)))
    tracemalloc.start()
    metrics.cut_back(2000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 500_000, "the file has 3 MB"
    assert len(metrics.path.read_bytes().splitlines()) == 2000


def test_numbers_whose_sums_no_float_holds_are_skipped():
    fields = {"a": 1, "b": {"c": 2.5, "d": None, "e": {"f": 10**400}}, "g": math.inf, "h": -1e308, "i": "7"}
    assert list(finite_numbers(fields)) == [("a", 1), ("b.c", 2.5)]


# --- identity


def test_equal_options_are_the_same_run(tmp_path):
    require_same_run(tmp_path, {"--scope": ["state"], "--lr": 0.1}, {"--scope": ("state",), "--lr": 0.1})


@pytest.mark.parametrize(
    ("now", "message"),
    [
        ({"--lr": 0.2}, r"--lr 0\.1, and this run has 0\.2"),
        ({}, r"--lr 0\.1, and this run has no such option"),
        ({"--lr": 0.1, "--new": None}, "no --new, and this run has None"),
    ],
    ids=str,
)
def test_the_first_option_that_differs_is_named(tmp_path, now, message):
    with pytest.raises(UsageError, match=f"was made with {message}: give the same options, or start again"):
        require_same_run(tmp_path, {"--lr": 0.1}, now)


# --- the folder


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run", kind="stream", keep=2)


def save(folder, step):
    return folder.save(step, tensors={"one": {"x": torch.ones(1)}}, documents={}, manifest={})


def steps_of(folder):
    return [json.loads(line)["step"] for line in folder.metrics.path.read_text().splitlines()]


def test_a_run_continues_after_its_last_checkpoint(folder):
    for step in range(1, 6):
        folder.append_metrics({"step": step})
        if step == 3:
            save(folder, step)
    again = RunFolder(folder.path, kind="stream", keep=2)
    again.resume_from(again.checkpoints.load())
    assert steps_of(again) == [1, 2, 3] and again.checkpoint == folder.checkpoint
    again.append_metrics({"step": 4})
    assert steps_of(again) == [1, 2, 3, 4]


def test_a_run_that_died_before_its_first_checkpoint_leaves_no_lines(folder):
    folder.append_metrics({"step": 1})
    again = RunFolder(folder.path, kind="stream", keep=2)
    again.expect(resume=False)
    again.append_metrics({"step": 1})
    assert steps_of(again) == [1]


def test_the_metrics_are_on_the_disk_before_the_checkpoint(folder, monkeypatch):
    synced = []
    folder.append_metrics({"step": 1})
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino))
    monkeypatch.setattr(folder.checkpoints, "save", lambda *args, **fields: synced.append(fields["manifest"]))
    save(folder, 1)
    found = folder.metrics.path.stat()
    assert synced == [found.st_ino, {"kind": "stream", "metrics_bytes": found.st_size}]


def test_a_run_of_another_kind_is_refused(folder):
    save(folder, 1)
    with pytest.raises(UsageError, match="holds a run of 'sttx train', not of 'sttx pretrain': give another"):
        RunFolder(folder.path, kind="pretrain", keep=2).load()


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (28, "the disk is full: free some space"),
        (13, "permission denied: change its permissions"),
        (30, "the disk is read-only: make it writable"),
        (5, "the disk reports an error: check the disk"),
    ],
)
@pytest.mark.parametrize("saved", [True, False])
def test_an_error_of_the_disk_is_a_sentence(folder, monkeypatch, number, message, saved):
    if saved:
        folder.append_metrics({"step": 40})
        save(folder, 40)

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    way_on = "then continue from step 40 with --resume" if saved else "then start again: no step is saved yet"
    with monkeypatch.context() as patch:
        patch.setattr(MetricsFile, "append", fail)
        with pytest.raises(CheckpointError, match=f"^cannot write '.*metrics.jsonl': {message}, {way_on}$"):
            folder.append_metrics({"step": 41})
    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", fail)
        with pytest.raises(
            CheckpointError, match=f"^cannot write a checkpoint to '.*': {message}, {way_on}$"
        ):
            save(folder, 41)
    assert not [path for path in folder.path.iterdir() if path.name.startswith(".writing")]


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_that_cannot_be_written_is_found_before_the_run(folder, monkeypatch, exists):
    if exists:
        folder.path.mkdir()
    folder.expect(resume=False)
    assert folder.path.exists() is exists and not list(folder.path.glob("*")), (
        "the check leaves nothing behind"
    )

    def fail(**_):
        raise OSError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", fail)
    with pytest.raises(
        UsageError,
        match=r"cannot write to '.*run': permission denied: change its permissions, or give another",
    ):
        folder.expect(resume=False)


def test_foreign_metrics_are_found_before_the_run(folder):
    write(folder.metrics, b"notes\n")
    with pytest.raises(UsageError, match=r"holds 'metrics\.jsonl' and no run of sttx: give a new or empty"):
        folder.expect(resume=False)
    (folder.path / MARKER).write_text('{"sttx_run": 1, "kind": "stream"}')
    with pytest.raises(CheckpointError, match=r"line 1 of '.*metrics.jsonl' is not a JSON object .*: move"):
        folder.expect(resume=False)
    assert folder.metrics.path.read_bytes() == b"notes\n"


def test_metrics_that_cannot_be_read_are_found_before_the_run(folder):
    folder.metrics.path.mkdir(parents=True)
    with pytest.raises(UsageError, match=r"metrics.jsonl' is a folder, not a file: give another path"):
        folder.expect(resume=False)


def test_a_damaged_tensor_file_is_not_reported_as_a_folder_without_permission(folder, monkeypatch):
    def fail(path, **_):
        raise SafetensorError("header too large")

    save(folder, 1)
    monkeypatch.setattr("sttx_train.checkpoint.folder.safe_open", fail)
    with pytest.raises(CheckpointError, match=r"has a damaged 'one\.safetensors' \('header too large'\): no"):
        folder.load()


def test_a_folder_is_checked_without_torch(tmp_path):
    code = f"""
import sys
from pathlib import Path
from sttx_train.run_folder import RunFolder
RunFolder(Path({str(tmp_path)!r}), kind="stream", keep=1).expect(resume=False)
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("resume", [True, False])
def test_a_parent_that_may_not_be_entered_is_reported(folder, monkeypatch, resume):
    def refuse(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(CheckpointError, match=r"in '.*run': permission denied: .*, or give another folder"):
        folder.expect(resume=resume)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_found_before_the_run(folder):
    folder.path.mkdir(mode=0o555)
    with pytest.raises(UsageError, match="permission denied"):
        folder.expect(resume=False)

"""A run writes into folders of runs only, never through a link, and nobody else may read what it keeps."""

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

from sttx_core.errors import CheckpointError, UsageError
from sttx_train.run_folder import METRICS, RunFolder, open_writers
from sttx_train.run_folder.folder import MARKER

KEPT = b'{"step": 1}\n{"step": 2}\n{"step": 3}\n'


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run", kind="stream", keep=2)


@pytest.fixture
def saved(folder):
    """A run folder that was saved at step 2 of 3."""
    for step in (1, 2, 3):
        folder.append_metrics({"step": step})
        if step == 2:
            folder.save(step, tensors={"one": {"x": torch.ones(1)}}, documents={}, manifest={})
    return folder


def again(folder, kind="stream"):
    return RunFolder(folder.path, kind=kind, keep=2)


def resume(folder):
    run = again(folder)
    run.expect(resume=True)
    run.resume_from(run.checkpoints.load())


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", ".bashrc", "notes", "metrics.jsonl", ".lock"]
)
@pytest.mark.parametrize("new", [True, False])
def test_a_folder_of_anything_else_is_refused_and_not_touched(folder, name, new):
    folder.path.mkdir(mode=0o755)
    (folder.path / name).write_bytes(KEPT)
    with pytest.raises(
        UsageError, match=f"run' holds '{name}' and no run of sttx: give a new or empty folder"
    ):
        folder.expect(resume=False) if new else folder.append_metrics({"step": 1})
    assert [path.name for path in folder.path.iterdir()] == [name]
    assert (folder.path / name).read_bytes() == KEPT


def test_an_empty_folder_is_taken(folder):
    folder.path.mkdir()
    folder.expect(resume=False)
    folder.append_metrics({"step": 1})


def test_a_run_that_an_earlier_version_saved_is_known_by_its_checkpoint(saved):
    (saved.path / MARKER).unlink()
    resume(saved)
    assert json.loads((saved.path / MARKER).read_text()) == {"sttx_run": 1, "kind": "stream"}


def test_a_run_of_another_kind_is_refused_before_anything_is_read(folder):
    folder.append_metrics({"step": 1})
    for resumed in (True, False):
        with pytest.raises(UsageError, match="holds a run of 'sttx train', not of 'sttx pretrain'"):
            again(folder, "pretrain").expect(resume=resumed)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"sttx_run": 2, "kind": "stream"}', b"[" * 4000, b"x" * 10**6, b"\xff"]
)
def test_a_damaged_marker_is_refused(folder, content):
    folder.append_metrics({"step": 1})
    (folder.path / MARKER).write_bytes(content)
    with pytest.raises(CheckpointError, match="sttx-run.json' is damaged|cannot read files"):
        again(folder).expect(resume=False)


def link(path, target):
    path.symlink_to(target)


def hard_link(path, target):
    os.link(target, path)


@pytest.mark.parametrize("plant", [link, hard_link])
@pytest.mark.parametrize("name", [METRICS, MARKER, ".lock", "latest"])
@pytest.mark.parametrize("resumed", [True, False])
def test_nothing_is_written_through_a_link(saved, tmp_path, name, plant, resumed):
    target, path = tmp_path / "elsewhere", saved.path / name
    target.write_bytes(path.read_bytes() or KEPT)
    before = target.read_bytes()
    path.unlink()
    plant(path, target)
    with pytest.raises(UsageError, match=f"{name}' (is a link|has another name too)"):
        resume(saved) if resumed else again(saved).expect(resume=False)
    with pytest.raises(UsageError, match=f"{name}' (is a link|has another name too)"):
        again(saved).append_metrics({"step": 1})
    assert target.read_bytes() == before


@pytest.mark.parametrize("plant", [link, hard_link])
def test_a_link_that_appears_while_the_run_goes_on_is_not_followed(saved, tmp_path, plant):
    (tmp_path / "elsewhere").write_bytes(KEPT)
    saved.metrics.path.unlink()
    plant(saved.metrics.path, tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=r"metrics\.jsonl' (is a link|has another name too)"):
        saved.append_metrics({"step": 4})
    with pytest.raises(UsageError, match=r"metrics\.jsonl' (is a link|has another name too)"):
        saved.save(4, tensors={}, documents={}, manifest={})
    assert (tmp_path / "elsewhere").read_bytes() == KEPT
    assert saved.checkpoints.last_step() == 2


@pytest.mark.parametrize("resumed", [True, False])
def test_a_folder_that_others_could_read_is_closed(folder, saved, resumed):
    if not resumed:
        shutil.rmtree(folder.path)
        folder.path.mkdir()
    folder.path.chmod(0o755)
    resume(saved) if resumed else again(saved).start()
    assert folder.path.stat().st_mode & 0o777 == 0o700


def test_a_disk_that_fails_while_a_run_resumes_is_named_in_a_sentence(saved, monkeypatch):
    def fail(*_args):
        raise OSError(errno.EIO, "Input/output error")

    checkpoint = saved.checkpoints.load()
    monkeypatch.setattr(os, "ftruncate", fail)
    with pytest.raises(
        CheckpointError, match="the disk reports an error.* continue from step 2 with --resume"
    ):
        again(saved).resume_from(checkpoint)


START = {"step": 0, "config": {}}


class CarelessWriter:
    """A stand-in for TensorBoard and Weights & Biases: makes folders and files in its own ways."""

    def __init__(self, folder, purge_step=0):
        self.folder = Path(folder)
        (self.folder / "inner").mkdir(exist_ok=True)

    def add_scalar(self, name, value, step):
        subprocess.run(["sh", "-c", f"echo {value} > by_a_process"], cwd=self.folder, check=True)
        (self.folder / "inner" / name).write_text(f"{value}")
        assert stat.S_IMODE((self.folder / "inner" / name).stat().st_mode) == 0o600, "before it is closed"

    def log(self, row, step):
        for name, value in row.items():
            self.add_scalar(name, value, step)

    def close(self):
        (self.folder / "inner" / "mode of its own").write_text("late")
        (self.folder / "inner" / "mode of its own").chmod(0o644)
        (self.folder / "inner").chmod(0o755)

    finish = close


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_nobody_else_reads_what_other_programs_write_into_the_run(saved, tmp_path, monkeypatch, name, umask):
    board = types.SimpleNamespace(SummaryWriter=CarelessWriter)
    wandb = types.SimpleNamespace(init=lambda project, dir, config: CarelessWriter(dir))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", board)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    folder = saved.path / name
    folder.mkdir(mode=0o755)
    (folder / "old").write_text("of an earlier version")
    (tmp_path / "elsewhere").write_text("kept")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    os.link(tmp_path / "elsewhere", folder / "hard")
    for path in (folder / "old", tmp_path / "elsewhere"):
        path.chmod(0o644)
    before = os.umask(umask)
    try:
        with open_writers([name], saved.path, **START) as writers:
            assert stat.S_IMODE((folder / "old").stat().st_mode) == 0o600
            writers[0].write(1, {"loss": 2.0})
    finally:
        assert os.umask(before) == umask, "restored"
    paths = [path for path in (folder, *folder.rglob("*")) if path.name not in ("link", "hard")]
    assert len(paths) == 6
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert stat.S_IMODE((tmp_path / "elsewhere").stat().st_mode) == 0o644


@pytest.mark.parametrize("name", ["best", "tensorboard", "wandb"])
def test_a_folder_inside_the_run_that_is_a_link_is_refused(saved, tmp_path, name):
    (tmp_path / "elsewhere").mkdir()
    (saved.path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=f"{name}' is a link, and sttx writes into its own folders only"):
        again(saved).expect(resume=True)
    if name == "tensorboard":
        with pytest.raises(UsageError, match=f"{name}' is a link"), open_writers([name], saved.path, **START):
            pass
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_run_folder_may_be_a_link_that_its_owner_made(saved, tmp_path):
    (tmp_path / "link").symlink_to(saved.path)
    resume(RunFolder(tmp_path / "link", kind="stream", keep=2))


def forge(folder, **fields):
    from sttx_train.checkpoint.folder import _digest

    (path,) = folder.path.glob("step-*/manifest.json")
    manifest = json.loads(path.read_text()) | fields
    manifest["sha256"] = _digest(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize("size", [1, 12, 30, 36])
def test_metrics_are_only_cut_where_the_step_of_the_checkpoint_ends(saved, size):
    forge(saved, metrics_bytes=size)
    with pytest.raises(CheckpointError, match="does not end with step 2 where the checkpoint says"):
        resume(saved)
    assert saved.metrics.path.read_bytes() == KEPT


def test_a_pipe_in_place_of_the_metrics_is_not_waited_for(saved):
    saved.metrics.path.unlink()
    os.mkfifo(saved.metrics.path)
    for act in (lambda: resume(saved), lambda: saved.append_metrics({"step": 4})):
        with pytest.raises(UsageError, match=r"metrics\.jsonl' is a pipe, not a file"):
            act()


def test_a_line_without_an_end_fills_no_memory(saved):
    saved.metrics.path.write_bytes(b"7" * 5_000_000)
    (saved.path / MARKER).write_text('{"sttx_run": 1, "kind": "stream"}')
    shutil.rmtree(next(saved.path.glob("step-*")))
    (saved.path / "latest").unlink()
    with pytest.raises(CheckpointError, match=r"line 1 of '.*' is not a JSON object"):
        again(saved).expect(resume=False)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_nobody_but_the_owner_reads_a_run_whatever_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        run = RunFolder(tmp_path / "new" / "run", kind="stream", keep=1)
        run.append_metrics({"step": 1})
        run.save(1, tensors={"one": {"x": torch.ones(1)}}, documents={"two": {}}, manifest={})
        run.best.save(1, tensors={}, documents={}, manifest={})
    finally:
        os.umask(before)
    everything = [run.path, *run.path.rglob("*")]
    assert {path.name for path in everything} >= {METRICS, MARKER, "latest", ".lock", "best", "step-00000001"}
    assert {path.stat().st_mode & 0o777 for path in everything if path.is_dir()} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in everything if path.is_file()} == {0o600}


def test_metrics_of_an_earlier_version_become_private(saved):
    saved.metrics.path.chmod(0o644)
    saved.append_metrics({"step": 4})
    assert saved.metrics.path.stat().st_mode & 0o777 == 0o600

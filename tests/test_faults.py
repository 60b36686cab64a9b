"""Each operation on the disk may fail: the error is a sentence, and the continued run loses nothing."""

import errno
import io
import itertools
import json
import os
import re
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError

from sttx_core.errors import CheckpointError
from sttx_train.run_folder import RunFolder

STEPS = 4
CHANGES = ("mkdir", "rename", "replace", "unlink", "rmdir", "fsync", "ftruncate", "chmod", "fchmod", "link")
"""Names in `os`; no test waits for the disk, so `fsync` does nothing else."""


class TornFile(io.FileIO):
    """A file of which a failing write leaves half."""

    disk: "Disk"

    def write(self, data):
        self.disk.operation(lambda: super(TornFile, self).write(data[: len(data) // 2]))
        return super().write(data)


class Disk:
    """Counts what changes something on the disk, and lets some of it fail with an error number."""

    def __init__(self, monkeypatch):
        self.count, self.fails, self.number = 0, lambda count: False, errno.EIO
        monkeypatch.setattr(os, "fsync", lambda handle: None)
        for name in CHANGES:
            monkeypatch.setattr(os, name, self.guarded(getattr(os, name)))
        monkeypatch.setattr(safetensors.torch, "save_file", self.tensors(safetensors.torch.save_file))
        opened, opened_own = io.open, os.open

        def open_own(path, flags, *rest, **more):
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self.operation()
            return opened_own(path, flags, *rest, **more)

        monkeypatch.setattr(os, "open", open_own)

        def open_for_writing(path, mode="r", buffering=-1, encoding=None, *rest, **more):
            if not set(mode) & set("wax+"):
                return opened(path, mode, buffering, encoding, *rest, **more)
            self.operation()
            file = TornFile(path, mode.replace("b", ""))
            file.disk = self
            return io.BufferedRandom(file) if "+" in mode else self.buffered(file, text="b" not in mode)

        monkeypatch.setattr(io, "open", open_for_writing)

    @staticmethod
    def buffered(file, *, text):
        buffered = io.BufferedWriter(file)
        return io.TextIOWrapper(buffered, encoding="utf-8", newline="\n") if text else buffered

    def guarded(self, function):
        def call(*args, **more):
            self.operation()
            return function(*args, **more)

        return call

    def tensors(self, save_file):
        def save(tensors, path, metadata=None):
            try:
                self.operation(lambda: Path(path).write_bytes(b"torn"))
            except OSError as error:  # the library is in Rust
                words = f"I/O error: {os.strerror(self.number)} (os error {self.number})"
                raise SafetensorError(f"Error while serializing: {words}") from error
            save_file(tensors, path, metadata)

        return save

    def operation(self, partly=lambda: None):
        self.count += 1
        if self.fails(self.count):
            partly()
            raise OSError(self.number, os.strerror(self.number))

    def will(self, fails, number=errno.EIO):
        self.count, self.fails, self.number = 0, fails, number


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


def work(path):
    """Do the steps of a run that are left; its state depends on every step before."""
    folder = RunFolder(path, kind="stream", keep=2)
    step, total = 0, 1
    if folder.checkpoints.latest() is not None:
        saved = folder.checkpoints.load()
        folder.resume_from(saved)
        step, total = saved.step, saved.documents["state"]["total"]
    while step < STEPS:
        step, total = step + 1, (31 * total + step) % 10**9
        folder.append_metrics({"step": step, "total": total})
        tensors = {"learned": {"x": torch.full((3,), float(total))}}
        if step == STEPS - 1:
            folder.best.save(step, tensors=tensors, documents={}, manifest={})
        if step % 2 == 0:
            folder.save(step, tensors=tensors, documents={"state": {"total": total}}, manifest={})


def left(path):
    """Return what a run leaves: its metrics and its last checkpoint."""
    saved = RunFolder(path, kind="stream", keep=2).checkpoints.load()
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return rows, saved.step, saved.documents, saved.tensors["learned"]["x"].tolist()


def attempt(path, words):
    """Work until a failing disk ends it; return whether it ended by itself."""
    try:
        work(path)
    except CheckpointError as error:
        message = str(error)
        assert words in message and "\n" not in message and "Errno" not in message, message
        if step := re.search(r"continue from step (\d+) with --resume", message):
            assert RunFolder(path, kind="stream", keep=2).checkpoints.load().step == int(step[1])
        else:
            assert "start again" in message, message
            assert RunFolder(path, kind="stream", keep=2).checkpoints.latest() is None
        return False
    return True


@pytest.fixture
def expected(disk, tmp_path):
    """Return what an undisturbed run leaves, and how many operations it takes."""
    disk.will(lambda count: False)
    work(tmp_path / "undisturbed")
    return left(tmp_path / "undisturbed"), disk.count


@pytest.mark.parametrize(
    ("number", "words"), [(errno.EIO, "the disk reports an error"), (errno.ENOSPC, "the disk is full")]
)
def test_any_one_operation_may_fail(disk, expected, tmp_path, number, words):
    wanted, operations = expected
    assert operations > 60
    for failing in range(1 + number % 2, operations + 1, 2):
        path = tmp_path / str(failing)
        disk.will(lambda count, failing=failing: count == failing, number)
        attempt(path, words)
        disk.will(lambda count: False)
        work(path)
        assert left(path) == wanted, failing


def test_the_disk_may_stay_full(disk, expected, tmp_path):
    wanted, operations = expected
    for failing in range(1, operations + 1, 4):
        path = tmp_path / str(failing)
        disk.will(lambda count, failing=failing: count >= failing, errno.ENOSPC)
        attempt(path, "the disk is full")
        disk.will(lambda count: False)
        work(path)
        assert left(path) == wanted, failing


def test_every_nth_operation_may_fail(disk, expected, tmp_path, every=37):
    path = tmp_path / "run"
    for tries in itertools.count(1):
        disk.will(lambda count, tries=tries: (count + tries) % every == 0)
        if attempt(path, "the disk reports an error"):
            break
        assert tries < 200
    assert left(path) == expected[0]

"""Sources that change, fail or end while they are read: nothing is lost, nothing is delivered twice."""

import errno
import io
import json
import os
import tempfile
from pathlib import Path

import pytest

import sttx_ccsniff.follow.feed
import sttx_ccsniff.follow.folders
import sttx_ccsniff.read.lines
from sttx_ccsniff import open_source
from sttx_core.errors import SourceError, UsageError

on_posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no pipes and devices among files")
EIO = "the disk reports an error: check the disk"


class Disk(io.FileIO):
    """A file whose reads fail after some bytes, or at which something happens then."""

    after = 0
    path = ""

    def event(self):
        """Fail, or do something to the files."""

    def readinto(self, buffer):
        if str(self.name).endswith(self.path) and self.tell() >= self.after:
            self.event()
        return super().readinto(memoryview(buffer)[:1000])


@pytest.fixture
def disk(monkeypatch):
    """Return the class of the files that are read; what is set in it is undone."""
    kind = type("Disk", (Disk,), {})
    monkeypatch.setattr(
        sttx_ccsniff.read.lines, "open_raw", lambda path, only_regular: kind(path), raising=False
    )
    return kind


def fail(self):
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def records(record, session, count=40):
    return [
        record(content=f"{session} {number}", uuid=f"{session}-{number}", sessionId=session)
        for number in range(count)
    ]


def texts(path, cursor=None, **options):
    """Return the texts, the warnings, the error and the cursor."""
    said, error = [], ""
    with open_source(path, redact=False, cursor=cursor, say=said.append, **options) as source:
        found = []
        try:
            found.extend(trace.text for trace in source if hasattr(trace, "text"))
        except SourceError as problem:
            error = str(problem)
    return found, said, error, json.loads(json.dumps(source.cursor))


@pytest.fixture
def two(session_file, record):
    """Return a folder with two sessions, and their texts in order."""
    first = session_file("a.jsonl", *records(record, "a"))
    session_file("b.jsonl", *records(record, "b"))
    return first.parent, [f"{session} {number}" for session in "ab" for number in range(40)]


@pytest.mark.parametrize("after", [0, 1, 3000, 5000])
def test_a_disk_that_fails_while_a_file_is_read(two, disk, after):
    folder, wanted = two
    disk.after, disk.path, disk.event = after, "a.jsonl", fail
    found, said, error, cursor = texts(folder / "a.jsonl")
    assert error == f"cannot read '{folder / 'a.jsonl'}': {EIO}" and said == []
    assert found == wanted[: len(found)] and (len(found) > 0) == (after > 0)
    disk.event = Disk.event
    assert found + texts(folder / "a.jsonl", cursor)[0] == wanted[:40]


@pytest.mark.parametrize("after", [0, 3000])
def test_a_disk_that_fails_in_one_file_of_a_folder(two, disk, after):
    folder, wanted = two
    disk.after, disk.path, disk.event = after, "a.jsonl", fail
    found, said, error, cursor = texts(folder)
    assert error == "" and said == [f"cannot read '{folder / 'a.jsonl'}': {EIO}"]
    assert found[-40:] == wanted[40:]
    disk.event = Disk.event
    rest, said, *_ = texts(folder, cursor)
    assert sorted(found + rest) == sorted(wanted) and said == []


def test_a_followed_file_is_read_on_when_the_disk_works_again(two, disk, monkeypatch):
    folder, wanted = two
    failures = iter(range(1))

    def fail_once(self):
        if next(failures, None) is not None:
            fail(self)

    monkeypatch.setattr(sttx_ccsniff.follow.watch, "_MIN_SCAN_SECONDS", 0.05)
    disk.after, disk.path, disk.event = 3000, "a.jsonl", fail_once
    found, said, *_ = texts(folder, follow=True, idle_timeout=1.1)
    assert sorted(found) == sorted(wanted) and EIO in said[0]


@pytest.mark.parametrize("what", ["deleted", "truncated", "emptied", "replaced", "rewritten"])
def test_a_file_that_changes_while_it_is_read(two, disk, record, what):
    folder, wanted = two
    path = folder / "a.jsonl"
    content = path.read_bytes()

    def change(self):
        type(self).event = Disk.event
        if what == "deleted":
            path.unlink()
        elif what == "replaced":
            (folder / "new").write_bytes(content)
            (folder / "new").replace(path)
        elif what == "rewritten":
            path.write_bytes(b"\n".join(json.dumps(one).encode() for one in records(record, "c")) + b"\n")
        else:
            os.truncate(path, 2500 if what == "truncated" else 0)

    disk.after, disk.path, disk.event = 3000, "a.jsonl", change
    found, said, error, cursor = texts(folder)
    assert error == "" and said == []
    path.write_bytes(content)
    rest, *_ = texts(folder, cursor)
    assert sorted(text for text in found + rest if text[0] != "c") == sorted(wanted)


def test_a_folder_that_the_disk_cannot_list(two, session_file, record, monkeypatch):
    folder, wanted = two
    session_file("damaged/c.jsonl", *records(record, "c"))
    scandir = os.scandir

    def scan(path):
        if str(path).endswith("damaged"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    found, said, error, _ = texts(folder)
    assert found == wanted and said == [f"cannot read '{folder / 'damaged'}': {EIO}"] and error == ""


@pytest.fixture
def reachable(record):
    """Return a folder that every user can reach, with a folder that has a session."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "hidden").mkdir()
        for path, session in (("a.jsonl", "a"), ("hidden/c.jsonl", "c")):
            lines = [json.dumps(one) + "\n" for one in records(record, session)]
            (Path(name) / path).write_text("".join(lines))
        Path(name).chmod(0o755)
        yield Path(name)
        (Path(name) / "hidden").chmod(0o700)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("mode", [0o444, 0o111, 0o000])
def test_a_folder_without_permission(reachable, mode):
    hidden = reachable / "hidden"
    hidden.chmod(mode)
    os.seteuid(65534)
    try:
        found, said, error, _ = texts(reachable)
        alone = texts(hidden)
        followed = texts(hidden, follow=True, idle_timeout=0.3)
        with (
            pytest.raises(SourceError, match="permission denied: change its permissions")
            if not (mode & 0o111)
            else pytest.raises(UsageError, match="no such source")
        ):
            texts(hidden / "none.jsonl")
    finally:
        os.seteuid(0)
    where = hidden / "c.jsonl" if mode == 0o444 else hidden
    sentence = f"cannot read '{where}': permission denied: change its permissions"
    assert len(found) == 40 and error == "" and said == [sentence]
    assert alone[0] == [] and alone[1] == [sentence] == followed[1][:1]


@on_posix
def test_what_is_no_file_is_not_read(two):
    folder, wanted = two
    os.mkfifo(folder / "pipe.jsonl")
    os.mkfifo(folder / "pipe.json")
    for name, target in {
        "zero.jsonl": "/dev/zero",
        "zero.json": "/dev/zero",
        "loop.jsonl": "loop.jsonl",
        "one.jsonl": "two.jsonl",
        "two.jsonl": "one.jsonl",
        "self": ".",
    }.items():
        (folder / name).symlink_to(target)
    found, said, error, _ = texts(folder)
    assert found == wanted and error == "" and len(said) == 3 and all("levels" in one for one in said)


@on_posix
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_file_that_becomes_a_pipe_or_a_device(two, monkeypatch, make):
    folder, wanted = two
    in_time_order = sttx_ccsniff.follow.feed.in_time_order

    def swap(files):
        ordered = in_time_order(files)
        (folder / "a.jsonl").unlink(missing_ok=True)
        make(folder / "a.jsonl")
        return ordered

    monkeypatch.setattr(sttx_ccsniff.follow.feed, "in_time_order", swap)
    found, [warning], error, _ = texts(folder)
    assert found == wanted[40:] and error == "" and "it is a pipe, a device or a socket" in warning


@on_posix
def test_a_pipe_that_appears_in_a_followed_folder(two, monkeypatch):
    folder, wanted = two
    real = sttx_ccsniff.follow.watch.ChangeWatcher.wait

    def wait(self):
        changed = real(self)
        if changed is not None and not (folder / "pipe.jsonl").exists():
            os.mkfifo(folder / "pipe.jsonl")
            return {folder / "pipe.jsonl"}
        return changed

    monkeypatch.setattr(sttx_ccsniff.follow.watch.ChangeWatcher, "wait", wait)
    found, said, error, _ = texts(folder, follow=True, idle_timeout=1.5)
    assert found == wanted and error == "" and "it is a pipe, a device or a socket" in said[-1]

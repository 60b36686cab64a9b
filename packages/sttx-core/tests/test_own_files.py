"""Files that are written in place are regular files with one name, and nobody but their owner reads them."""

import os
import socket

import pytest

from sttx_core.errors import UsageError
from sttx_core.eventlog import EventLog
from sttx_core.own_files import (
    make_private,
    make_private_folder,
    open_own,
    refuse_unless_folder,
    refuse_unless_own,
    tighten,
    write_own,
)

APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT


def link(path, target):
    target.write_text("kept\n")
    path.symlink_to(target)


def link_to_nothing(path, target):
    path.symlink_to(target)


def hard_link(path, target):
    target.write_text("kept\n")
    os.link(target, path)


def pipe(path, target):
    os.mkfifo(path)


def bound_socket(path, target):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


def folder(path, target):
    path.mkdir()


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (link, "is a link: give the path"),
        (link_to_nothing, "is a link: give the path"),
        (hard_link, "has another name too"),
        (pipe, "is a pipe, not a file: give another path"),
        (bound_socket, "is a socket, not a file"),
        (folder, "is a folder, not a file"),
    ],
)
def test_what_is_no_file_of_our_own_is_never_opened_for_writing(tmp_path, monkeypatch, plant, message):
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    path, target = tmp_path / "log", tmp_path / "elsewhere"
    plant(path.relative_to(tmp_path), target.relative_to(tmp_path))
    for write in (lambda: open_own(path, APPEND), lambda: refuse_unless_own(path)):
        with pytest.raises(UsageError, match=f"log' {message}"):
            write()
    assert not target.exists() or target.read_text() == "kept\n"


def test_what_replaces_a_file_between_the_look_and_the_opening_is_refused(tmp_path, monkeypatch):
    path, target = tmp_path / "log", tmp_path / "elsewhere"
    hard_link(path, target)
    monkeypatch.setattr("sttx_core.own_files.refuse_unless_own", lambda path, writes: None)
    with pytest.raises(UsageError, match="has another name too"):
        open_own(path, APPEND)


def test_a_file_with_two_names_may_be_read(tmp_path):
    hard_link(tmp_path / "log", tmp_path / "elsewhere")
    os.close(open_own(tmp_path / "log", os.O_RDONLY))


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_files_and_folders_are_private_whatever_the_umask(tmp_path, umask):
    old = tmp_path / "old"
    old.touch(0o644)
    before = os.umask(umask)
    try:
        make_private_folder(tmp_path / "made" / "run")
        os.close(open_own(tmp_path / "made" / "run" / "log", APPEND))
        handle = open_own(old, APPEND)
        make_private(handle)
        os.close(handle)
    finally:
        os.umask(before)
    assert (tmp_path / "made" / "run").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "made" / "run" / "log").stat().st_mode & 0o777 == 0o600
    assert old.stat().st_mode & 0o777 == 0o600, "as an earlier version left it"
    make_private_folder(tmp_path / "made" / "run")
    with pytest.raises(FileExistsError):
        make_private_folder(old)


@pytest.mark.parametrize(("before", "after"), [(0o755, 0o700), (0o777, 0o700), (0o500, 0o500)])
def test_a_folder_that_exists_is_tightened(tmp_path, before, after):
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(before)
    tighten(tmp_path / "run")
    assert (tmp_path / "run").stat().st_mode & 0o777 == after


def test_the_folder_of_somebody_else_keeps_its_mode(tmp_path, monkeypatch):
    tmp_path.chmod(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    tighten(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_whole_file_is_replaced_or_unchanged(tmp_path, monkeypatch, failing):
    path = tmp_path / "vocabulary"
    write_own(path, b"old")
    with monkeypatch.context() as broken, pytest.raises(OSError, match="full"):

        def fail(*_args, **_more):
            raise OSError(28, "the disk is full")

        broken.setattr(os, failing, fail)
        write_own(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["vocabulary"]
    os.link(path, tmp_path / "other")
    write_own(path, b"new")
    assert path.read_bytes() == b"new" and (tmp_path / "other").read_bytes() == b"old"


def test_a_whole_file_is_not_written_through_a_link(tmp_path):
    link(tmp_path / "vocabulary", tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="is a link"):
        write_own(tmp_path / "vocabulary", b"new")
    assert (tmp_path / "elsewhere").read_text() == "kept\n"


def test_a_link_to_a_folder_is_no_folder_of_our_own(tmp_path):
    refuse_unless_folder(tmp_path / "nowhere")
    refuse_unless_folder(tmp_path)
    (tmp_path / "best").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="best' is a link, and sttx writes into its own folders only"):
        refuse_unless_folder(tmp_path / "best")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file' is not a folder"):
        refuse_unless_folder(tmp_path / "file")


def test_the_event_log_is_not_written_through_a_link(tmp_path):
    log = EventLog("train", tmp_path / "logs")
    log.write("started")
    path = log.path
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    path.unlink()
    link(path, tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="is a link"):
        log.write("ended")
    assert (tmp_path / "elsewhere").read_text() == "kept\n"

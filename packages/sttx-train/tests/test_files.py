"""Files and folders that are replaced as a whole."""

import errno
import hashlib
import os
import subprocess
import sys

import pytest

from sttx_core import own_files
from sttx_core.errors import UsageError
from sttx_core.own_files import replacing_file, write_own
from sttx_train import files
from sttx_train.files import probe_writable, replacing_folder, sha256_of


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class Full(Exception):
    """The disk is full."""


def test_a_hash_is_of_the_bytes_one_file_after_another(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_BLOCK", 5)
    (tmp_path / "a").write_bytes(b"0123456789abc")
    (tmp_path / "b").write_bytes(b"")
    (tmp_path / "c").write_bytes(b"xyz")
    paths = [tmp_path / name for name in "abc"]
    assert sha256_of(paths) == hashlib.sha256(b"0123456789abcxyz").hexdigest()
    assert sha256_of(reversed(paths)) != sha256_of(paths)
    assert sha256_of([]) == hashlib.sha256().hexdigest()


class TestFile:
    def test_a_file_is_made_with_its_folder(self, tmp_path):
        with replacing_file(tmp_path / "new" / "f") as aside:
            aside.write_text("one")
            assert not (tmp_path / "new" / "f").exists(), "not before it is complete"
        assert names(tmp_path / "new") == ["f"] and (tmp_path / "new" / "f").read_text() == "one"

    def test_the_old_one_stays_until_the_end_and_after_an_error(self, tmp_path):
        path = tmp_path / "f"
        path.write_text("old")
        with pytest.raises(Full), replacing_file(path) as aside:
            aside.write_text("half")
            raise Full
        assert path.read_text() == "old" and names(tmp_path) == ["f"]
        with replacing_file(path) as aside:
            aside.write_text("new")
            assert path.read_text() == "old"
        assert path.read_text() == "new" and names(tmp_path) == ["f"]

    def test_the_umask_decides_who_may_read_a_file(self, tmp_path):
        before = os.umask(0o027)
        try:
            with replacing_file(tmp_path / "f") as aside:
                aside.unlink()
                aside.touch(mode=0o600)  # as some writers do
        finally:
            os.umask(before)
        assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640

    def test_a_file_is_on_the_disk_before_it_has_its_name(self, tmp_path, monkeypatch):
        order = []
        monkeypatch.setattr(
            own_files, "sync", lambda path: order.append((path.name, (tmp_path / "f").exists()))
        )
        with replacing_file(tmp_path / "f") as aside:
            pass
        assert order == [(aside.name, False), (tmp_path.name, True)]


class TestFolder:
    OURS = frozenset({"a", "b"})

    def write(self, path, **contents):
        with replacing_folder(path, ours=self.OURS) as folder:
            for name, text in contents.items():
                (folder / name).write_text(text)

    def test_a_folder_is_made_and_replaced_as_a_whole(self, tmp_path):
        self.write(tmp_path / "m", a="1", b="2")
        self.write(tmp_path / "m", a="3")
        assert names(tmp_path / "m") == ["a"] and (tmp_path / "m" / "a").read_text() == "3"
        assert names(tmp_path) == ["m"]

    def test_an_error_leaves_the_old_one(self, tmp_path):
        self.write(tmp_path / "m", a="1")
        with pytest.raises(Full), replacing_folder(tmp_path / "m", ours=self.OURS) as folder:
            (folder / "a").write_text("half")
            raise Full
        assert (tmp_path / "m" / "a").read_text() == "1" and names(tmp_path) == ["m"]

    def test_a_rename_that_fails_leaves_the_old_one(self, tmp_path, monkeypatch):
        self.write(tmp_path / "m", a="1")
        rename = type(tmp_path).rename

        def failing(path, target):
            if ".new-" in path.name:
                raise OSError(28, "No space left on device")
            return rename(path, target)

        monkeypatch.setattr(type(tmp_path), "rename", failing)
        with pytest.raises(OSError, match="No space"):
            self.write(tmp_path / "m", a="2")
        assert (tmp_path / "m" / "a").read_text() == "1" and names(tmp_path) == ["m"]

    def test_a_link_in_place_of_the_folder_is_refused(self, tmp_path):
        (tmp_path / "real").mkdir()
        (tmp_path / "m").symlink_to(tmp_path / "real")
        with pytest.raises(UsageError, match="m' is a link: give the folder that it points to"):
            self.write(tmp_path / "m", a="1")
        assert names(tmp_path) == ["m", "real"] and not names(tmp_path / "real")

    def test_a_folder_of_anything_else_is_refused(self, tmp_path):
        (tmp_path / "m").mkdir()
        (tmp_path / "m" / "a").touch()
        (tmp_path / "m" / "letters.txt").touch()
        with pytest.raises(UsageError, match=r"holds 'letters\.txt'"):
            self.write(tmp_path / "m", a="1")
        assert names(tmp_path / "m") == ["a", "letters.txt"]

    def test_a_file_in_place_of_the_folder_is_refused(self, tmp_path):
        (tmp_path / "m").touch()
        with pytest.raises(UsageError, match="is a file, not a folder"):
            self.write(tmp_path / "m", a="1")


class TestLeftovers:
    """What a killed process left beside a target goes at the next write; what others are writing stays."""

    @pytest.fixture
    def ended(self):
        process = subprocess.Popen(["true"])
        process.wait()
        return process.pid

    def test_of_a_file(self, tmp_path, ended):
        stay = [f".f.new-{os.getpid()}-0123abcd", f".g.new-{ended}-0123abcd", ".f.new-0123abcd", ".f.new-x"]
        for name in (f".f.new-{ended}-0123abcd", *stay):
            (tmp_path / name).write_text("half")
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / f".f.new-{ended}-00000000").symlink_to(tmp_path / "elsewhere")
        write_own(tmp_path / "f", b"whole")
        assert names(tmp_path) == sorted([*stay, "elsewhere", "f", f".f.new-{ended}-00000000"])

    def test_of_a_folder(self, tmp_path, ended):
        half, stays = tmp_path / f".m.new-{ended}-0123abcd", tmp_path / f".m.new-{os.getpid()}-0123abcd"
        for folder in (half, stays):
            folder.mkdir()
            (folder / "a").touch()
        with replacing_folder(tmp_path / "m", ours={"a"}) as folder:
            (folder / "a").touch()
        assert names(tmp_path) == [stays.name, "m"]

    def test_a_real_kill(self, tmp_path):
        code = f"""
import os, signal
from pathlib import Path
from sttx_core.own_files import replacing_file, write_own
with replacing_file(Path({str(tmp_path / "f")!r})) as aside:
    aside.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
        subprocess.run([sys.executable, "-c", code], check=False)
        assert len(names(tmp_path)) == 1 and names(tmp_path)[0].startswith(".f.new-")
        write_own(tmp_path / "f", b"whole")
        assert names(tmp_path) == ["f"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_neither_followed_nor_replaced(tmp_path, exists):
    path, target = tmp_path / "f", tmp_path / "elsewhere"
    if exists:
        target.write_text("kept")
    path.symlink_to(target)
    with (
        pytest.raises(UsageError, match="f' is a link: give the path that it points to"),
        replacing_file(path),
    ):
        pass
    assert path.is_symlink() and target.exists() is exists and (not exists or target.read_text() == "kept")


def test_nothing_is_written_through_a_link_that_was_planted_beside_the_target(tmp_path, monkeypatch):
    monkeypatch.setattr(own_files.secrets, "token_hex", lambda count: "guessed")
    (tmp_path / "elsewhere").write_text("kept")
    (tmp_path / f".f.new-{os.getpid()}-guessed").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError), replacing_file(tmp_path / "f") as aside:
        aside.write_text("new")
    assert (tmp_path / "elsewhere").read_text() == "kept" and not (tmp_path / "f").exists()


def test_a_pipe_is_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with (
        pytest.raises(UsageError, match="is a pipe, not a file: give another path"),
        replacing_file(pipe),
    ):
        pass
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize("name", ["open", "write", "unlink"])
def test_a_probe_that_fails_is_one_error(tmp_path, monkeypatch, name):
    def refuse(*args, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, name, refuse)
    with pytest.raises(OSError, match="Read-only"):
        probe_writable(tmp_path)  # an error in a destructor fails the test too
    monkeypatch.undo()
    assert len(list(tmp_path.iterdir())) == (name == "unlink")

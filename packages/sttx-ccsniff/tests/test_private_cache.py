"""Nobody else writes where sttx keeps its key and its programs."""

import errno
import os
import stat
from pathlib import Path

import pytest

from sttx_ccsniff import private_cache
from sttx_ccsniff.private_cache import make_private_folders, others_may_write
from sttx_ccsniff.redact.tags import Tagger

if os.name != "posix":
    pytest.skip("Windows keeps access lists instead of owners and modes", allow_module_level=True)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Return the cache folder, which does not exist."""
    monkeypatch.setenv("STTX_CACHE_DIR", str(tmp_path / "above" / "cache"))
    return tmp_path / "above" / "cache"


def tag(secret="x"):
    """Return the tag of a secret and what is said about the key."""
    messages = []
    return Tagger(messages.append).tag("s", secret), " ".join(messages)


def test_a_new_folder_is_private_whatever_the_umask_is(cache):
    before = os.umask(0)
    try:
        make_private_folders(cache)
    finally:
        os.umask(before)
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (cache, cache.parent)] == [0o700, 0o700]
    assert others_may_write(cache) == ""


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
def test_a_folder_that_others_may_write(cache, mode):
    make_private_folders(cache)
    cache.chmod(mode)
    name = repr(str(cache))
    assert others_may_write(cache).startswith(
        f"others may write to {name}: run `chmod go-w {cache}`, or set STTX_"
    )


@pytest.mark.parametrize(("mode", "fine"), [(0o770, False), (0o777, False), (0o1777, True), (0o755, True)])
def test_a_folder_above_that_others_may_write(cache, mode, fine):
    make_private_folders(cache)
    cache.parent.chmod(mode)
    assert (others_may_write(cache) == "") is fine
    assert (others_may_write(cache / "not" / "there") == "") is fine


def test_a_link_to_a_private_folder_in_an_open_one(cache, tmp_path):
    make_private_folders(tmp_path / "private")
    make_private_folders(cache.parent)
    cache.symlink_to(tmp_path / "private")
    assert others_may_write(cache) == ""
    cache.parent.chmod(0o777)
    assert str(cache.parent) in others_may_write(cache)
    cache.parent.chmod(0o700)
    (tmp_path / "private").chmod(0o777)
    assert str(cache) in others_may_write(cache)


def test_a_folder_of_another_user(cache, monkeypatch):
    make_private_folders(cache)
    me, stat_of = os.geteuid(), Path.stat

    def stat_as_if(path, **options):
        found = list(stat_of(path, **options))
        found[stat.ST_UID] = me + 1 if path == cache else found[stat.ST_UID]
        return os.stat_result(found)

    monkeypatch.setattr(Path, "stat", stat_as_if)
    assert (
        others_may_write(cache)
        == f"{str(cache)!r} belongs to another user: set STTX_CACHE_DIR to a folder of your own"
    )
    assert "belongs to another user" in tag()[1]


def test_the_key_is_the_same_in_every_run(cache):
    assert tag() == tag()
    assert tag()[1] == "" and (cache / "redaction.key").stat().st_size == 32


def linked(key):
    key.rename(key.with_name("elsewhere"))
    key.symlink_to(key.with_name("elsewhere"))


def piped(key):
    key.unlink()
    os.mkfifo(key)


DAMAGES = {
    "others may write it": (lambda key: key.chmod(0o622), "others may read or write it: run `chmod 600 "),
    "others may read it": (lambda key: key.chmod(0o640), "others may read or write it: run `chmod 600 "),
    "a link": (linked, "it is a link: remove it"),
    "a pipe": (piped, "it is not a file: remove it"),
    "too long": (lambda key: key.write_bytes(b"x" * 33), "it does not hold 32 bytes: remove it"),
    "empty": (lambda key: key.write_bytes(b""), "it does not hold 32 bytes: remove it"),
    "an open folder": (lambda key: key.parent.chmod(0o770), "others may write to "),
    "an open folder above": (lambda key: key.parent.parent.chmod(0o777), "others may write to "),
    "another user's": (None, "it belongs to another user: remove it"),
}


@pytest.mark.parametrize(("damage", "problem"), DAMAGES.values(), ids=DAMAGES)
def test_a_key_that_others_may_know_is_not_used(cache, monkeypatch, damage, problem):
    good, _ = tag()
    if damage is None:
        me = os.geteuid()
        monkeypatch.setattr(private_cache, "others_may_write", lambda path: "")
        monkeypatch.setattr("sttx_ccsniff.redact.tags.others_may_write", lambda path: "")
        monkeypatch.setattr(os, "geteuid", lambda: me + 1)
        os.chown(cache / "redaction.key", me + 2, -1) if me == 0 else None
    else:
        damage(cache / "redaction.key")
    (one, said), (two, _) = tag(), tag()
    assert problem in said and "will not match those of other runs" in said
    assert len({good, one, two}) == 3


@pytest.mark.parametrize("name", ["mkdir", "open", "fdopen", "fsync", "link"])
def test_a_key_that_the_disk_refuses_is_replaced_for_the_run(cache, monkeypatch, name):
    def refuse(*args, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, name, refuse)
        _, said = tag()
    assert said.endswith("will not match those of other runs: the disk is full: free some space")
    assert not list(cache.glob("redaction.key*"))
    assert tag() == tag() and tag()[1] == ""

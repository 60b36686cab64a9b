"""Files, folders, stores and streams that cannot be read."""

import errno
import os

import pytest

import sttx_ccsniff.follow.feed
import sttx_ccsniff.opencode.store
import sttx_ccsniff.read.lines
from sttx_ccsniff import open_source
from sttx_core.errors import SourceError


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (errno.EACCES, "permission denied: change its permissions"),
        (errno.EIO, "the disk reports an error: check the disk"),
        (errno.EMFILE, r"too many files are open: raise the limit \(`ulimit -n`\)"),
    ],
    ids=["no permission", "damaged disk", "too many files"],
)
def test_a_file_that_cannot_be_read(session_file, record, monkeypatch, code, sentence):
    def refuse(*args, **options):
        raise OSError(code, os.strerror(code))
        yield

    path = session_file("a.jsonl", record(content="one"))
    monkeypatch.setattr(sttx_ccsniff.follow.feed, "read_file", refuse)
    with pytest.raises(SourceError, match=f"cannot read '{path}': {sentence}$"):
        list(open_source(path))
    with open_source(path.parent, say=lambda message: None) as source:
        assert list(source) == [] and len(source.report.warnings) == 1


def refuse_to_open(*args, **options):
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_standard_input_that_cannot_be_read(monkeypatch):
    monkeypatch.setattr(sttx_ccsniff.read.lines, "standard_input", refuse_to_open)
    with pytest.raises(SourceError, match="^cannot read standard input: the disk reports an error"):
        list(open_source("-"))


def test_an_opencode_store_that_cannot_be_read(tmp_path, monkeypatch):
    (tmp_path / "opencode.db").write_bytes(sttx_ccsniff.opencode.store.HEADER)
    monkeypatch.setattr(sttx_ccsniff.opencode.store.sqlite3, "connect", refuse_to_open)
    with pytest.raises(SourceError, match=r"^cannot read '.*opencode\.db': the disk reports an error"):
        list(open_source(tmp_path / "opencode.db"))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root can read everything")
def test_files_and_folders_without_permission(session_file, record):
    hidden = session_file("hidden.jsonl", record(content="one"))
    session_file("plain.jsonl", record(content="two"))
    hidden.chmod(0)
    with pytest.raises(
        SourceError, match=r"cannot read '.*hidden.jsonl': permission denied: change its perm"
    ):
        list(open_source(hidden))
    with open_source(hidden.parent, redact=False, say=lambda message: None) as source:
        assert [trace.text for trace in source] == ["two"]
    assert source.report.malformed == {"unreadable file": 1}
    [warning] = source.report.warnings
    assert warning.startswith(f"cannot read '{hidden}': permission denied")

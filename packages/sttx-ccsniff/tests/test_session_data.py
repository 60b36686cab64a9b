"""The content of a file decides whether it holds sessions or plain data."""

import gzip
import json
import os
import sqlite3
import sys
from pathlib import Path

import pytest

from sttx_ccsniff import holds_sessions
from sttx_ccsniff.opencode.store import is_database
from sttx_ccsniff.read.open import first_bytes

RECORD = {"type": "user", "message": {"role": "user", "content": "Hi"}}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (RECORD, True),
        ({"type": "article", "text": "Hi"}, False),
        ({"type": "row", "values": [1, 2]}, False),
        ([1, 2], False),
        ({"text": "Hi"}, False),
        ({"title": "Hi"}, False),
        ({"prompt": "a", "completion": "b"}, True),
        ({"sid": "s", "role": "user", "type": "text", "text": "Hi"}, True),
        ({"sttx_traces": 1}, True),
        ({"type": "user_message", "meta": {"session": "s"}, "text": "Hi"}, True),
        ({"timestamp": "2026-01-01T00:00:00Z", "type": "session_meta", "payload": {"id": "t"}}, True),
    ],
)
def test_the_first_object_decides(tmp_path, record, expected):
    path = tmp_path / "x.jsonl"
    path.write_text(f"\n{json.dumps(record)}\n")
    assert holds_sessions(path) is expected
    assert not holds_sessions(path.rename(tmp_path / "x.txt"))


def test_a_damaged_first_line_is_skipped(tmp_path):
    (tmp_path / "x.jsonl").write_text("{cut\n" + json.dumps(RECORD))
    assert holds_sessions(tmp_path / "x.jsonl")


def test_compressed_files_are_read(tmp_path):
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(json.dumps(RECORD).encode()))
    assert holds_sessions(tmp_path / "x.jsonl.gz")


def test_a_database_under_opencodes_name(tmp_path):
    with sqlite3.connect(tmp_path / "opencode.db") as database:
        database.execute("CREATE TABLE session (id TEXT)")
    database.close()
    assert holds_sessions(tmp_path / "opencode.db")


@pytest.mark.parametrize("content", [b"", b"\n\n", b"no json", b"\x1f\x8b broken"])
def test_a_file_without_records_holds_none(tmp_path, content):
    (tmp_path / "x.jsonl").write_bytes(content)
    assert not holds_sessions(tmp_path / "x.jsonl")
    assert not holds_sessions(tmp_path / "absent.jsonl")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such devices")
def test_a_device_that_takes_the_place_of_a_file_is_not_read(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "a.db")
    monkeypatch.setattr("os.path.isfile", lambda path: True)  # it was a file a moment ago
    assert first_bytes(Path("/dev/zero"), 4) == b""
    assert not is_database(tmp_path / "a.db")

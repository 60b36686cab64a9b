"""Files in UTF-16, as Windows PowerShell's `>` writes them, are read like the same files in UTF-8."""

import gzip
import io
import json
import sys

import pytest

from sttx_ccsniff import holds_sessions, open_source
from sttx_ccsniff.read.open import is_encoded
from sttx_core.checks import check_source

RECORDS = [
    {"type": "user", "uuid": f"u{n}", "sessionId": "s", "message": {"content": f"Bäume 木 🌳 {n}"}}
    for n in range(30)
]
TEXTS = [record["message"]["content"] for record in RECORDS]
LINES = "\r\n".join(json.dumps(record, ensure_ascii=False) for record in RECORDS) + "\r\n"
ENCODED = {
    "little endian": b"\xff\xfe" + LINES.encode("utf-16-le"),
    "big endian": b"\xfe\xff" + LINES.encode("utf-16-be"),
    "little endian without mark": LINES.encode("utf-16-le"),
    "big endian without mark": LINES.encode("utf-16-be"),
    "UTF-8 with mark": LINES.encode("utf-8-sig"),
}


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize("name", ENCODED)
def test_the_encoding_is_recognized(tmp_path, name, compress):
    path = tmp_path / "s.jsonl"
    path.write_bytes(compress(ENCODED[name]))
    assert holds_sessions(path)
    with open_source(path) as source:
        assert [trace.text for trace in source] == TEXTS
    assert not source.report.malformed and source.report.formats == {"claude-code": 1}
    if "little" in name:
        check_source(lambda cursor: open_source(path, cursor=cursor))


def test_a_file_that_grows(tmp_path):
    path, whole = tmp_path / "s.jsonl", ENCODED["little endian"]
    texts, cursor = [], None
    for end in (1001, len(whole) // 2, len(whole)):
        path.write_bytes(whole[:end])
        with open_source(path, cursor=cursor, say=lambda message: None) as source:
            texts += [trace.text for trace in source]
            cursor = source.cursor
    assert texts == TEXTS


def test_standard_input(tmp_path, monkeypatch):
    path = tmp_path / "s"
    path.write_bytes(ENCODED["little endian"])
    with path.open("rb") as file:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
        with open_source("-") as source:
            assert [trace.text for trace in source] == TEXTS


@pytest.mark.parametrize(
    "content", [b"\xff\xfe{\0\x00\xd8{\0", b"\xff\xfe", b"\xff", b"\xff\xfe\0", b"\0{\0"]
)
def test_damaged_content_breaks_nothing(tmp_path, content):
    path = tmp_path / "s.jsonl"
    path.write_bytes(content)
    with open_source(path, say=lambda message: None) as source:
        assert list(source) == []


@pytest.mark.parametrize(
    "head", [b"", b"{", b'{"a"', b"\0\0\0\0", b"{\0\0\0", b"\0\0\0{", b'[{"a', b"ab\0\0"]
)
def test_other_content_is_not_utf16(head):
    assert not is_encoded(head)

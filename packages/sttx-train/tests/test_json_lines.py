"""JSON lines hold texts or lists of integers, detected by content; damaged lines are counted and named."""

import json
import tracemalloc

import pytest

from sttx_core.errors import DataError
from sttx_train.data.json_lines import JsonEntries, entry_of


def written(path, *lines):
    path.write_bytes(b"".join(line if isinstance(line, bytes) else line.encode() + b"\n" for line in lines))
    return path


def test_texts_come_with_their_line_numbers(tmp_path):
    path = written(
        tmp_path / "x.jsonl", '{"text": "one"}', "", '{"id": 1, "text": "zwei ä\\n"}', b'{"text":"3"}'
    )
    sizes = []
    lines = JsonEntries(path, sizes.append)
    assert list(lines) == [(1, "one"), (3, "zwei ä\n"), (4, "3")]
    assert lines.damaged == 0 and lines.complaint() is None
    assert sum(sizes) == path.stat().st_size


def test_lists_of_integers_come_bare_or_as_values(tmp_path):
    path = written(
        tmp_path / "x.jsonl", "[1, 2]", '{"values": [3]}', "[]", '{"values": [-4, 12345678901234567890]}'
    )
    assert list(JsonEntries(path)) == [(1, [1, 2]), (2, [3]), (3, []), (4, [-4, 12345678901234567890])]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"nonsense",
        b'{"text": "cut',
        b'{"text": "\xff"}',
        b'{"text": 7}',
        b'{"text": [1]}',
        b'{"content": "x"}',
        b"[1.0]",
        b"[true]",
        b'["1"]',
        b'{"values": 3}',
        b"7",
        b"null",
        b"[" * 100_000,
        b"[" + b"9" * 10_000 + b"]",
    ],
    ids=lambda line: line[:20].decode("latin-1"),
)
def test_other_lines_are_not_entries(line):
    assert entry_of(line) is None


def test_damaged_lines_are_counted_and_named(tmp_path):
    path = written(tmp_path / "x.jsonl", '{"text": "one"}', "nonsense", '{"text": "two"}', *["?"] * 10)
    lines = JsonEntries(path)
    assert [text for _, text in lines] == ["one", "two"]
    assert lines.damaged == 11 and lines.first_damaged == [2, *range(4, 13)]
    assert (
        lines.complaint()
        == f"{str(path)!r}: 11 damaged lines were left out: 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, …"
    )
    one = JsonEntries(written(tmp_path / "y.jsonl", "?", '{"text": "two"}'))
    assert list(one) and one.complaint().endswith("y.jsonl': 1 damaged line was left out: 1")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (['{"text": "one"}', "?", "[1]"], "line 3 of .* holds integers, the lines before it text"),
        (["[1]", '{"text": "one"}'], "line 2 of .* holds text, the lines before it integers"),
        (["", "  "], "is empty: it holds no line of JSON"),
        ([], "is empty"),
        (["", "?", "?"], "no line of .* could be read, line 2 the first: each must be"),
    ],
)
def test_mixed_and_empty_files_are_refused(tmp_path, lines, said):
    with pytest.raises(DataError, match=said):
        list(JsonEntries(written(tmp_path / "x.jsonl", *lines)))


def test_reading_continues_after_a_line_that_is_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr("sttx_train.data.json_lines.LINE_LIMIT", 30)
    path = written(tmp_path / "x.jsonl", json.dumps({"text": "a" * 95}), '{"text": "two"}')
    sizes = []
    lines = JsonEntries(path, sizes.append)
    assert list(lines) == [(2, "two")] and lines.first_damaged == [1]
    assert sum(sizes) == path.stat().st_size


def test_a_file_is_a_stream(tmp_path):
    path = written(tmp_path / "x.jsonl", *[json.dumps({"text": "x" * 1000})] * 2000)
    tracemalloc.start()
    assert sum(len(text) for _, text in JsonEntries(path)) == 2_000_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000

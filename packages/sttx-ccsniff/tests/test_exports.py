import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sttx_ccsniff.exports.pairs import PairParser
from sttx_ccsniff.exports.rows import LOSSY, RowParser
from sttx_ccsniff.read.formats import FORMATS, AutoParser
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.render import render
from sttx_core.traces import Other, Pair, ToolResult, ToolUse, UserMessage, trace_type


@pytest.fixture
def said():
    return []


@pytest.fixture
def report(said):
    return SourceReport(say=said.append)


def row(role, kind, text="", **fields):
    made = {
        "ts": 1770022800500,
        "iso": "2026-02-02T09:00:00.500Z",
        "sid": "s",
        "parent": None,
        "cwd": "/home/ada/x",
    }
    made |= {"project": "x", "role": role, "type": kind, "tool": None, "isMeta": False, "text": text}
    return json.dumps(made | fields).encode()


def rows(report, *lines):
    parser = RowParser("/a/rows.ndjson", report, Seen())
    return [trace for line in lines for trace in parser.feed(line)]


def test_the_meta_of_a_row(report):
    [trace] = rows(report, row("user", "text", "Hi"))
    assert trace == UserMessage(meta=trace.meta, text="Hi")
    meta = trace.meta
    assert (meta.session, meta.project, meta.time, meta.origin) == ("s", "x", 1770022800.5, "/a/rows.ndjson")
    assert (meta.uid, meta.parent) == ("rows:1", "")


def test_each_kind_of_row(report):
    traces = rows(
        report,
        row("user", "text", "Hi"),
        row("user", "image"),
        row("assistant", "text", "Hello"),
        row("assistant", "thinking", "hm"),
        row("assistant", "tool_use", '{"command":"ls -a"}', tool="Bash"),
        row("tool_result", "tool_result", "a b"),
    )
    assert [trace_type(trace) for trace in traces] == [
        *("user_message", "user_message", "assistant_message", "thinking", "tool_use", "tool_result")
    ]
    assert traces[1].text == "[image]"
    assert traces[4] == ToolUse(meta=traces[4].meta, name="Bash", input={"command": "ls -a"})
    assert traces[5] == ToolResult(meta=traces[5].meta, name="", output="a b")


def test_a_truncated_input_stays_text(report):
    [trace] = rows(report, row("assistant", "tool_use", '{"command":"ls…', tool="Bash"))
    assert trace.input == '{"command":"ls…'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (row("system", "system"), "row: system system"),
        (row("result", "result", "done"), "row: result result"),
        (row("assistant", "redacted_thinking"), "row: assistant redacted_thinking"),
        (row("assistant", "thinking", ""), "empty thinking"),
        (row("assistant", "text", " "), "empty text"),
        (row("user", "text", "Caveat", isMeta=True), "meta message"),
        (row("user", "text", "[Request interrupted by user]"), "interruption"),
        (b"# tailing... (Ctrl-C to exit)", "comment"),
    ],
)
def test_rows_without_talk_are_counted(report, line, reason):
    assert rows(report, line) == []
    assert report.skipped == {reason: 1}


def test_unknown_rows_are_kept(report):
    [trace] = rows(report, row("oracle", "text", "x"))
    assert isinstance(trace, Other) and trace.kind == "row oracle text"


def test_a_rows_parent_is_another_session(report):
    one, two = rows(report, row("user", "text", "a", parent="s"), row("user", "text", "b", parent="p"))
    assert (one.meta.parent, two.meta.parent) == ("", "p")


def test_one_warning_says_what_rows_lack(report, said):
    rows(report, row("user", "text", "a"))
    rows(report, row("user", "text", "b"))
    assert said == [LOSSY] == report.warnings
    for part in ("tool calls", "line breaks", "thinking", "session files"):
        assert part in LOSSY


def test_pairs(report):
    parser = PairParser("/a/pairs.jsonl", report, Seen())
    [pair] = parser.feed(b'{"prompt":"2+2?","completion":"4"}')
    assert pair == Pair(meta=pair.meta, prompt="2+2?", completion="4")
    assert (pair.meta.session, pair.meta.uid) == ("pairs", "pairs:1")
    assert parser.feed(b'{"prompt":"2+2?","completion":4}') == []
    assert report.malformed.total() == 1


@pytest.mark.parametrize("time", [None, "soon", [], {}, 1e400, -5, True])
def test_unusual_times_do_not_crash(report, time):
    line = row("user", "text", "a", ts=time)
    assert len(rows(report, line)) == 1


@given(
    st.dictionaries(st.sampled_from(["role", "type", "text", "sid", "ts", "tool"]), st.integers() | st.text())
)
def test_wrong_types_in_any_field_never_crash_and_are_counted(fields):
    report = SourceReport(say=lambda message: None)
    traces = rows(report, json.dumps(fields).encode())
    for trace in traces:
        render(trace).encode()
    assert traces or report.skipped


# Recognition


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (b'{"type":"user","uuid":"u","message":{"content":"a"}}', "claude-code"),
        (b'{"type":"summary","summary":"x"}', "claude-code"),
        (row("user", "text", "a"), "ccsniff-rows"),
        (b'{"prompt":"a","completion":"b"}', "pairs"),
    ],
)
@pytest.mark.parametrize("before", [[], [b"", b"# tailing..."], [b"\xff", b"[]", b"{}"]])
def test_a_format_is_recognized_by_its_first_record(report, line, name, before):
    parser = AutoParser("x", report, Seen())
    for junk in before:
        assert parser.feed(junk) == [] and parser.name == "unknown"
    traces = parser.feed(line)
    assert parser.name == name
    assert len([trace for trace in traces if not isinstance(trace, Other)]) == (b"summary" not in line)
    assert report.formats == {name: 1}


def test_a_file_of_unknown_format_is_warned_about_and_counted(report, said):
    parser = AutoParser("notes.txt", report, Seen())
    assert parser.feed(b"hello") == [] and parser.feed(b"world") == []
    assert parser.finish(b"") == []
    assert report.malformed == {"not JSON": 2}
    assert said == ["'notes.txt' has no record of a known kind"]


def test_waiting_for_the_first_record_is_bounded(report):
    parser = AutoParser("x", report, Seen())
    for _ in range(150):
        parser.feed(b"hello")
    assert report.malformed == {"not JSON": 150}
    assert parser._waiting == []


def test_an_empty_file_is_silent(report, said):
    parser = AutoParser("x", report, Seen())
    assert parser.finish(b"") == [] and said == []


def test_formats_have_distinct_names():
    names = [kind.parser("x", SourceReport(say=lambda message: None), Seen()).name for kind in FORMATS]
    assert len(set(names)) == len(names)

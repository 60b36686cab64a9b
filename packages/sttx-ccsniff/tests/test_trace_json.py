import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sttx_ccsniff import open_source
from sttx_ccsniff.parse.trace_json import (
    TRACES_HEADER,
    VERSION,
    TraceLinesParser,
    dump_trace,
    load_trace,
    meta_from_json,
    meta_to_json,
    recognizes_traces,
)
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.traces import (
    AssistantMessage,
    Meta,
    Other,
    Pair,
    SessionEnd,
    Thinking,
    ToolResult,
    ToolUse,
    Trace,
    UserMessage,
)

META = Meta(session="s")
HI = UserMessage(meta=Meta(session="s", uid="u"), text="Hi")

finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
words = st.text(max_size=20)
metas = st.builds(
    Meta,
    **dict.fromkeys(("session", "project", "uid", "origin", "subagent", "parent"), words),
    time=finite,
    segment=st.integers(0, 9),
)
traces = st.one_of(
    *(st.builds(kind, meta=metas, text=words) for kind in (UserMessage, AssistantMessage, Thinking)),
    st.builds(ToolUse, meta=metas, name=words, input=json_values, id=words),
    st.builds(
        ToolResult, meta=metas, name=words, output=words, is_error=st.booleans(), id=words, subagent=words
    ),
    st.builds(Pair, meta=metas, prompt=words, completion=words),
    st.builds(SessionEnd, meta=metas),
    st.builds(Other, meta=metas, kind=words, raw=words | st.dictionaries(words, json_values, max_size=3)),
)


@pytest.fixture
def report():
    return SourceReport(say=lambda message: None)


@pytest.fixture
def parser(report):
    return TraceLinesParser("/a/x.jsonl", report, Seen())


def read(parser, *lines):
    return [trace for line in lines for trace in parser.feed(line)]


def test_every_trace_type_is_tested():
    tried = {UserMessage, AssistantMessage, Thinking, ToolUse, ToolResult, Pair, SessionEnd, Other}
    assert tried == set(Trace.__args__)


@given(traces)
def test_any_trace_is_unchanged_by_writing_and_reading(trace):
    line = dump_trace(trace)
    assert b"\n" not in line
    assert load_trace(line) == trace
    again = load_trace(line)
    assert type(again.meta.time) is float and type(again) is type(trace)


@given(traces)
def test_any_trace_is_recognized_alone(trace):
    record = json.loads(dump_trace(trace))
    assert recognizes_traces(record)
    report = SourceReport()
    [again] = TraceLinesParser("/a/x.jsonl", report, Seen()).feed(dump_trace(trace))
    assert again.meta == dataclasses.replace(trace.meta, origin="/a/x.jsonl")
    assert not report.malformed and not report.noted


def test_the_json_of_a_trace():
    """Schema 1 calls a sub-agent "agent"; the fields of Meta and ToolResult are named `subagent`."""
    meta = {"session": "s", "project": "p", "time": 1.5, "uid": "u#1", "origin": "o", "parent": "s"}
    own = {"name": "Bash", "output": "x\n", "is_error": True, "id": "t"}
    trace = ToolResult(meta=Meta(**meta, segment=2, subagent="a"), **own, subagent="b")
    line = {"type": "tool_result", "meta": {**meta, "segment": 2, "agent": "a"}, **own, "agent": "b"}
    assert json.loads(dump_trace(trace)) == line
    assert load_trace(json.dumps(line).encode()) == trace
    assert dump_trace(SessionEnd(meta=META)) == b'{"type":"session_end","meta":{"session":"s"}}'


def test_the_json_of_a_meta_in_a_cursor():
    meta = Meta(session="s", subagent="a", parent="s")
    assert meta_to_json(meta) == {"session": "s", "agent": "a", "parent": "s"}
    assert meta_from_json(meta_to_json(meta)) == meta


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("beside", [1, 2**70])
def test_nan_and_infinities_become_null(number, beside):
    trace = ToolUse(meta=Meta(session="s", time=number), name="x", input=[number, {"a": number}, beside])
    again = load_trace(dump_trace(trace))
    assert again == ToolUse(meta=META, name="x", input=[None, {"a": None}, beside])


def test_reading_changes_only_the_origin(parser, report):
    meta = Meta(
        session="s", project="p", time=2.0, uid="u#1", origin="/old", subagent="a", parent="s", segment=1
    )
    [trace] = read(parser, TRACES_HEADER, dump_trace(Thinking(meta=meta, text="hm")))
    assert trace == Thinking(meta=dataclasses.replace(meta, origin="/a/x.jsonl"), text="hm")
    assert (report.records, dict(report.skipped)) == (2, {"header": 1})


def test_two_joined_streams_are_one_stream(parser):
    other = dataclasses.replace(HI, meta=Meta(session="s", uid="v"))
    assert len(read(parser, TRACES_HEADER, dump_trace(HI), TRACES_HEADER, dump_trace(other))) == 2


def test_a_record_is_delivered_once_from_either_format(report):
    seen = Seen()
    parts = [dump_trace(dataclasses.replace(HI, meta=Meta(session="s", uid=f"u{end}"))) for end in ("", "#1")]
    assert len(read(TraceLinesParser("a", report, seen), *parts)) == 2
    assert read(TraceLinesParser("b", report, seen), *parts) == []
    assert seen.first_time("w")
    again = dump_trace(dataclasses.replace(HI, meta=Meta(session="s", uid="w#2")))
    assert read(TraceLinesParser("c", report, seen), again) == []
    assert report.skipped == {"duplicate uuid": 3}


@pytest.mark.parametrize("uid", ["", "rows:1", "s:3#1"])
def test_traces_without_a_uuid_are_never_repeats(report, uid):
    seen, line = Seen(), dump_trace(UserMessage(meta=Meta(session="s", uid=uid), text="x"))
    assert all(len(read(TraceLinesParser(name, report, seen), line)) == 1 for name in "ab")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"type": "hologram", "meta": {"session": "s"}}, "trace of an unknown type"),
        ({"type": "thinking", "text": "x"}, "trace without meta"),
        ({"type": "thinking", "meta": {}, "text": "x"}, "trace without session"),
        ({"type": "thinking", "meta": {"session": "s"}}, "trace without text"),
        ({"type": "thinking", "meta": {"session": 1}, "text": "x"}, "trace whose session is of another type"),
        ({"type": "thinking", "meta": {"session": "s"}, "text": 1}, "trace whose text is of another type"),
        (
            {"type": "thinking", "meta": {"session": "s", "segment": True}, "text": ""},
            "trace whose segment is of another type",
        ),
        (
            {"type": "thinking", "meta": {"session": "s", "time": 10**400}, "text": ""},
            "trace whose time is of another type",
        ),
        (
            {"type": "other", "meta": {"session": "s"}, "kind": "x", "raw": [1]},
            "trace whose raw is of another type",
        ),
        ({"sttx_traces": "one"}, "version that is not an integer"),
        ({"sttx_traces": True}, "version that is not an integer"),
        ([1], "not an object"),
    ],
)
def test_other_lines_are_counted_with_their_reason(parser, report, line, reason):
    assert read(parser, json.dumps(line).encode()) == []
    assert report.malformed == {reason: 1} and report.records == 0
    if reason != "version that is not an integer":
        with pytest.raises(ValueError):
            load_trace(json.dumps(line).encode())


def test_an_unknown_field_is_noted(parser, report):
    line = {"type": "thinking", "meta": {"session": "s", "mood": "good"}, "text": "x"}
    more = {"type": "thinking", "meta": {"session": "s"}, "text": "x", "depth": 1}
    assert len(read(parser, *(json.dumps(one).encode() for one in (line, more)))) == 2
    assert report.noted == {"unknown field of a trace": 2}


def test_a_later_version_is_refused_with_one_warning(report):
    said = []
    report.say = said.append
    parser = TraceLinesParser("/a/x.jsonl", report, Seen())
    header = json.dumps({"sttx_traces": VERSION + 1}).encode()
    assert read(parser, header, dump_trace(HI), dump_trace(HI)) == []
    assert report.records == 0
    assert report.malformed == {"header of a later version": 1, "trace of a later version": 2}
    assert said == [
        "'/a/x.jsonl' holds traces in version 2 of their schema, and this sttx reads up to version 1: "
        "update sttx, or write the traces with this version"
    ]


def test_a_parser_continues_from_another_ones_state(report):
    lines = [TRACES_HEADER, dump_trace(HI)]
    lines += [dump_trace(dataclasses.replace(HI, meta=Meta(session="s", uid=f"u#{part}"))) for part in (1, 2)]
    lines += [json.dumps({"sttx_traces": 9}).encode(), dump_trace(HI)]
    seen, state, traces = Seen(), None, []
    for line in lines:
        parser = TraceLinesParser("x", report, seen)
        if state is not None:
            parser.load_state_dict(json.loads(state))
        traces += parser.feed(line)
        state = json.dumps(parser.state_dict())
    assert [trace.meta.uid for trace in traces] == ["u", "u#1", "u#2"]
    assert report.malformed == {"header of a later version": 1, "trace of a later version": 1}


@pytest.mark.parametrize("state", [None, [], [1], [True, "", False], [1, 2, False], [1, "", 0], "abc"])
def test_an_invalid_state_is_refused(parser, state):
    with pytest.raises(ValueError, match="not a state"):
        parser.load_state_dict(state)


def test_other_formats_are_not_recognized():
    assert not recognizes_traces({"type": "user", "message": {}})
    assert not recognizes_traces({"prompt": "a", "completion": "b"})
    assert not recognizes_traces({"type": "thinking", "meta": 1})


@pytest.mark.parametrize("cut", [0, 1, 7])
def test_a_stream_can_be_opened_as_a_source(sessions, tmp_path, cut):
    """A stream may also start at any of its lines."""
    with open_source(sessions, follow=False) as source:
        before = list(source)
    path = tmp_path / "stream.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in [TRACES_HEADER, *map(dump_trace, before)][cut:]))
    with open_source(path, follow=False) as source:
        after = list(source)
    wanted = [dataclasses.replace(t, meta=dataclasses.replace(t.meta, origin=str(path))) for t in before]
    assert after == wanted[max(cut - 1, 0) :]
    assert source.report.formats == {"sttx-traces": 1}
    assert not source.report.malformed

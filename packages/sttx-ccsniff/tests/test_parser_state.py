"""A new parser that continues from the state after any line misses nothing."""

import json

import pytest

from sttx_ccsniff.claude_code.parser import SessionParser
from sttx_ccsniff.exports.pairs import PairParser
from sttx_ccsniff.exports.rows import RowParser
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen

PAIR = b'{"prompt":"2+2?","completion":"4"}'
ROW = b'{"ts":1000,"sid":"s","role":"user","type":"text","text":"Hi","project":"p"}'


def silent():
    return SourceReport(say=lambda message: None)


def read_at_once(kind, origin, lines):
    parser = kind(origin, silent(), Seen())
    return [trace for line in lines for trace in parser.feed(line)]


def test_resuming_after_every_line_of_every_session(sessions, read_with_handover):
    for path in sorted(sessions.rglob("*.jsonl")):
        lines = path.read_bytes().split(b"\n")
        assert read_with_handover(SessionParser, str(path), lines) == read_at_once(
            SessionParser, str(path), lines
        )


def test_the_state_of_a_session_parser(record, read_with_handover):
    """Project, segments of session and sub-agent, a boundary before the summary, records without a uuid."""
    bare = {"type": "user", "message": {"content": "a"}}
    boundary = {"subtype": "compact_boundary"}
    records = [
        record(content="a"),
        record(content="b", agentId="x", isSidechain=True, cwd="/elsewhere"),
        record("system", **boundary, agentId="x"),
        record("system", **boundary),
        record(content="This session is being continued", isCompactSummary=True),
        record(content="c", cwd=None),
        record(content="d", agentId="x"),
        record(content="e", isSidechain=True, parentUuid=None),
        record(content="f", isSidechain=True, parentUuid="uuid-8"),
        bare,
        bare,
    ]
    lines = [json.dumps(one).encode() for one in records]
    traces = read_with_handover(SessionParser, "/p/slug/s.jsonl", lines)
    assert traces == read_at_once(SessionParser, "/p/slug/s.jsonl", lines)
    assert [trace.document for trace in traces] == [
        "s",
        "s/x",
        "s#1",
        "s/x#1",
        *(["s/sidechain-uuid-8"] * 2),
        "s#1",
        "s#1",
    ]
    assert [trace.meta.uid for trace in traces[-2:]] == ["s:10", "s:11"]
    assert {trace.meta.project for trace in traces} == {"orchard"}


@pytest.mark.parametrize(("kind", "line"), [(PairParser, PAIR), (RowParser, ROW)])
def test_rows_and_pairs_continue_their_numbers(kind, line, read_with_handover):
    traces = read_with_handover(kind, "x.jsonl", [line] * 3)
    assert traces == read_at_once(kind, "x.jsonl", [line] * 3)
    assert [trace.meta.uid for trace in traces] == ["x:1", "x:2", "x:3"]


def test_a_state_never_changes_later(record):
    parser = SessionParser("/p/s.jsonl", silent(), Seen())
    parser.feed(json.dumps(record(content="a")).encode())
    state = parser.state_dict()
    before = json.dumps(state)
    for _ in range(2):
        parser.feed(json.dumps(record("system", subtype="compact_boundary")).encode())
    assert json.dumps(state) == before != json.dumps(parser.state_dict())


@pytest.mark.parametrize("kind", [SessionParser, PairParser, RowParser])
def test_an_invalid_state_is_refused_and_changes_nothing(kind):
    parser = kind("x.jsonl", silent(), Seen())
    good = json.loads(json.dumps(parser.state_dict()))
    odd = [None, 5, "abc", {}, [], [[]], [*good, 1], [-1, *good[1:]], ["1", *good[1:]], [True, *good[1:]]]
    odd += [[*good[:at], object(), *good[at + 1 :]] for at in range(len(good))]
    for state in odd:
        with pytest.raises(ValueError, match="not a state"):
            parser.load_state_dict(state)
    assert json.loads(json.dumps(parser.state_dict())) == good


@pytest.mark.parametrize("segments", [{"": -1}, {"": "1"}, {"": True}, {1: 1}])
def test_segments_are_counts(segments):
    parser = SessionParser("x.jsonl", silent(), Seen())
    state = [segments if isinstance(part, dict) else part for part in parser.state_dict()]
    with pytest.raises(ValueError, match="not a state"):
        parser.load_state_dict(state)

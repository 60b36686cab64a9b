"""Any content of a session file: no crash, everything counted, and every trace can be written again."""

import dataclasses
import json
import math
import random
import time
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sttx_ccsniff.parse.records import decode_line
from sttx_ccsniff.parse.trace_json import dump_trace, load_trace
from sttx_ccsniff.read.formats import AutoParser
from sttx_ccsniff.read.splitter import LineSplitter
from sttx_ccsniff.redact.scanner import Scanner, vendor_rules
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.render import render
from sttx_core.traces import ToolResult, ToolUse

pytestmark = pytest.mark.slow

USES = ("tool_use", "server_tool_use", "mcp_tool_use")
DEEPEST = 70
FUZZED = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


def message(kind, *content, **fields):
    return {
        "parentUuid": None,
        "isSidechain": False,
        "type": kind,
        "uuid": f"uuid of {kind} {json.dumps(content)}",
        "sessionId": "s",
        "cwd": "/home/ada/orchard",
        "timestamp": "2026-02-02T09:00:00.500Z",
        "message": {"role": kind, "id": "msg_1", "content": list(content), "usage": {"input_tokens": 3}},
    } | fields


def codex(kind, **payload):
    return {"timestamp": STAMP, "type": kind, "payload": payload}


STAMP = "2026-01-02T03:04:05.500Z"
SOURCE = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
RECORDS = (
    message("user", {"type": "text", "text": "Fix <system-reminder>be brief</system-reminder>"}),
    message("user", {"type": "image", "source": SOURCE}, {"type": "text", "text": "what is this?"}),
    message("assistant", {"type": "thinking", "thinking": "Hm.", "signature": "x"}),
    message("assistant", {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": ["ls"]}}),
    message(
        "user",
        {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "a.py"}]},
        toolUseResult={"stdout": "a.py", "agentId": "a1", "usage": {"output_tokens": 1}},
    ),
    message("assistant", {"type": "text", "text": "Done."}, isSidechain=True, agentId="a1"),
    message("user", isCompactSummary=True, content="earlier"),
    {"type": "attachment", "uuid": "q", "attachment": {"type": "queued_command", "prompt": "and this"}},
    {"type": "system", "uuid": "c", "subtype": "compact_boundary", "compactMetadata": {"trigger": "auto"}},
    {"type": "summary", "summary": "What was done", "leafUuid": "q"},
    {"type": "never heard of", "uuid": "n", "payload": {"a": [1, None]}},
    {"ts": 1, "iso": "", "sid": "s", "role": "assistant", "type": "tool_use", "tool": "Bash", "text": "{}"},
    {"ts": 1, "sid": "s", "parent": "p", "role": "user", "type": "text", "isMeta": False, "text": "hello"},
    {"prompt": "2+2?", "completion": "4", "session": "p"},
    {"sttx_traces": 1},
    {
        "type": "tool_use",
        "meta": {"session": "s", "uid": "x", "time": 1.5},
        "name": "Bash",
        "input": {"a": [1]},
    },
    {"type": "other", "meta": {"session": "s", "segment": 1}, "kind": "odd", "raw": {"a": None}},
    codex(
        "session_meta", id="0199", cwd="/home/ada/orchard", source={"subagent": {"x": "y"}}, timestamp=STAMP
    ),
    codex("turn_context", cwd="/home/ada", model="m"),
    codex("response_item", type="message", role="user", content=[{"type": "input_text", "text": "Count"}]),
    codex("response_item", type="reasoning", summary=[{"type": "summary_text", "text": "Hm"}], content=None),
    codex("response_item", type="function_call", name="shell", arguments='{"command":["ls"]}', call_id="c"),
    codex("response_item", type="function_call_output", call_id="c", output='{"output":"a","metadata":{}}'),
    codex("event_msg", type="token_count", info={"total_token_usage": {"input_tokens": 1}}),
    codex("event_msg", type="agent_message", message="Done."),
    codex("compacted", message="", replacement_history=[]),
)
LINES = tuple(json.dumps(record).encode() for record in RECORDS)
CLAUDE, ROWS, PAIRS, TRACES, CODEX = 0, 11, 13, 14, 17
"""Index of the first record of each format."""


def first_of(number):
    """Return the line by which the format of a record is recognized."""
    return LINES[max(start for start in (CLAUDE, ROWS, PAIRS, TRACES, CODEX) if start <= number)]


def every_value(value):
    """Yield each value inside a value with its depth, without recursion."""
    waiting = [(value, 0)]
    while waiting:
        inner, depth = waiting.pop()
        yield inner, depth
        if dataclasses.is_dataclass(inner):
            inner = {field.name: getattr(inner, field.name) for field in dataclasses.fields(inner)}
        if isinstance(inner, dict):
            waiting += [(key, depth + 1) for key in inner]
            inner = list(inner.values())
        if isinstance(inner, list):
            waiting += [(item, depth + 1) for item in inner]


def check_trace(trace):
    for value, depth in every_value(trace):
        assert depth <= DEEPEST
        if isinstance(value, str):
            value.encode()
        assert not isinstance(value, float) or math.isfinite(value)
    render(trace).encode()
    assert load_trace(dump_trace(trace)) == trace


def counted(report):
    return report.skipped.total() + report.malformed.total()


def read(lines, tail=b"", origin="/projects/orchard/s.jsonl"):
    """Read lines; check that each record becomes a trace or a count, and each line a record or a count."""
    report = SourceReport(say=lambda message: None)
    seen = Seen(generation=1000)  # the default one takes longer to allocate than a file here to read
    parser = AutoParser(origin, report, seen)
    traces = []
    for line in lines:
        traces += parser.feed(line)
        if parser.settled:
            state = parser.state_dict()
            parser = AutoParser(origin, report, seen, {origin})
            parser.load_state_dict(json.loads(json.dumps(state)))
    traces += parser.finish(tail)
    for trace in traces:
        check_trace(trace)
    assert report.records <= len(traces) + counted(report)
    whole = [line for line in (*lines, tail) if line.decode(errors="replace").strip(" \t\r\n\x00\ufeff")]
    assert len(whole) <= report.records + counted(report)
    json.dumps(report.as_dict()).encode()
    return traces, report


def tool_blocks(lines):
    """Count the blocks that must become tool calls and results, each uuid once."""
    seen, uses, results = set(), 0, 0
    for line in lines:
        for record in decode_line(line, Counter())[0]:
            if not isinstance(record, dict):
                continue
            uuid = record.get("uuid")
            if isinstance(uuid, str) and uuid and (uuid in seen or seen.add(uuid)):
                continue
            if record.get("type") not in ("user", "assistant"):
                continue
            content = record["message"].get("content") if isinstance(record.get("message"), dict) else None
            for block in content if isinstance(content, list) else ():
                kind = block.get("type") if isinstance(block, dict) else None
                uses += kind in USES if isinstance(kind, str) else 0
                results += isinstance(kind, str) and kind.endswith("tool_result")
    return uses, results


def paths(value, here=()):
    """Yield the path to each value inside a record."""
    yield here
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from paths(inner, (*here, key))


def replaced(value, path, new):
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


PLACES = [(number, path) for number, record in enumerate(RECORDS) for path in paths(record)]
ODD = (
    "null", "true", "0", "-0", "1e400", "-1e400", "NaN", "-Infinity", "1" * 30, "9" * 5000, "1e-400", '""',
    '"x"', "[]", "{}", "[[]]", '[""]', "[null,1]", '{"":null}', '{"type":{}}', '[{"type":["text"]}]',
    r'"\ud800"', r'{"\udfff":"\ud83d"}', r'"\u0000"', '"\u2028\x85\ufeff"', '"2026-99-99T99:99:99Z"',
    '"0001-01-01T00:00:00+23:59"', '"9999-12-31T23:59:59-23:59"', '"\x00\x1b[31m"', '"/"', '"..\\\\.."',
    "[" * 900 + "]" * 900, '{"a":' * 900 + "1" + "}" * 900, '[{"a":' * 300 + "1" + "}]" * 300,
    "[" * 20_000 + "]" * 20_000, '{"a":' * 20_000 + "1" + "}" * 20_000, "[" * 20_000,
    '"' + "x" * 2**16 + '"', '"' + "<command-args>" * 500 + '"', '{"type":"text","type":"tool_use"}',
)  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd[:20] if odd.isprintable() else None)
def test_any_field_of_any_record_may_have_any_value(odd):
    """Put the value into each place in turn, as raw JSON."""
    hole = "a placeholder that occurs nowhere else"
    for number, path in PLACES:
        record = json.dumps(replaced(RECORDS[number], path, hole), ensure_ascii=False)
        line = record.replace(json.dumps(hole), odd).encode()
        read([line])
        lines = [first_of(number), line, LINES[number]]
        traces, _ = read(lines)
        if number < ROWS:
            uses, results = tool_blocks(lines)
            assert sum(isinstance(trace, ToolUse) for trace in traces) == uses
            assert sum(isinstance(trace, ToolResult) for trace in traces) == results


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@FUZZED
@given(st.data())
def test_any_json_in_any_place(data):
    lines = [first_of(data.draw(st.integers(0, len(LINES) - 1)))]
    for number, path in data.draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=6)):
        lines.append(json.dumps(replaced(RECORDS[number], path, data.draw(JSON))).encode())
    read(lines)


JUNK = st.sampled_from(
    (b"\n", b"\r\n", b"\n\n\n", b"\x00" * 9, b"\xff\xfe", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"{", b"}", b'"')
    + (
        b"\\",
        b"\\ud800",
        b"]" * 50,
        b"[" * 5000,
        b"\xf0\x9f",
        b"\xed\xa0\x80",
        b"# tailing...\n",
        b"9" * 9999,
    )
) | st.binary(max_size=8)


@st.composite
def damaged_files(draw):
    """Draw a file of records that is cut, joined, changed, doubled and mixed with junk."""
    ends = st.sampled_from((b"\n", b"\r\n", b"", b"\n\n", b" \n"))
    data = b"".join(line + draw(ends) for line in draw(st.lists(st.sampled_from(LINES), max_size=8)))
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 300)))
        kind = draw(st.sampled_from(("cut", "drop", "junk", "flip", "double", "swap")))
        if kind == "cut":
            data = data[:start]
        elif kind in ("drop", "junk"):
            data = data[:start] + (draw(JUNK) if kind == "junk" else b"") + data[end:]
        elif kind == "flip":
            data = (
                data[:start]
                + bytes(byte ^ draw(st.integers(1, 255)) for byte in data[start:][:1])
                + data[start + 1 :]
            )
        else:
            data = data[:end] + data[start:end] * (2 if kind == "double" else 1) + data[end:][::-1][::-1]
    return data


@FUZZED
@given(damaged_files(), st.lists(st.integers(0, 4000), max_size=5))
def test_damaged_files_in_any_pieces(data, cuts):
    splitter, lines = LineSplitter(), []
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in zip(edges, edges[1:], strict=False):
        lines += splitter.feed(data[start:end])
    tail = splitter.finish()
    assert [*lines, tail] == data.split(b"\n")
    read(lines, tail)


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_a_record_cut_at_any_byte_is_counted_and_the_next_one_read(line):
    for cut in range(1, len(line)):
        _, report = read([LINES[0], line[:cut]])
        assert report.records == 1 and report.malformed == {"cut short": 1}
        _, report = read([LINES[0]], line[:cut])
        assert report.records == 1 and report.malformed == {"cut short": 1}


@FUZZED
@given(st.binary(max_size=300))
def test_any_bytes(data):
    read(data.split(b"\n"))
    read([LINES[0], *data.split(b"\n")])


def test_unclosed_tags_take_linear_time():
    """With a search that restarts at each tag, each of these took minutes."""
    for tag in (
        "<command-args>",
        "<command-name>",
        "<system-reminder>",
        "</system-reminder>",
        "\n \t",
        "<ide_a",
    ):
        for start in ("<command-name>x</command-name>", "<system-reminder>", ""):
            read([json.dumps(message("user", {"type": "text", "text": start + tag * 60_000})).encode()])


CUT = {"type": "system", "subtype": "compact_boundary", "sessionId": "s", "isSidechain": True}


@pytest.mark.parametrize(
    "made",
    [
        lambda number: CUT | {"agentId": f"a{number}"},
        lambda number: message("user", parentUuid=f"p{number}", isSidechain=True),
        lambda number: message("assistant", {"type": "tool_use", "id": f"t{number}", "name": "x" * 50}),
        lambda number: codex("session_meta", id=f"{number}", forked_from_id=f"{number}f"),
        lambda number: codex("response_item", type="function_call", name="x", call_id=f"c{number}"),
        lambda number: codex("event_msg", type="agent_message", message=f"{number}"),
        lambda number: {
            "sid": f"s{number}",
            "role": "user",
            "type": "text",
            "text": "x",
            "parent": f"p{number}",
        },
        lambda number: {"type": "user_message", "meta": {"session": f"s{number}"}, "text": f"{number}"},
    ],
    ids=("cuts", "sidechains", "tools", "threads", "calls", "events", "rows", "traces"),
)
def test_the_size_of_a_place_is_bounded(made):
    """The state of a parser is part of every cursor."""
    parser = AutoParser("s.jsonl", SourceReport(say=lambda message: None), Seen())
    for number in range(8_000):
        parser.feed(json.dumps(made(number)).encode())
    assert len(json.dumps(parser.state_dict())) < 50_000


def test_the_segments_of_the_latest_subagents_are_counted():
    parser = AutoParser("s.jsonl", SourceReport(), Seen())
    for number in range(2_000):
        parser.feed(json.dumps(CUT | {"agentId": f"a{number}"}).encode())
    said = message("user", {"type": "text", "text": "hello"}, agentId="a1999")
    [trace] = parser.feed(json.dumps(said).encode())
    assert trace.meta.segment == 1


@pytest.mark.parametrize(
    "unit", ["sk-ant-", "eyJ-", "eyJghp_", "password=", "password=://a:", "a@", "/home/"]
)
def test_a_text_of_only_secret_prefixes_takes_linear_time(unit):
    """Checking each prefix up to the end of the text would take minutes for 256 kB of the first of these."""
    scanner = Scanner(vendor_rules())
    start = time.process_time()
    scanner.hits(unit * (2**18 // len(unit)))
    assert time.process_time() - start < 20


def test_a_secret_among_other_prefixes_is_found():
    secret = "sk-ant-api03-" + "".join(random.Random(0).choices("abcdefghijkABCDEFGHIJK0123456789", k=95))
    text = "sk-ant- " * 1000 + secret + " sk-ant-" * 1000
    assert [text[hit.start : hit.end] for hit in Scanner(vendor_rules()).hits(text)] == [secret]

"""What `opencode export` prints is read like the database: same traces, same tokens, each message once."""

import json

import pytest

from sttx_ccsniff import holds_sessions, open_source
from sttx_ccsniff.opencode import export
from sttx_ccsniff.opencode.export import ExportParser, begins
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.checks import check_source
from sttx_core.traces import AssistantMessage, ToolResult, ToolUse, UserMessage, trace_type

TOKENS = {"input": 5, "output": 2, "reasoning": 1, "cache": {"read": 4, "write": 3}}


def message(number, role, *parts, **info):
    made = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    times = {"created": 1_770_022_800_000 + number, "completed": 1_770_022_900_000}
    return {"info": {"id": f"msg_{number}", "role": role, "time": times, **info}, "parts": made}


def tool(call):
    state = {"status": "completed", "input": {"command": "ls"}, "output": 'a "quoted" } ] {', "metadata": {}}
    return {"type": "tool", "callID": call, "tool": "bash", "state": state}


def document(name="ses_1", messages=None, **info):
    made = [
        message(1, "user", "How many trees?"),
        message(2, "assistant", "I count.", tool("c1"), {"type": "step-finish"}, modelID="m", tokens=TOKENS),
        message(3, "assistant", modelID="m", tokens=TOKENS),
        message(4, "user", {"type": "compaction"}),
        message(5, "assistant", "Twelve.", modelID="m", tokens=TOKENS),
    ]
    head = {"id": name, "directory": "/home/ada/orchard", "time": {"created": 1_770_022_800_000}, **info}
    return {"info": head, "messages": made if messages is None else messages}


SPELLINGS = {
    "pretty": lambda one: json.dumps(one, indent=2),
    "tabs": lambda one: json.dumps(one, indent="\t"),
    "compact": lambda one: json.dumps(one, separators=(",", ":")),
    "without line end": lambda one: json.dumps(one, indent=2).rstrip(),
    "after text": lambda one: f"Exporting session: ses_1\n{json.dumps(one, indent=2)}\n",
    "windows": lambda one: "\ufeff" + json.dumps(one, indent=2).replace("\n", "\r\n"),
    "odd": lambda one: (
        json.dumps(one, indent=2).replace('"messages": [\n', '"messages":\n[').replace("},\n", "}\n,")
    ),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_an_export_in_any_layout(tmp_path, spelling, name):
    path = tmp_path / name
    path.write_bytes(SPELLINGS[spelling](document()).encode())
    for spec in (path, tmp_path):
        with open_source(spec, say=lambda message: None) as source:
            traces = list(source)
        report = source.report
        assert [type(trace) for trace in traces] == [
            *(UserMessage, AssistantMessage, ToolUse, ToolResult),
            AssistantMessage,
        ]
        assert traces[3].output == 'a "quoted" } ] {'
        assert [trace.meta.segment for trace in traces] == [0, 0, 0, 0, 1]
        assert {(trace.meta.session, trace.meta.project) for trace in traces} == {("ses_1", "orchard")}
        assert traces[0].meta.time == 1_770_022_800.001
        assert report.usage["m"] == {
            "input_tokens": 15,
            "output_tokens": 9,
            "cache_creation_input_tokens": 9,
            "cache_read_input_tokens": 12,
        }
        assert report.skipped["message without parts"] == 1 and not report.malformed
        assert report.records == 5 + 6 and report.formats == {"opencode-export": 1}
    assert holds_sessions(path)


def test_an_export_can_be_resumed_after_any_trace(tmp_path):
    for layout in ("pretty", "compact", "after text"):
        path = tmp_path / f"{layout}.json"
        path.write_text(SPELLINGS[layout](document()))
        check_source(lambda cursor, path=path: open_source(path, cursor=cursor, say=lambda message: None))


def test_several_exports_in_one_file_and_a_sub_agent(tmp_path):
    path = tmp_path / "all.json"
    child = document("ses_2", [message(9, "user", "Look.")], parentID="ses_1")
    path.write_text("\n".join(json.dumps(one, indent=2) for one in (document(), child, document())))
    with open_source(path) as source:
        traces = list(source)
    assert len(traces) == 6 and source.report.skipped["copied message"] == 4
    assert (traces[-1].meta.session, traces[-1].meta.subagent, traces[-1].meta.parent) == (
        "ses_1",
        "ses_2",
        "ses_1",
    )


def test_a_cut_export_loses_only_what_is_cut(tmp_path):
    text = json.dumps(document(), indent=2)
    for end in range(0, len(text), 61):
        path = tmp_path / "cut.json"
        path.write_text(text[:end])
        with open_source(path, say=lambda message: None) as source:
            whole = text[:end].count('"completed"')
            assert len({trace.meta.uid.partition("#")[0] for trace in source}) <= whole
        if begins(text[:end].encode()):
            assert source.report.malformed["cut short"] >= 1


@pytest.mark.parametrize(
    "damaged",
    [
        {"info": None, "messages": [None, 1, "x", [], {}, {"info": 1, "parts": 2}]},
        {"info": {"id": 1, "directory": [], "parentID": {}}, "messages": {"a": 1}, "todos": [1, [2, {}]]},
        {"messages": [message(1, "user", None, 1, {"type": None})], "info": {"id": "ses_1"}},
        {"messages": [[[{"info": {}}]]], "info": "messages"},
    ],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_wrong_types_break_nothing(damaged, indent):
    report = SourceReport(say=lambda message: None)
    parser = ExportParser("a.json", report, Seen())
    traces = []
    for line in json.dumps(damaged, indent=indent).encode().split(b"\n"):
        traces += parser.feed(line)
    traces += parser.finish(b"")
    assert all(trace_type(trace) for trace in traces)
    assert not parser.undecided


def test_memory_is_bounded_by_a_message(monkeypatch):
    monkeypatch.setattr(export, "MOST_BYTES", 300)
    report = SourceReport()
    parser = ExportParser("a.json", report, Seen())
    long = [message(1, "user", *["x" * 50] * 20), message(2, "user", "short")]
    lines = json.dumps(document(messages=long), indent=2).encode().split(b"\n")
    traces = [trace for line in lines for trace in parser.feed(line)]
    assert [trace.text for trace in traces] == ["short"]
    assert report.malformed == {"message over 300 bytes": 1}


def test_a_cut_string_takes_linear_time():
    parser = ExportParser("a.json", SourceReport(), Seen())
    cut = b'{"a": "' + b'\\"' * 300_000
    for line in (b"{", b'"info": {}, "messages": [', cut, b'"' + b"\\"):
        assert parser.feed(line) == []
    assert parser.undecided


@pytest.mark.parametrize("text", ["{}", '{"name": "x", "info": {}}', '{"a": {"info": {}}}', "[]", ""])
def test_other_json_is_no_export(tmp_path, text):
    (tmp_path / "package.json").write_text(text)
    assert not begins(text.encode()) and not holds_sessions(tmp_path / "package.json")


def test_a_state_of_something_else_is_refused():
    with pytest.raises(ValueError, match="not a state"):
        ExportParser("a", SourceReport(), Seen()).load_state_dict([{}, 0, 3])

"""Records in a JSON array, and records over several lines, are read as if each were on a line of its own."""

import json

import pytest

from sttx_ccsniff import open_source
from sttx_ccsniff.follow.folders import is_session_file
from sttx_ccsniff.parse import records
from sttx_ccsniff.read import documents
from sttx_ccsniff.read.documents import Documents
from sttx_ccsniff.read.formats import AutoParser
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.checks import check_source

INIT = {
    "type": "system",
    "subtype": "init",
    "apiKeySource": "none",
    "cwd": "/home/ada/orchard",
    "session_id": "run-1",
    "tools": ["Bash"],
    "mcp_servers": [],
}
RESULT = {"type": "result", "subtype": "success", "result": "Two.", "session_id": "run-1", "usage": {}}


def said(kind, uuid, *blocks):
    message = {"role": kind, "content": list(blocks)}
    return {"type": kind, "uuid": uuid, "session_id": "run-1", "message": message}


RUN = [
    INIT,
    said(
        "assistant", "u1", {"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": 'ls "a]" {'}}
    ),
    said("user", "u2", {"type": "tool_result", "tool_use_id": "t", "content": '[{"a":\n1}]'}),
    said("assistant", "u3", {"type": "text", "text": "Two."}),
    RESULT,
]
CODEX = [
    {"timestamp": "2026-02-02T09:00:00Z", "type": "session_meta", "payload": {"id": "t1"}},
    {
        "timestamp": "2026-02-02T09:00:01Z",
        "type": "response_item",
        "payload": {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Hi"}],
        },
    },
]
SPELLINGS = {
    "lines": lambda records: "\n".join(map(json.dumps, records)) + "\n",
    "an array": json.dumps,
    "an array and a line end": lambda records: json.dumps(records) + "\n",
    "an indented array": lambda records: json.dumps(records, indent=2),
    "a sorted array": lambda records: "\ufeff" + json.dumps(records, indent="\t", sort_keys=True) + "\r\n",
    "an array of lines": lambda records: "[\n" + ",\n".join(map(json.dumps, records)) + "\n]\n",
    "indented records": lambda records: "\n".join(json.dumps(record, indent=4) for record in records),
    "two arrays": lambda records: json.dumps(records[:1]) + "\n" + json.dumps(records[1:]) + "\n",
    "lines, then an array": lambda records: (
        "\n".join(map(json.dumps, records[:1])) + "\n" + json.dumps(records[1:])
    ),
}
FORMATS = {
    "claude-code": RUN,
    "codex": CODEX,
    "pairs": [{"prompt": "2+2?", "completion": "4"}] * 3,
    "not-read": [{"type": "session", "id": "a", "cwd": "/"}] * 3,
}


def read(path):
    warnings = []
    with open_source(path, say=warnings.append) as source:
        traces = list(source)
    return traces, source.report, warnings


@pytest.mark.parametrize(("name", "records"), FORMATS.items())
@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_every_spelling_of_a_file_is_read_alike(tmp_path, spelling, name, records):
    path = tmp_path / "run.json"
    path.write_text(SPELLINGS["lines"](records))
    expected, plain, _ = read(path)
    path.write_text(spelling(records))
    traces, report, _ = read(path)
    assert traces == expected and report.records == plain.records == len(records)
    assert report.formats == {name: 1} and report.skipped == plain.skipped and not report.malformed


def test_text_before_an_array_is_counted(tmp_path):
    (tmp_path / "log.txt").write_text("npm warn old\n\n" + json.dumps(RUN, indent=1) + "\n")
    traces, report, _ = read(tmp_path / "log.txt")
    assert len(traces) == 3 and report.malformed == {"not JSON": 1}


@pytest.mark.parametrize("line", [json.dumps(RESULT), json.dumps(RESULT, indent=2), json.dumps([RESULT])])
def test_a_result_alone_is_refused_by_name(tmp_path, line):
    (tmp_path / "result.json").write_text(line)
    traces, report, [warning] = read(tmp_path / "result.json")
    assert traces == [] and report.skipped == {"result of `claude -p` alone": 1}
    assert "holds only the result of `claude -p`" in warning and "stream-json" in warning


OTHERS = {
    "ids": [1, 2, 3],
    "texts": ["a", "b"],
    "rows of ids": [[1, 2], [3]],
    "nothing": [],
    "empty objects": [{}, {}],
    "a package": {"name": "orchard", "version": "1.0.0", "files": ["a"]},
}


@pytest.mark.parametrize("value", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("indent", [None, 2])
def test_other_documents_are_refused_by_name(tmp_path, value, indent):
    (tmp_path / "x.json").write_text(json.dumps(value, indent=indent))
    traces, report, [warning] = read(tmp_path / "x.json")
    assert traces == [] and warning.endswith("x.json' has no record of a known kind")
    assert report.formats == {"unknown": 1}


CHATS = {
    "chat messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}],
    "chats": [{"messages": [{"role": "user", "content": "Hi"}]}],
    "a chat": {"messages": [{"role": "user", "content": "Hi"}]},
    "a conversation": {"id": "1", "conversations": [{"from": "human", "value": "Hi"}]},
}


@pytest.mark.parametrize("value", CHATS.values(), ids=CHATS)
@pytest.mark.parametrize("indent", [None, 2])
def test_chats_are_refused_by_name(tmp_path, value, indent):
    (tmp_path / "x.json").write_text(json.dumps(value, indent=indent))
    traces, report, [warning] = read(tmp_path / "x.json")
    assert (
        traces == []
        and "x.json' holds chat messages, and that is not read: they are not an agent's" in warning
    )
    assert report.formats == {"not-read": 1} and set(report.skipped) == {"chat messages"}


def test_values_between_the_records_are_counted(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps([RUN[1], 5, "x", [1], RUN[2], None]))
    traces, report, _ = read(tmp_path / "x.json")
    assert len(traces) == 2 and report.malformed == {"not an object": 3}


def test_a_cut_record_costs_no_others(tmp_path):
    cut = json.dumps(RUN[1], indent=2)[:150]
    (tmp_path / "x.jsonl").write_text(cut + "\n" + SPELLINGS["lines"](RUN))
    traces, report, _ = read(tmp_path / "x.jsonl")
    assert len(traces) == 3 and report.malformed == {"cut short": 1}
    (tmp_path / "y.json").write_text(json.dumps(RUN, indent=2)[:-300])
    traces, report, _ = read(tmp_path / "y.json")
    assert len(traces) == 2 and report.malformed == {"cut short": 1}


def test_a_record_without_end_takes_bounded_memory(monkeypatch):
    monkeypatch.setattr(documents, "MOST_BYTES", 1000)
    report = SourceReport()
    joined = Documents(report)
    assert [joined.feed(line) for line in (b'[{"a": [', *[b"1," * 100] * 9, b"2]},", b'{"b": 3}]')][-1] == [
        b'{"b": 3}'
    ]
    assert report.malformed == {"record over 1000 bytes": 1}


@pytest.mark.parametrize("spelling", list(SPELLINGS)[1:])
def test_reading_resumes_in_the_middle(tmp_path, spelling):
    path = tmp_path / "run.json"
    path.write_text(SPELLINGS[spelling](RUN))
    check_source(lambda cursor: open_source(path, cursor=cursor, say=lambda message: None))


def test_only_a_place_between_records_is_saved():
    parser = AutoParser("run.json", SourceReport(), Seen())
    settled = []
    for line in json.dumps(RUN, indent=2).encode().split(b"\n"):
        parser.feed(line)
        settled.append(parser.settled)
        if parser.settled:
            AutoParser("run.json", SourceReport(), Seen()).load_state_dict(
                json.loads(json.dumps(parser.state_dict()))
            )
    assert settled.count(True) == len(RUN) + 1


def test_such_files_are_found_in_a_folder(tmp_path):
    for name, value in {"run": RUN, **OTHERS, "result": RESULT}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(value, indent=1))
    blocks = [{"type": "text", "text": '[{"session_id": "s"}]'}]
    (tmp_path / "blocks.json").write_text(json.dumps(blocks))
    assert [path.stem for path in sorted(tmp_path.iterdir()) if is_session_file(path)] == ["run"]


def test_an_early_init_of_claude_code_is_not_that_of_cursor(tmp_path):
    (tmp_path / "run.jsonl").write_text(SPELLINGS["lines"](RUN))
    assert read(tmp_path / "run.jsonl")[1].formats == {"claude-code": 1}


def test_an_array_of_too_many_values_is_dropped(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "MOST_VALUES", 100)
    (tmp_path / "x.json").write_text("[" + "{}," * 400_000 + "{}]\n" + SPELLINGS["lines"](RUN))
    traces, report, _ = read(tmp_path / "x.json")
    assert len(traces) == 3 and report.malformed == {"too many values": 1}

"""The output of `codex exec --json`: calls when their item starts, results when it completes."""

import json
import os
from collections import Counter

import pytest

from sttx_ccsniff import open_source
from sttx_ccsniff.claude_code import kinds
from sttx_ccsniff.codex import exec_events, parser
from sttx_ccsniff.codex.exec_events import ExecParser
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.checks import check_source
from sttx_core.traces import AssistantMessage, Other, Thinking, ToolResult, ToolUse


def item(event, number, kind, **fields):
    return {"type": f"item.{event}", "item": {"id": f"item_{number}", "type": kind, **fields}}


def command(event, number, **fields):
    made = {"command": "bash -lc ls", "aggregated_output": "", "exit_code": None, "status": "in_progress"}
    return item(event, number, "command_execution", **made | fields)


def run(thread="t1", tokens=100):
    return [
        {"type": "thread.started", "thread_id": thread},
        {"type": "turn.started"},
        item("completed", 0, "reasoning", text="**Looking**"),
        command("started", 1),
        command("completed", 1, aggregated_output="no\n", exit_code=2, status="failed"),
        item(
            "started",
            2,
            "mcp_tool_call",
            server="docs",
            tool="find",
            arguments={"q": "x"},
            status="in_progress",
        ),
        item(
            "completed",
            2,
            "mcp_tool_call",
            server="docs",
            tool="find",
            arguments={"q": "x"},
            result={"content": [{"type": "text", "text": "found"}], "structured_content": None},
            error=None,
            status="completed",
        ),
        item("completed", 3, "file_change", changes=[{"path": "a.py", "kind": "add"}], status="completed"),
        item("started", 4, "todo_list", items=[{"text": "look", "completed": False}]),
        item("updated", 4, "todo_list", items=[{"text": "look", "completed": True}]),
        item("completed", 4, "todo_list", items=[{"text": "look", "completed": True}]),
        item("completed", 5, "web_search", query="trees", action={"type": "search"}),
        item("completed", 6, "error", message="slow"),
        item("completed", 7, "agent_message", text="Done."),
        item("completed", 8, "hologram", shape="round"),
        command("started", 9),
        {
            "type": "turn.completed",
            "usage": {"input_tokens": tokens, "cached_input_tokens": 40, "output_tokens": 9},
        },
    ]


def read(path):
    with open_source(path, say=lambda message: None) as source:
        return list(source), source.report


def test_the_traces_of_a_run(session_file):
    traces, report = read(session_file("out.jsonl", *run()))
    assert [(type(trace), getattr(trace, "name", "")) for trace in traces] == [
        (Thinking, ""),
        *((ToolUse, "command_execution"), (ToolResult, "command_execution")),
        *((ToolUse, "mcp__docs__find"), (ToolResult, "mcp__docs__find")),
        *((ToolUse, "file_change"), (ToolResult, "file_change")),
        *((ToolUse, "update_plan"), (ToolUse, "update_plan"), (ToolUse, "web_search")),
        (AssistantMessage, ""),
        (Other, ""),
        (ToolUse, "command_execution"),
    ]
    assert traces[1].input == {"command": "bash -lc ls"} and traces[1].id == traces[2].id
    assert traces[2].output == "no\n" and traces[2].is_error
    assert traces[3].input == {"q": "x"} and traces[4].output == "found" and not traces[4].is_error
    assert traces[6].output == "completed"
    assert {trace.meta.session for trace in traces} == {"t1"}
    assert len({trace.meta.uid for trace in traces}) == len(traces)
    assert report.formats == {"codex-exec": 1} and report.records == len(run())
    assert list(report.usage.values()) == [
        {
            "input_tokens": 60,
            "output_tokens": 9,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 40,
        }
    ]


def test_a_continued_thread_and_another_one_in_the_same_file(session_file):
    path = session_file("out.jsonl", *run(), *run(tokens=250), *run("t2"))
    traces, report = read(path)
    assert Counter(trace.meta.session for trace in traces) == {"t1": 26, "t2": 13}
    calls = [trace.id for trace in traces if isinstance(trace, ToolUse) and trace.name == "command_execution"]
    assert len(set(calls)) == len(calls) == 6
    assert report.usage_by_speaker["t1", ""]["input_tokens"] == 60 + 150
    check_source(lambda cursor: open_source(path, cursor=cursor))


def test_a_copy_of_the_output_is_read_once(session_file):
    session_file("a.jsonl", *run())
    traces, report = read(session_file("b.jsonl", *run()).parent)
    assert len(traces) == 13 and report.skipped["duplicate record"] == 14


def test_resuming_after_any_line_changes_nothing(read_with_handover):
    whole = ExecParser("x.jsonl", SourceReport(), Seen())
    lines = [json.dumps(line).encode() for line in run()]
    traces = read_with_handover(ExecParser, "x.jsonl", lines)
    assert traces == [trace for line in lines for trace in whole.feed(line)]


def test_wrong_types_in_any_field_break_nothing():
    for record in run():
        for holder in (record, record.get("item", {})):
            for key in list(holder):
                for odd in (None, 1, "x", [], {}, [[1]], {"a": None}):
                    changed = {**record, "item": {**record["item"]}} if "item" in record else dict(record)
                    (changed if holder is record else changed["item"])[key] = odd
                    report = SourceReport(say=lambda message: None)
                    reader = ExecParser("x.jsonl", report, Seen())
                    traces = reader.feed(json.dumps(changed).encode())
                    assert traces or report.skipped


@pytest.mark.parametrize("record", run())
def test_not_confused_with_other_formats(record):
    assert exec_events.recognizes(record)
    assert not parser.recognizes(record) and not kinds.recognizes(record)


def test_other_records_are_not_recognized(record):
    assert not exec_events.recognizes(record(content="Hi"))
    assert not exec_events.recognizes({"type": "turn.started", "payload": {}})
    assert not exec_events.recognizes({"type": "item.completed", "item": "x"})


def rollout(thread):
    text = [{"type": "output_text", "text": "Done."}]
    items = [
        ("session_meta", {"id": thread}),
        ("response_item", {"type": "message", "role": "assistant", "content": text}),
    ]
    return [{"timestamp": "2026-02-02T09:00:00Z", "type": kind, "payload": item} for kind, item in items]


@pytest.mark.parametrize("name", ["0.jsonl", "z.jsonl"])
@pytest.mark.parametrize("mtime", [1, 4_000_000_000])
def test_a_run_whose_rollout_is_there_is_read_once(session_file, name, mtime):
    path = session_file(name, *run("t1"), *run("t2"), *run("t1"))
    os.utime(path, (mtime, mtime))
    session_file("sessions/rollout-2026-02-02T09-00-00-t1.jsonl", *rollout("t1"))
    session_file("other.jsonl", *rollout("t3"))
    with open_source(path.parent) as source:
        origins = Counter((trace.meta.session, trace.meta.origin == str(path)) for trace in source)
    alone = len(list(open_source(session_file("alone/run.jsonl", *run("t2")))))
    assert origins == {("t1", False): 1, ("t3", False): 1, ("t2", True): alone}
    assert source.report.skipped["event of a run whose rollout was read"] == 2 * (len(run()) - 1)

"""Records that other programs write around Claude Code: keys in snake case, several sessions in one file."""

import pytest

from sttx_ccsniff import open_source
from sttx_ccsniff.claude_code.spelling import in_one_spelling
from sttx_core.traces import ToolResult, UserMessage

SNAKE = {"session": "session_id", "parent": "parent_tool_use_id"}
CAMEL = {"session": "sessionId", "parent": "parentToolUseId"}


def run(name, keys):
    """Return the records of one run: a call starts a sub-agent, which calls a tool and answers."""
    session, parent = keys["session"], keys["parent"]

    def record(number, kind, content, call=None):
        message = {"id": f"{name}-m{number}", "role": kind, "model": "x", "content": content}
        return {"type": kind, "message": message, session: name, parent: call, "uuid": f"{name}-{number}"}

    def use(call, tool):
        return [{"type": "tool_use", "id": f"{name}-{call}", "name": tool, "input": {"prompt": "look"}}]

    def result(call):
        return [{"type": "tool_result", "tool_use_id": f"{name}-{call}", "content": "done"}]

    return [
        {"type": "system", "subtype": "init", session: name, "cwd": f"/repo/{name}-app", "uuid": f"{name}-0"},
        record(1, "assistant", use("t1", "Task")),
        record(2, "user", [{"type": "text", "text": "look"}], f"{name}-t1"),
        record(3, "assistant", use("t2", "Read"), f"{name}-t1"),
        {"type": "stream_event", "event": {"type": "content_block_delta"}, session: name},
        {"type": "tool_progress", session: name, parent: f"{name}-t1"},
        {"type": "rate_limit_event", session: name, "uuid": f"{name}-4"},
        record(5, "user", result("t2"), f"{name}-t1"),
        record(6, "user", result("t1")),
        record(7, "assistant", "Done."),
        {"type": "result", "subtype": "success", "result": "Done.", session: name},
    ]


@pytest.mark.parametrize("keys", [SNAKE, CAMEL])
def test_runs_in_one_file_are_sessions_with_sub_agents(session_file, keys):
    path = session_file("log.jsonl", *run("a", keys), *run("b", keys))
    with open_source(path) as source:
        traces = list(source)
    assert source.report.sessions == {"a", "b"}
    assert source.report.subagents == {("a", "a-t1"), ("b", "b-t1")}
    assert source.report.traces["other"] == 0
    assert [trace.meta.subagent for trace in traces if isinstance(trace, UserMessage)] == ["a-t1", "b-t1"]
    results = [(trace.meta.subagent, trace.subagent) for trace in traces if isinstance(trace, ToolResult)]
    assert results == [("a-t1", ""), ("", "a-t1"), ("b-t1", ""), ("", "b-t1")]
    assert {trace.meta.project for trace in traces} == {"a-app", "b-app"}
    assert source.report.skipped["stream_event"] == source.report.skipped["rate_limit_event"] == 2


def test_a_compaction_cuts_its_own_session(session_file):
    def said(session, number):
        return {
            "type": "user",
            "session_id": session,
            "uuid": f"{session}{number}",
            "message": {"content": "Hi"},
        }

    boundary = {"type": "system", "subtype": "compact_boundary", "session_id": "a", "uuid": "c"}
    with open_source(session_file("log.jsonl", said("a", 1), boundary, said("a", 2), said("b", 1))) as source:
        assert [(trace.meta.session, trace.meta.segment) for trace in source] == [
            ("a", 0),
            ("a", 1),
            ("b", 0),
        ]


def test_the_time_of_an_audit_is_read(session_file):
    record = {"type": "user", "session_id": "s", "uuid": "1", "message": {"content": "Hi"}}
    path = session_file("audit.jsonl", record | {"_audit_timestamp": "2026-02-02T09:00:00.500Z"})
    with open_source(path) as source:
        assert [(trace.meta.session, trace.meta.time) for trace in source] == [("s", 1770022800.5)]


def test_text_that_the_program_adds_is_not_the_persons(session_file):
    record = {
        "type": "user",
        "session_id": "s",
        "uuid": "1",
        "message": {"content": "Hi"},
        "isSynthetic": True,
    }
    with open_source(session_file("audit.jsonl", record)) as source:
        assert list(source) == []
    assert source.report.skipped == {"meta message": 1}


def test_a_record_in_one_spelling_is_not_copied():
    record = {"sessionId": "s", "type": "user"}
    assert in_one_spelling(record) is record
    both = {"sessionId": "s", "session_id": "t", "parentToolUseID": "u", "parent_tool_use_id": None}
    assert in_one_spelling(both)["sessionId"] == "s"
    assert in_one_spelling(both)["parentToolUseId"] == "u"

"""Files beside the sessions, and sessions of other agents, are counted under their names; none is a trace."""

import json

import pytest

from sttx_ccsniff import open_source
from sttx_ccsniff.read.foreign import foreign_name
from sttx_ccsniff.read.formats import AutoParser
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen

OTHER_AGENTS = {
    "pi": [
        {"type": "session", "version": 3, "id": "a", "timestamp": "2026-02-02T09:00:00Z", "cwd": "/repo"},
        {"type": "message", "id": "b", "parentId": "a", "message": {"role": "user", "content": "Hi"}},
    ],
    "Factory Droid": [{"type": "session_start", "id": "a", "title": "t"}],
    "Gemini CLI": [
        {"sessionId": "a", "projectHash": "b", "startTime": "2026-02-02T09:00:00Z", "kind": "main"},
        {"id": "c", "timestamp": "2026-02-02T09:00:00Z", "type": "user", "content": [{"text": "Hi"}]},
    ],
    "Qwen Code": [
        {
            "uuid": "a",
            "sessionId": "b",
            "type": "user",
            "message": {"role": "user", "parts": [{"text": "Hi"}]},
        }
    ],
    "Cursor": [
        {"type": "system", "subtype": "init", "apiKeySource": "login", "session_id": "a", "cwd": "/repo"},
        {"type": "user", "message": {"role": "user", "content": "Hi"}, "session_id": "a"},
    ],
    "Copilot CLI": [{"type": "session.start", "data": {"sessionId": "a"}, "id": "b", "parentId": None}],
    "Goose": [{"working_dir": "/repo", "message_count": 2, "description": "d"}],
    "Aider": [{"event": "launched", "properties": {}, "user_id": "a", "time": 1}],
}
NO_SESSIONS = {
    "history.jsonl": {"display": "fix it", "pastedContents": {}, "timestamp": 1, "sessionId": "s"},
    "codex/history.jsonl": {"session_id": "s", "ts": 1, "text": "fix it"},
    "session_index.jsonl": {"id": "s", "thread_name": "Fix", "updated_at": "2026-02-02T09:00:00Z"},
    "prompt-history.jsonl": {"input": "fix it", "parts": []},
    "s/subagents/workflows/w/journal.jsonl": {"type": "result", "key": "k", "agentId": "a", "result": "x"},
    "transcripts/ses_1.jsonl": {"type": "user", "timestamp": "2026-02-02T09:00:00Z", "content": "fix it"},
}


@pytest.mark.parametrize(("agent", "records"), OTHER_AGENTS.items())
def test_sessions_of_another_agent_are_said_not_to_be_read(session_file, agent, records):
    said = []
    path = session_file("a.jsonl", *records)
    with open_source(path, say=said.append) as source:
        assert list(source) == []
    assert source.report.skipped == {f"session of {agent}": len(records)}
    assert len(said) == 1 and f"holds a session of {agent}, and sttx has no adapter for it" in said[0]


def test_one_warning_names_an_agent_once(session_file):
    said = []
    for name in "abc":
        path = session_file(f"{name}.jsonl", *OTHER_AGENTS["pi"])
    with open_source(path.parent, say=said.append) as source:
        assert list(source) == []
    assert len(said) == 1 and source.report.records == 6


def test_files_beside_the_sessions_are_counted_by_name(session_file, record):
    for name, line in NO_SESSIONS.items():
        path = session_file(f".claude/{name}", line, line)
    session_file(".claude/projects/-repo/s.jsonl", record(content="Hi"))
    folder = next(parent for parent in path.parents if parent.name == ".claude")
    said = []
    with open_source(folder, say=said.append) as source:
        assert [trace.text for trace in source] == ["Hi"]
    report = source.report
    assert report.sessions == {"s"} and not report.subagents and not said
    assert set(report.skipped.values()) == {2} and len(report.skipped) == len(NO_SESSIONS)
    assert {name.partition(":")[0] for name in report.skipped} == {
        *("history.jsonl", "session_index.jsonl", "prompt-history.jsonl", "journal.jsonl", "transcripts")
    }


def test_sessions_under_such_names_are_read(session_file, record):
    for name in NO_SESSIONS:
        path = session_file(f"x/{name}", record(content=name))
    folder = next(parent for parent in path.parents if parent.name == "x")
    with open_source(folder) as source:
        assert {trace.text for trace in source} == set(NO_SESSIONS)


def test_unknown_records_beside_the_sessions_are_counted_by_name(session_file):
    said = []
    path = session_file("wf/journal.jsonl", {"type": "phase", "sessionId": "s"})
    session_file("history.jsonl", {"prompt": "fix it"})
    with open_source(path.parents[1], say=said.append) as source:
        assert list(source) == [] and not said
    assert source.report.skipped == {f"{name}: not known": 1 for name in ("journal.jsonl", "history.jsonl")}


@pytest.mark.parametrize("name", ["transcripts/talk.jsonl", "journal.jsonl/a.jsonl", "transcripts"])
def test_the_name_of_a_folder_hides_no_warning(session_file, name):
    said = []
    path = session_file(name, {"kind": "turn"})
    with open_source(path, say=said.append) as source:
        assert list(source) == []
    assert said == [f"{str(path)!r} has no record of a known kind"]


EVENTS = [
    {"type": "order.paid", "data": {}},
    {"type": "session.start", "data": {"sessionId": "a"}},
    {"type": "order.paid", "data": {}, "id": "a", "parentId": None},
    {"type": "user", "data": {}, "id": "a", "parentId": None},
    {"type": "user.message", "data": "Hi", "id": "a", "parentId": None},
]


@pytest.mark.parametrize("event", EVENTS)
def test_events_of_other_programs_are_not_those_of_copilot(event):
    assert foreign_name(event) == ("", False)


def test_a_part_of_a_session_of_copilot_is_recognized():
    start = {"type": "session.start", "data": {"sessionId": "a", "copilotVersion": "1"}}
    part = {"type": "tool.execution_start", "data": {}, "id": "b", "parentId": "a"}
    assert foreign_name(start) == foreign_name(part) == ("Copilot CLI", True)


def test_an_unknown_agent_with_sessions_is_not_claude_code(session_file, record):
    lines = [{"type": "chat", "sessionId": "s", "uuid": "u", "text": "Hi"}, {"type": "user", "uuid": "v"}]
    for more, name in (([], "unknown"), ([record(content="Hi")], "claude-code")):
        with open_source(session_file("a.jsonl", *lines, *more), say=lambda message: None) as source:
            assert len(list(source)) == 2 * len(more)
        assert source.report.formats == {name: 1}


def test_records_of_an_unknown_kind_are_no_traces(session_file):
    said = []
    path = session_file("a.jsonl", {"type": "event", "name": "x"}, {"level": "info"})
    with open_source(path, say=said.append) as source:
        assert list(source) == []
    assert source.report.skipped == {"record of an unknown kind": 2}
    assert source.report.formats == {"unknown": 1}
    assert said == [f"{str(path)!r} has no record of a known kind"]


def test_a_record_after_a_long_unknown_beginning_is_recognized(record):
    report = SourceReport()
    parser = AutoParser("s.jsonl", report, Seen())
    for _ in range(150):
        parser.feed(b'{"level": "info"}')
    state = json.loads(json.dumps(parser.state_dict()))
    for continued in (parser, AutoParser("t.jsonl", report, Seen())):
        if continued is not parser:
            continued.load_state_dict(state)
        [trace] = continued.feed(json.dumps(record(content="Hi")).encode())
        assert trace.text == "Hi" and continued.name == "claude-code"
    assert report.formats == {"claude-code": 2}


def test_claude_codes_own_records_are_not_foreign(record, sessions):
    lines = [json.dumps(record(content="Hi")).encode()]
    for path in sessions.rglob("*.jsonl"):
        lines += path.read_bytes().split(b"\n")
    for line in lines:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        assert foreign_name(value) == ("", False)


FORMS = {
    "output of `opencode run --format json`": [
        {"type": "step_start", "timestamp": 1, "sessionID": "ses_1", "part": {"type": "step-start"}},
        {"type": "tool_use", "timestamp": 2, "sessionID": "ses_1", "part": {"type": "tool", "tool": "bash"}},
    ],
    "output of an early `codex exec --json`": [
        {"model": "m", "workdir": "/home/ada/orchard"},
        {"prompt": "fix it"},
        {"id": "0", "msg": {"type": "agent_message", "message": "Done."}},
    ],
    "chat messages": [{"messages": [{"role": "user", "content": "Hi"}]}],
}


@pytest.mark.parametrize(("name", "records"), FORMS.items())
def test_forms_that_lack_too_much_are_refused_by_name(session_file, name, records):
    said = []
    path = session_file("run.jsonl", *records)
    with open_source(path, say=said.append) as source:
        assert list(source) == []
    assert source.report.skipped[name] and source.report.formats == {"not-read": 1}
    [warning] = said
    assert warning.startswith(f"{str(path)!r} holds {name}, and that is not read: ")

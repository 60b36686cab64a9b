"""OpenCode's database: the traces of its messages, each delivered once, with nothing written."""

import itertools
import json
import os
import random
import sqlite3
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sttx_ccsniff import Source, SourceReport, open_source
from sttx_ccsniff.feeds import Shared
from sttx_ccsniff.opencode.message import Message
from sttx_ccsniff.opencode.store import OpenCodeFeed, is_database, written
from sttx_core.checks import check_source
from sttx_core.errors import SourceError
from sttx_core.traces import AssistantMessage, Other, Thinking, ToolResult, ToolUse, UserMessage

SCHEMA = """
CREATE TABLE session (id text PRIMARY KEY, project_id text NOT NULL, parent_id text, slug text NOT NULL,
    directory text NOT NULL, title text NOT NULL, version text NOT NULL, time_created integer NOT NULL,
    time_updated integer NOT NULL);
CREATE TABLE message (id text PRIMARY KEY, session_id text NOT NULL, time_created integer NOT NULL,
    time_updated integer NOT NULL, data text NOT NULL);
CREATE TABLE part (id text PRIMARY KEY, message_id text NOT NULL, session_id text NOT NULL,
    time_created integer NOT NULL, time_updated integer NOT NULL, data text NOT NULL);
"""
LONG_AGO = 1_700_000_000_000
TOKENS = {"input": 5, "output": 2, "reasoning": 1, "cache": {"read": 4, "write": 3}}


class Store:
    """Writes a database as OpenCode does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.open = sqlite3.connect(path, isolation_level=None)
        self.open.execute("PRAGMA journal_mode = WAL")
        self.open.executescript(SCHEMA)
        self.clock = LONG_AGO
        self.ids = 0

    def name(self, kind: str) -> str:
        self.ids += 1
        self.clock += 1
        return f"{kind}_{self.ids:06}"

    def session(self, parent: str | None = None, directory: str = "/home/ada/orchard") -> str:
        name = self.name("ses")
        row = (name, "p", parent, "slug", directory, "title", "1.2.3", self.clock, self.clock)
        self.open.execute("INSERT INTO session VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        return name

    def message(self, session: str, info: Any, *parts: Any) -> str:
        name = self.name("msg")
        data = info if isinstance(info, (str, bytes)) else json.dumps(info)
        row = (name, session, self.clock, self.clock, data)
        self.open.execute("INSERT INTO message VALUES (?, ?, ?, ?, ?)", row)
        for part in parts:
            self.part(session, name, part)
        return name

    def part(self, session: str, message: str, part: Any) -> str:
        name = self.name("prt")
        data = part if isinstance(part, (str, bytes)) else json.dumps(part)
        row = (name, message, session, self.clock, self.clock, data)
        self.open.execute("INSERT INTO part VALUES (?, ?, ?, ?, ?, ?)", row)
        return name

    def user(self, session: str, *parts: Any) -> str:
        made = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
        return self.message(session, {"role": "user", "time": {"created": self.clock}}, *made)

    def agent(self, session: str, *parts: Any, done: bool = True, **info: Any) -> str:
        made = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
        times = {"created": self.clock, **({"completed": self.clock + 1} if done else {})}
        return self.message(
            session, {"role": "assistant", "modelID": "some-model", "time": times, **info}, *made
        )

    def change(self, name: str, data: Any) -> None:
        table = "message" if name.startswith("msg") else "part"
        self.open.execute(f"UPDATE {table} SET data = ? WHERE id = ?", (json.dumps(data), name))


def tool(call: str, status: str = "completed", **state: Any) -> dict[str, Any]:
    ended = {"output": "done"} if status == "completed" else {"error": "failed"} if status == "error" else {}
    times = {"start": LONG_AGO, "end": LONG_AGO + 500}
    state = {"status": status, "input": {"command": "ls"}, "metadata": {}, "time": times, **ended, **state}
    return {"type": "tool", "callID": call, "tool": "bash", "state": state}


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "opencode.db")
    yield made
    made.open.close()


def read(store: Store, cursor: Any = None) -> tuple[list[Any], SourceReport, Any]:
    with Source([OpenCodeFeed(store.path)], cursor=cursor, say=lambda message: None, redact=False) as source:
        traces = list(source)
        return traces, source.report, json.loads(json.dumps(source.cursor))


def brief(trace: Any) -> Any:
    match trace:
        case UserMessage(text=text):
            return f"user: {text}"
        case AssistantMessage(text=text):
            return f"agent: {text}"
        case Thinking(text=text):
            return f"thinks: {text}"
        case ToolUse():
            return (trace.name, trace.input, trace.id)
        case ToolResult():
            return (trace.name, trace.output, trace.id, trace.is_error)
        case Other():
            return trace.kind


def test_each_kind_of_part(store):
    session = store.session()
    picture = {"type": "file", "mime": "image/png", "filename": "a.png", "url": "data:image/png;base64,AAAA"}
    file = {"type": "file", "mime": "text/plain", "filename": "a.py", "url": "file:///home/ada/orchard/a.py"}
    synthetic = {"type": "text", "text": "Called the Read tool", "synthetic": True}
    store.user(
        session, "Count the trees in @a.py", synthetic, file, picture, {"type": "agent", "name": "plan"}
    )
    store.agent(
        session,
        {"type": "step-start", "snapshot": "abc"},
        {"type": "reasoning", "text": "hm", "time": {"start": LONG_AGO + 2000}},
        {"type": "reasoning", "text": ""},
        "Looking.",
        tool("call_1"),
        tool("call_2", "error", metadata={"output": "so far"}),
        tool("call_3", attachments=[picture]),
        {"type": "invented", "a": 1},
        {"type": "patch", "hash": "h", "files": []},
        {"type": "step-finish", "reason": "stop", "cost": 0, "tokens": TOKENS},
        tokens=TOKENS,
    )
    traces, report, _ = read(store)
    assert [brief(trace) for trace in traces] == [
        "user: Count the trees in @a.py\n[image image/png a.png 3 bytes]",
        "thinks: hm",
        "agent: Looking.",
        ("bash", {"command": "ls"}, "call_1"),
        ("bash", "done", "call_1", False),
        ("bash", {"command": "ls"}, "call_2"),
        ("bash", "failed\nso far", "call_2", True),
        ("bash", {"command": "ls"}, "call_3"),
        ("bash", "done\n[file image/png a.png 3 bytes]", "call_3", False),
        "part invented",
    ]
    kinds = ("file", "agent", "step-start", "patch", "step-finish")
    assert report.skipped == {f"part: {kind}": 1 for kind in kinds} | {
        "synthetic text": 1,
        "empty thinking": 1,
    }
    assert (report.formats, report.records) == ({"opencode": 1}, 17)
    assert report.usage["some-model"] == {
        "input_tokens": 5,
        "output_tokens": 3,
        "cache_creation_input_tokens": 3,
        "cache_read_input_tokens": 4,
    }
    assert len({trace.meta.uid for trace in traces}) == len(traces)
    assert {(trace.meta.project, trace.meta.session) for trace in traces} == {("orchard", session)}
    assert [traces[index].meta.time * 1000 for index in (1, 4)] == [LONG_AGO + 2000, LONG_AGO + 500]


def test_no_call_is_lost(store):
    session = store.session()
    store.user(session, "Go")
    states = ["completed", "error", "pending", "running", "invented"]
    store.agent(
        session,
        *(tool(f"c{n}", states[n % 5]) for n in range(50)),
        {"type": "tool"},
        {"type": "tool", "state": 1},
    )
    traces, report, _ = read(store)
    kinds = Counter(type(trace).__name__ for trace in traces)
    assert kinds == {"UserMessage": 1, "ToolUse": 52, "ToolResult": 20}
    assert report.noted["tool use without its result"] == 32


def test_a_subagent_is_separate_from_its_parent(store):
    root = store.session()
    store.user(root, "Ask them")
    store.agent(root, {**tool("t", metadata={"sessionId": "ses_x"}), "tool": "task"})
    child = store.session(root)
    store.user(child, "Count")
    store.agent(child, "two")
    grandchild = store.session(child)
    store.agent(grandchild, "three")
    lost = store.session("ses_gone")
    store.agent(lost, "four")
    traces, _, _ = read(store)
    who = {
        str(brief(trace)): (trace.meta.session, trace.meta.subagent, trace.meta.parent) for trace in traces
    }
    assert who["user: Ask them"] == (root, "", "")
    assert who["user: Count"] == who["agent: two"] == (root, child, root)
    assert who["agent: three"] == (root, grandchild, child)
    assert who["agent: four"] == ("ses_gone", lost, "ses_gone")
    assert next(trace for trace in traces if isinstance(trace, ToolResult)).subagent == "ses_x"


def test_cyclic_parents(store):
    one = store.session("ses_000002")
    two = store.session(one)
    store.agent(two, "hm")
    traces, _, _ = read(store)
    assert [brief(trace) for trace in traces] == ["agent: hm"]


def test_a_fork_delivers_only_new_items(store):
    first, fork = store.session(), store.session()
    talk = [
        ({"role": "user", "time": {"created": 1}}, [{"type": "text", "text": "go on"}]),
        (
            {"role": "assistant", "time": {"created": 2, "completed": 3}},
            [tool("c1"), {"type": "text", "text": "ok"}],
        ),
        ({"role": "user", "time": {"created": 4}}, [{"type": "text", "text": "go on"}]),
    ]
    for info, parts in talk:
        store.message(first, {**info, "tokens": TOKENS, "modelID": "m"}, *parts)
    for info, parts in talk[:2]:
        store.message(fork, {**info, "tokens": TOKENS, "modelID": "m"}, *parts)
    store.user(fork, "other way")
    traces, report, _ = read(store)
    assert [brief(trace) for trace in traces if isinstance(trace, UserMessage)] == [
        "user: go on",
        "user: go on",
        "user: other way",
    ]
    assert report.skipped["copied message"] == 2
    assert report.usage["m"]["input_tokens"] == 15


def test_a_compaction_starts_a_new_segment(store):
    session = store.session()
    store.user(session, "one")
    store.user(session, {"type": "compaction", "auto": True})
    store.agent(session, "They said one.", summary=True)
    store.user(session, {"type": "text", "text": "Continue", "synthetic": True})
    store.agent(session, "two")
    traces, report, cursor = read(store)
    assert [(brief(trace), trace.meta.segment) for trace in traces] == [("user: one", 0), ("agent: two", 1)]
    assert report.skipped["compaction summary"] == 1
    store.agent(session, "three")
    assert [trace.meta.segment for trace in read(store, cursor)[0]] == [1]


def test_errors_are_counted(store):
    session = store.session()
    store.agent(session, "half", done=False, error={"name": "MessageAbortedError", "data": {}})
    store.agent(session, done=False, error={"name": "APIError", "data": {}})
    traces, report, _ = read(store)
    assert [brief(trace) for trace in traces] == ["agent: half"]
    assert report.skipped == {"interruption": 1, "error: APIError": 1}


def test_a_later_run_delivers_exactly_the_new_messages(store):
    session, other = store.session(), store.session()
    store.user(session, "one")
    store.agent(session, "two")
    first, _, cursor = read(store)
    assert read(store, cursor)[0] == []
    store.agent(session, tool("c1"))
    store.user(other, "three")
    third = store.session()
    store.user(third, "four")
    more, _, cursor = read(store, cursor)
    assert [brief(trace) for trace in more] == [
        ("bash", {"command": "ls"}, "c1"),
        ("bash", "done", "c1", False),
        "user: three",
        "user: four",
    ]
    assert first + more == sorted(read(store)[0], key=lambda trace: trace not in first)
    assert read(store, cursor)[0] == []


def test_unfinished_messages_wait(store):
    store.clock = int(time.time() * 1000) - 60_000
    session = store.session()
    store.user(session, "go")
    running = store.agent(session, tool("c1", "running"), done=False)
    queued = store.user(session, "and then?")
    traces, report, cursor = read(store)
    assert [brief(trace) for trace in traces] == ["user: go"]
    assert report.noted["unfinished message left for a later run"] == 1
    store.open.execute("UPDATE part SET data = ? WHERE message_id = ?", (json.dumps(tool("c1")), running))
    store.change(running, {"role": "assistant", "time": {"created": 1, "completed": 2}})
    traces, _, cursor = read(store, cursor)
    assert [trace.meta.uid for trace in traces] == [running, f"{running}#1", queued]
    assert read(store, cursor)[0] == []


def test_a_prompt_that_is_being_written_waits(store):
    store.clock = int(time.time() * 1000)
    session = store.session()
    store.user(session, "half of")
    assert read(store)[0] == []
    store.agent(session, "yes", done=True)
    assert [brief(trace) for trace in read(store)[0]] == ["user: half of", "agent: yes"]


def test_messages_of_a_killed_process_do_not_wait_forever(store):
    session = store.session()
    store.agent(session, tool("c1", "running"), done=False)
    assert [type(trace) for trace in read(store)[0]] == [ToolUse]
    store.clock = int(time.time() * 1000) - 60_000
    session = store.session()
    store.agent(session, "half", done=False)
    assert [brief(trace) for trace in read(store)[0][1:]] == []
    store.agent(session, "whole")
    assert [brief(trace) for trace in read(store)[0][1:]] == ["agent: half", "agent: whole"]


def test_the_store_passes_the_source_check(store):
    for directory in ("/home/ada/orchard", "/home/ada/garden"):
        session = store.session(directory=directory)
        for number in range(5):
            store.user(session, f"{directory} {number}")
            store.agent(session, "yes", tool(f"{session} {number}"))
    check_source(lambda cursor: Source([OpenCodeFeed(store.path)], cursor=cursor))
    check_source(lambda cursor: Source([OpenCodeFeed(store.path)], cursor=cursor, capacity=1))


@pytest.mark.parametrize("seed", range(10))
def test_runs_interrupted_anywhere_deliver_each_trace_once(store, seed):
    rng = random.Random(seed)
    sessions, taken, cursor = [store.session()], [], None
    running: dict[str, tuple[str, int]] = {}
    for number in range(30):
        store.clock = int(time.time() * 1000) - 60_000 + number
        session = rng.choice(sessions)
        match rng.randrange(6):
            case 0:
                sessions.append(store.session(rng.choice([None, session])))
            case 1 if session not in running:
                running[session] = store.agent(session, done=False), number
            case 2 if session in running:
                name, created = running.pop(session)
                store.part(session, name, tool(f"call {created}"))
                store.change(
                    name, {"role": "assistant", "time": {"created": created, "completed": created + 1}}
                )
            case 3 if session not in running:
                store.agent(session, f"answer {number}", tool(f"call {number}"), "and more")
            case _:
                store.user(session, f"prompt {number}")
        with Source([OpenCodeFeed(store.path)], cursor=cursor, redact=False) as source:
            taken += itertools.islice(source, rng.randrange(6))
            cursor = json.loads(json.dumps(source.cursor))
    rest, _, _ = read(store, cursor)
    taken += rest
    whole, _, _ = read(store)
    assert len({trace.meta.uid for trace in taken}) == len(taken)
    for session in sessions:
        origin = f"{store.path}#{session}"
        assert [one for one in taken if one.meta.origin == origin] == [
            one for one in whole if one.meta.origin == origin
        ]


def test_the_store_is_never_written_to(store, tmp_path):
    store.user(store.session(), "one")
    store.open.close()
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()}
    assert len(read(store)[0]) == 1
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()} == before


def test_the_journal_is_read(store):
    store.user(store.session(), "one")
    assert os.path.getsize(f"{store.path}-wal")
    assert [brief(trace) for trace in read(store)[0]] == ["user: one"]


def test_the_journal_may_appear_during_reading(store):
    session = store.session()
    store.user(session, "one")
    store.open.close()
    batches = OpenCodeFeed(store.path).batches(Shared(report=SourceReport()))
    first = next(batches)
    store.open = sqlite3.connect(store.path, isolation_level=None)
    store.user(session, "two")
    rest = [trace for delivery in batches for trace in delivery.traces]
    assert [brief(trace) for trace in first.traces + rest] == ["user: one", "user: two"]


def test_nothing_is_locked_between_deliveries(store):
    session = store.session()
    for number in range(3):
        store.user(session, str(number))
    batches = OpenCodeFeed(store.path).batches(Shared(report=SourceReport()))
    next(batches)
    busy, _, _ = store.open.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert busy == 0
    assert len(list(batches)) == 2


def test_a_path_with_special_characters(tmp_path):
    folder = tmp_path / "a b?c#d%41"
    folder.mkdir()
    store = Store(folder / "opencode.db")
    store.user(store.session(), "one")
    store.open.close()
    assert [brief(trace) for trace in read(store)[0]] == ["user: one"]


def test_a_database_is_recognized_by_its_first_bytes(store, tmp_path):
    assert is_database(store.path)
    (tmp_path / "x.db").write_bytes(b"SQLite format 2")
    assert not is_database(tmp_path / "x.db")
    assert not is_database(tmp_path / "absent.db")


def test_written_returns_the_state_of_the_journal(store):
    before = written(store.path)
    store.session()
    assert written(store.path) > before
    store.open.close()
    assert written(store.path) == (0, 0)


def problem(path: Path) -> str:
    with pytest.raises(SourceError) as caught, Source([OpenCodeFeed(path)]) as source:
        list(source)
    report = SourceReport(say=lambda message: None)
    assert list(OpenCodeFeed(path, lenient=True).batches(Shared(report=report))) == []
    assert report.warnings == [str(caught.value)]
    assert report.malformed == {"unreadable database": 1}
    return str(caught.value)


def test_other_databases_are_refused_with_one_sentence(tmp_path):
    path = tmp_path / "x.db"
    assert problem(path) == f"cannot read {str(path)!r}: there is no such file or folder: check the path"
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 4096)
    assert "not a database" in problem(path)
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE notes (id text)")
    database.close()
    assert "not OpenCode's: it has no table 'session'" in problem(path)
    path.unlink()
    with sqlite3.connect(path) as database:
        database.executescript(SCHEMA.replace("data text NOT NULL", "content text NOT NULL"))
    database.close()
    assert "its table 'message' has no 'data'" in problem(path)


def test_a_locked_store_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr("sttx_ccsniff.opencode.store._BUSY_SECONDS", 0.05)
    path = tmp_path / "opencode.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.executescript(SCHEMA)
    other.execute("BEGIN EXCLUSIVE")
    assert "another program keeps it locked" in problem(path)
    other.close()


def test_the_readable_part_of_a_damaged_store_is_delivered(store):
    session = store.session()
    for number in range(400):
        store.user(session, f"{number} " + "x" * 2000)
    store.open.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.open.close()
    content = bytearray(store.path.read_bytes())
    content[len(content) // 2 :] = b"\xff" * (len(content) - len(content) // 2)
    store.path.write_bytes(content)
    report = SourceReport(say=lambda message: None)
    list(OpenCodeFeed(store.path, lenient=True).batches(Shared(report=report)))
    assert report.malformed["unreadable database"] == 1
    assert "malformed" in report.warnings[0]


def test_sessions_of_opencode_2_are_warned_about(store):
    one, two = store.session(), store.session()
    store.user(one, "one")
    store.open.execute("CREATE TABLE session_message (id text, session_id text, type text, data text)")
    store.open.executemany("INSERT INTO session_message VALUES ('m', ?, 'user', '{}')", [(one,), (two,)])
    traces, report, _ = read(store)
    assert len(traces) == 1
    assert len(report.warnings) == 1 and "1 session in the form of OpenCode 2" in report.warnings[0]


WRONG = [None, True, 0, -1, 1.5, 10**30, "", "x", [], [None], {}, {"a": 1}, [{"type": 1}], "\ud800"]


def variants(value: Any) -> list[Any]:
    """Return copies of a value, each with one inner value replaced by a wrong one or left out."""
    made = list(WRONG)
    if isinstance(value, dict):
        for key, inner in value.items():
            made += [{**value, key: one} for one in variants(inner)]
            made.append({other: kept for other, kept in value.items() if other != key})
    return made


def test_wrong_types_in_any_field_break_nothing(store):
    session = store.session()
    parts = [
        tool("c"),
        {"type": "file", "mime": "m", "url": "u"},
        {"type": "text", "text": "t", "synthetic": 1},
    ]
    infos = [
        {"role": "user", "time": {"created": 1}},
        {
            "role": "assistant",
            "time": {"completed": 2},
            "error": {"name": "n"},
            "tokens": TOKENS,
            "modelID": "m",
        },
    ]
    for info in infos:
        for wrong in variants(info):
            store.message(session, json.dumps(wrong), *parts)
        for part in parts:
            for wrong in variants(part):
                store.message(session, info, json.dumps(wrong))
    traces, report, _ = read(store)
    assert traces and report.malformed["not an object"]
    for trace in traces:
        for field in ("text", "name", "output", "id"):
            assert isinstance(getattr(trace, field, ""), str)


def test_unusual_rows_are_counted(store):
    session = store.session()
    store.message(session, "{not json", {"type": "text", "text": "lost"}, tool("c"))
    store.message(session, b"\xff\xfe")
    store.user(session, "{}")
    store.open.execute("UPDATE message SET time_created = 'x' WHERE id = 'msg_000002'")
    store.open.execute("INSERT INTO message VALUES (x'ff', ?, 1, 1, '{}')", (session,))
    traces, report, _ = read(store)
    assert [brief(trace) for trace in traces] == [
        "user: {}",
        ("bash", {"command": "ls"}, "c"),
        ("bash", "done", "c", False),
    ]
    assert report.skipped["text without a speaker"] == 1
    assert report.malformed.total() >= 2


def test_the_fingerprint_of_copies_is_the_same():
    info = {"role": "assistant", "time": {"created": 1}}
    one = Message("a", info, [tool("c1"), {"type": "text", "text": "x"}]).fingerprint()
    assert (
        one
        == Message("b", {**info, "parentID": "y"}, [tool("c1"), {"type": "text", "text": "x"}]).fingerprint()
    )
    assert one != Message("a", info, [tool("c2"), {"type": "text", "text": "x"}]).fingerprint()
    assert one != Message("a", {**info, "time": {"created": 2}}, [tool("c1")]).fingerprint()


def test_messages_without_parts_are_counted(store):
    session = store.session()
    store.user(session)
    store.agent(session, tokens=TOKENS)
    store.agent(session, error={"name": "MessageAbortedError"})
    store.user(session, "Hi")
    traces, report, _ = read(store)
    assert [brief(trace) for trace in traces] == ["user: Hi"]
    assert report.skipped == {"message without parts": 2, "interruption": 1}
    assert report.usage["some-model"]["output_tokens"] == 3


def test_the_databases_of_all_channels_are_read(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("OPENCODE_DB", raising=False)
    (tmp_path / "opencode").mkdir()
    for name in ("opencode.db", "opencode-dev.db"):
        made = Store(tmp_path / "opencode" / name)
        made.user(made.session(), name)
        made.open.close()
    with open_source("opencode", follow=False) as source:
        assert {trace.text for trace in source} == {"opencode.db", "opencode-dev.db"}
    assert source.report.formats == {"opencode": 2}

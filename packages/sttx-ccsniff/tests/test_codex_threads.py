"""Forks, sub-agents and copies of Codex rollouts: each item once, with its own session and sub-agent."""

import json
from pathlib import Path
from typing import Any

import pytest

from sttx_ccsniff.codex.parser import RolloutParser
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen


def meta(thread: str, **fields: Any) -> dict[str, Any]:
    return {"timestamp": "2026-01-02T03:04:05Z", "type": "session_meta", "payload": {"id": thread, **fields}}


def say(role: str, text: str, **more: Any) -> dict[str, Any]:
    content = [{"type": "input_text" if role == "user" else "output_text", "text": text}]
    payload = {"type": "message", "role": role, "content": content}
    return {"timestamp": "2026-01-02T03:04:06Z", "type": "response_item", "payload": payload, **more}


def call(name: str, **more: Any) -> list[dict[str, Any]]:
    use = {"type": "function_call", "name": "shell", "arguments": "{}", "call_id": name}
    result = {"type": "function_call_output", "call_id": name, "output": "done"}
    return [{"timestamp": "", "type": "response_item", "payload": one, **more} for one in (use, result)]


def spawned(parent: str, **more: Any) -> dict[str, Any]:
    return {"source": {"subagent": {"thread_spawn": {"parent_thread_id": parent, "depth": 1}}}, **more}


TOP = "/root"  # Codex's name for the session in messages to and from its sub-agents
PARENT = [
    meta("p"),
    say("user", "go on"),
    *call("c1"),
    say("assistant", "ok"),
    say("user", "go on"),
    *call("c2"),
]


class Reader:
    """Reads several rollouts with one shared memory, as a source does."""

    def __init__(self) -> None:
        self.report = SourceReport(say=lambda message: None)
        self.seen = Seen()

    def read(self, records: list[Any], origin: str = "/x/rollout.jsonl") -> list[Any]:
        parser = RolloutParser(origin, self.report, self.seen)
        traces = [trace for record in records for trace in parser.feed(json.dumps(record).encode())]
        return traces + parser.finish(b"")


def words(traces: list[Any]) -> list[str]:
    return [getattr(trace, "text", "") or trace.id for trace in traces]


@pytest.fixture
def reader() -> Reader:
    return Reader()


def test_a_fork_delivers_only_new_items(reader):
    assert words(reader.read(PARENT)) == ["go on", "c1", "c1", "ok", "go on", "c2", "c2"]
    fork = [meta("f", forked_from_id="p"), *PARENT[:5], say("user", "no, this way"), *call("c3")]
    traces = reader.read(fork)
    assert words(traces) == ["no, this way", "c3", "c3"]
    assert {trace.meta.session for trace in traces} == {"f"}
    assert reader.report.skipped["copied record"] == 4


def test_a_fork_of_a_fork(reader):
    reader.read(PARENT)
    fork = [meta("f", forked_from_id="p"), *PARENT, say("user", "again")]
    assert words(reader.read(fork)) == ["again"]
    assert words(reader.read([meta("g", forked_from_id="f"), *fork, say("user", "once more")])) == [
        "once more"
    ]


def test_text_repeated_after_the_copy_is_kept(reader):
    reader.read(PARENT)
    fork = [
        meta("f", forked_from_id="p"),
        *PARENT[1:],
        say("user", "other"),
        say("user", "go on"),
        *call("c4"),
    ]
    assert words(reader.read(fork)) == ["other", "go on", "c4", "c4"]


def test_a_fork_by_reference_copies_nothing(reader):
    reader.read(PARENT)
    base = {"thread_id": "p", "end_ordinal_exclusive": 5}
    fork = [meta("f", forked_from_id="p", history_base=base), say("user", "go on"), say("assistant", "ok")]
    assert words(reader.read(fork)) == ["go on", "ok"]


def test_the_same_rollout_in_two_files(reader):
    first = reader.read(PARENT, "/a/rollout.jsonl")
    assert len(first) == 7
    assert reader.read(PARENT, "/b/rollout.jsonl") == []
    assert reader.report.skipped["duplicate record"] == 7
    longer = [*PARENT, say("user", "more")]
    assert words(reader.read(longer, "/c/rollout.jsonl")) == ["more"]


def test_a_later_part_of_a_thread_in_a_separate_file(reader):
    first = [{**record, "ordinal": number} for number, record in enumerate(PARENT)]
    reader.read(first)
    second = [
        {**meta("p", history_base={"thread_id": "p"}), "ordinal": 8},
        say("user", "go on", ordinal=9),
        say("user", "go on", ordinal=10),
    ]
    traces = reader.read(second)
    assert words(traces) == ["go on", "go on"]
    assert [trace.meta.uid for trace in traces] == ["p:9", "p:10"]


def test_a_subagent_is_separate_from_its_parent(reader):
    parents = reader.read(PARENT)
    child = [meta("k", **spawned("p")), say("user", "count them"), *call("c5"), say("assistant", "two")]
    traces = reader.read(child)
    assert words(traces) == ["count them", "c5", "c5", "two"]
    assert {(trace.meta.session, trace.meta.subagent, trace.meta.parent) for trace in traces} == {
        ("p", "k", "p")
    }
    assert {trace.document for trace in traces} == {"p/k"}
    assert {(trace.meta.session, trace.meta.subagent, trace.meta.parent) for trace in parents} == {
        ("p", "", "")
    }


def test_two_subagents_with_the_same_task(reader):
    for name in ("k", "l"):
        child = [meta(name, **spawned("p")), say("user", "review it"), say("assistant", "fine")]
        assert words(reader.read(child)) == ["review it", "fine"]


def test_a_subagents_file_that_starts_with_its_parents_talk(reader):
    reader.read(PARENT)
    kept = [record for record in PARENT if record["payload"].get("type") == "message"]
    child = [meta("k", **spawned("p", forked_from_id="p")), *kept, say("user", "count them")]
    traces = reader.read(child)
    assert words(traces) == ["count them"]
    assert traces[0].meta.subagent == "k"


def test_a_subagents_file_that_gives_the_start_of_its_own_talk(reader):
    own = spawned("k", session_id="p", parent_thread_id="k", subagent_history_start_ordinal=4)
    copied = [say("user", "never seen", ordinal=2), say("assistant", "nor this", ordinal=3)]
    child = [{**meta("m", **own), "ordinal": 1}, *copied, say("user", "count them", ordinal=4)]
    traces = reader.read(child)
    assert words(traces) == ["count them"]
    assert reader.report.skipped["copied record"] == 2
    own_meta = traces[0].meta
    assert (own_meta.session, own_meta.subagent, own_meta.parent) == ("p", "m", "k")


@pytest.mark.parametrize(
    ("fields", "who"),
    [
        ({"source": {"subagent": "review"}}, ("t", "review", "")),
        ({"source": {"subagent": {"other": "x"}}}, ("t", "subagent", "")),
        ({"source": {"subagent": "review"}, "forked_from_id": "p"}, ("p", "t", "p")),
        ({"thread_source": "subagent", "parent_thread_id": "p"}, ("p", "t", "p")),
        ({"session_id": "s", "parent_thread_id": "p"}, ("s", "t", "p")),
        ({"source": "cli", "session_id": "t"}, ("t", "", "")),
        ({"session_id": "s"}, ("s", "t", "s")),
        ({"source": "exec", "forked_from_id": "p"}, ("t", "", "")),
    ],
)
def test_session_subagent_and_parent(reader, fields, who):
    (trace,) = reader.read([meta("t", **fields), say("user", "Hi")])
    assert (trace.meta.session, trace.meta.subagent, trace.meta.parent) == who


def mail(kind: str, author: str, recipient: str, text: str) -> dict[str, Any]:
    """Return a message between sub-agents in one of the three forms that Codex wrote."""
    head = f"Message Type: NEW_TASK\nTask name: {recipient}\nSender: {author}\nPayload:\n{text}"
    fields = {"author": author, "recipient": recipient, "content": head}
    if kind == "line":
        return {"type": "inter_agent_communication", "payload": fields}
    if kind == "spoken":
        return say("assistant", json.dumps(fields, separators=(",", ":")))
    content = [{"type": "input_text", "text": head}]
    return {"type": "response_item", "payload": {**fields, "type": "agent_message", "content": content}}


@pytest.mark.parametrize("kind", ["line", "spoken", "item"])
def test_a_subagents_task_is_its_prompt_and_other_messages_are_counted(reader, kind):
    child = [meta("k", **spawned("p")), mail(kind, TOP, f"{TOP}/k", "count them"), say("assistant", "two")]
    traces = reader.read([*child, mail(kind, f"{TOP}/k/m", f"{TOP}/k", "I am done")])
    assert words(traces) == ["count them", "two"]
    assert [type(trace).__name__ for trace in traces] == ["UserMessage", "AssistantMessage"]
    parent = [*PARENT, mail(kind, f"{TOP}/k", TOP, "two")]
    assert words(reader.read(parent)) == ["go on", "c1", "c1", "ok", "go on", "c2", "c2"]
    assert reader.report.skipped["message between agents"] == 2


def test_encrypted_messages_between_subagents_are_counted(reader):
    fields = {"type": "agent_message", "author": TOP, "recipient": f"{TOP}/k"}
    content = [{"type": "encrypted_content", "encrypted_content": "gAAA"}]
    item = {"type": "response_item", "payload": {**fields, "content": content}}
    assert reader.read([meta("k", **spawned("p")), item]) == []
    assert reader.report.skipped["encrypted message between agents"] == 1


def test_a_result_names_the_subagent_that_its_call_started(reader):
    use = {"type": "function_call", "name": "spawn_agent", "arguments": "{}", "call_id": "s"}
    result = {"type": "function_call_output", "call_id": "s", "output": '{"agent_id":"k","nickname":"Ada"}'}
    records = [{"type": "response_item", "payload": one} for one in (use, result)]
    _, answer = reader.read([meta("p"), *records])
    assert answer.subagent == "k"


def test_resuming_inside_the_copied_items(tmp_path: Path):
    fork = [meta("f", forked_from_id="p"), *PARENT[:5], say("user", "no, this way"), *call("c3")]
    lines = [json.dumps(record).encode() for record in fork]
    for cut in range(len(lines) + 1):
        reader = Reader()
        reader.read(PARENT)
        first = RolloutParser("/x/f.jsonl", reader.report, reader.seen)
        traces = [trace for line in lines[:cut] for trace in first.feed(line)]
        second = RolloutParser("/x/f.jsonl", reader.report, reader.seen)
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        traces += [trace for line in lines[cut:] for trace in second.feed(line)]
        assert words(traces) == ["no, this way", "c3", "c3"]

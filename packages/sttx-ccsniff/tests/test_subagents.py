"""The text of sub-agents and of their session stays separate, in every form that was written."""

import json
from collections import defaultdict

import pytest

from sttx_ccsniff import open_source
from sttx_ccsniff.claude_code.identity import Sidechains
from sttx_ccsniff.claude_code.parser import SessionParser
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen


def said(origin, records):
    parser = SessionParser(str(origin), SourceReport(), Seen())
    by_document = defaultdict(list)
    for one in records:
        for trace in parser.feed(json.dumps(one).encode()):
            by_document[trace.document].append(getattr(trace, "text", ""))
    return dict(by_document)


# Early versions: in the parent's file, without an id


def test_a_subagent_in_its_parents_file(record):
    task = {"type": "tool_use", "id": "t1", "name": "Task", "input": {"prompt": "Look"}}
    records = [
        record(content="mine"),
        record("assistant", [task], parentUuid="uuid-1"),
        record(content="Look", isSidechain=True, parentUuid=None),
        record("assistant", [{"type": "text", "text": "I look"}], isSidechain=True, parentUuid="uuid-3"),
        record("assistant", [{"type": "text", "text": "it looked"}], parentUuid="uuid-2"),
    ]
    assert said("/p/s.jsonl", records) == {
        "s": ["mine", "", "it looked"],
        "s/sidechain-uuid-3": ["Look", "I look"],
    }


def test_two_concurrent_subagents_are_separated_by_their_parents(record):
    records = [record(content=f"{name}0", isSidechain=True, parentUuid=None) for name in "AB"]
    for turn in range(1, 50):
        for name in "AB":
            records.append(record(content=f"{name}{turn}", isSidechain=True, parentUuid=records[-2]["uuid"]))
    assert said("/p/s.jsonl", records) == {
        "s/sidechain-uuid-1": [f"A{turn}" for turn in range(50)],
        "s/sidechain-uuid-2": [f"B{turn}" for turn in range(50)],
    }


def test_a_subagent_with_repeated_first_records_keeps_its_name(record):
    first = record(content="Look", isSidechain=True, parentUuid=None)
    second = record(content="more", isSidechain=True, parentUuid="uuid-1")
    seen = Seen()
    assert seen.first_time("uuid-1")
    parser = SessionParser("/p/s.jsonl", SourceReport(), seen)
    traces = [trace for one in (first, second) for trace in parser.feed(json.dumps(one).encode())]
    assert [trace.document for trace in traces] == ["s/sidechain-uuid-1"]


@pytest.mark.parametrize("uuid", [None, "", 5])
def test_a_record_without_a_uuid_belongs_to_the_latest_subagent(uuid):
    chains = Sidechains()
    assert chains.subagent_of({"uuid": uuid}) == "sidechain"
    assert chains.subagent_of({"uuid": "a", "parentUuid": None}) == "sidechain-a"
    assert chains.subagent_of({"uuid": uuid}) == "sidechain-a"
    assert chains.subagent_of({"uuid": "b", "parentUuid": "long forgotten"}) == "sidechain-a"


@pytest.mark.parametrize("state", [["a"], [["a"]], [["a", 1]], [[None, "b"]], [[]]])
def test_an_invalid_state_is_refused(state):
    with pytest.raises(ValueError, match="not a state"):
        Sidechains().load_state_dict(state)


def test_the_remembered_records_are_bounded():
    chains = Sidechains()
    for number in range(1000):
        chains.subagent_of({"uuid": str(number), "parentUuid": None})
    assert len(chains.state_dict()) == 32


# Later versions: in separate files


def write_family(record, session_file, agent_file):
    task = {"type": "tool_use", "id": "t1", "name": "Task", "input": {"prompt": "Look"}}
    answer = {"type": "tool_result", "tool_use_id": "t1", "content": "it answers"}
    session_file(
        "slug/s.jsonl",
        record(content="mine"),
        record("assistant", [task]),
        record(content=[answer], toolUseResult={"agentId": "a1", "prompt": "Look"}),
    )
    its = {"agentId": "a1", "isSidechain": True}
    return session_file(
        agent_file,
        record(content="Look", **its),
        record("assistant", [{"type": "text", "text": "I look"}], **its),
    )


@pytest.mark.parametrize("agent_file", ["slug/agent-a1.jsonl", "slug/s/subagents/agent-a1.jsonl"])
def test_a_subagent_in_a_separate_file(record, session_file, tmp_path, agent_file):
    write_family(record, session_file, agent_file)
    with open_source(tmp_path, follow=False) as source:
        traces = list(source)
    assert {(trace.document, getattr(trace, "text", "")) for trace in traces} == {
        *(("s", "mine"), ("s", ""), ("s/a1", "Look"), ("s/a1", "I look"))
    }
    assert {trace.meta.parent for trace in traces if trace.meta.subagent} == {"s"}
    [answer] = [trace for trace in traces if hasattr(trace, "output")]
    assert (answer.subagent, answer.id, answer.document) == ("a1", "t1", "s"), (
        "the result names the sub-agent that its call started"
    )

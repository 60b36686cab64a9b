"""Traces: the identity of documents, the names of types, and immutability."""

import dataclasses
import typing

import pytest

from sttx_core.traces import (
    AssistantMessage,
    Meta,
    Other,
    Pair,
    SessionEnd,
    Thinking,
    ToolResult,
    ToolUse,
    Trace,
    UserMessage,
    trace_type,
)

META = Meta(session="s")
ONE_OF_EACH = {
    "user_message": UserMessage(meta=META, text="u"),
    "assistant_message": AssistantMessage(meta=META, text="a"),
    "thinking": Thinking(meta=META, text="t"),
    "tool_use": ToolUse(meta=META, name="Bash", input={"command": "ls"}, id="1"),
    "tool_result": ToolResult(meta=META, name="Bash", output="x", id="1"),
    "pair": Pair(meta=META, prompt="p", completion="c"),
    "session_end": SessionEnd(meta=META),
    "other": Other(meta=META, kind="summary", raw={}),
}


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_every_type_has_its_snake_case_name(name):
    assert trace_type(ONE_OF_EACH[name]) == name


def test_the_examples_cover_the_union():
    assert {type(trace) for trace in ONE_OF_EACH.values()} == set(typing.get_args(Trace))


@pytest.mark.parametrize(
    ("meta", "document"),
    [
        (Meta(session="s"), "s"),
        (Meta(session="s", subagent="a1"), "s/a1"),
        (Meta(session="s", segment=1), "s#1"),
        (Meta(session="s", subagent="a1", segment=3), "s/a1#3"),
        (Meta(session="s", parent="p", project="x", uid="u", origin="/f"), "s"),
    ],
)
def test_names_of_documents(meta, document):
    for trace in ONE_OF_EACH.values():
        assert dataclasses.replace(trace, meta=meta).document == document


@pytest.mark.parametrize("trace", ONE_OF_EACH.values(), ids=trace_type)
def test_traces_are_frozen_and_closed(trace):
    with pytest.raises(dataclasses.FrozenInstanceError):
        trace.meta = Meta(session="other")
    assert not hasattr(trace, "__dict__")


def test_fields_are_keyword_only():
    with pytest.raises(TypeError):
        UserMessage(META, "text")  # pyright: ignore[reportCallIssue]


def test_equal_content_is_equal():
    again = ToolUse(meta=Meta(session="s"), name="Bash", input={"command": "ls"}, id="1")
    assert again == ONE_OF_EACH["tool_use"]
    assert again != dataclasses.replace(again, id="2")

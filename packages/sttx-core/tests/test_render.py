"""Rendering: the exact text of each type, and properties that hold for any text."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sttx_core.render import Part, render, render_parts
from sttx_core.traces import (
    AssistantMessage,
    Meta,
    Other,
    Pair,
    SessionEnd,
    Thinking,
    ToolResult,
    ToolUse,
    UserMessage,
)

META = Meta(session="s")


def user(text):
    return UserMessage(meta=META, text=text)


@pytest.mark.parametrize(
    ("trace", "text"),
    [
        (user("Fix the tests"), "User: Fix the tests\n\n"),
        (AssistantMessage(meta=META, text="Done."), "Assistant: Done.\n\n"),
        (Thinking(meta=META, text="Hm"), "Assistant: <think>Hm</think>\n\n"),
        (
            ToolUse(meta=META, name="Bash", input={"command": "a\n\nb", "n": 1, "é": None}),
            'Tool call: Bash {"command":"a\\n\\nb","n":1,"é":null}\n\n',
        ),
        (ToolUse(meta=META, name="T", input="raw"), 'Tool call: T "raw"\n\n'),
        (ToolUse(meta=META, name="T", input={}), "Tool call: T {}\n\n"),
        (ToolUse(meta=META, name="", input=[1]), "Tool call: [1]\n\n"),
        (ToolUse(meta=META, name="two\n\nlines", input={}), "Tool call: two lines {}\n\n"),
        (ToolResult(meta=META, name="Read", output="1\n2\n"), "Tool result: Read\n1\n2\n\n"),
        (ToolResult(meta=META, name="Read", output=""), "Tool result: Read\n\n"),
        (ToolResult(meta=META, name="", output="x"), "Tool result:\nx\n\n"),
        (ToolResult(meta=META, name="Bash", output="no", is_error=True), "Tool error: Bash\nno\n\n"),
        (Pair(meta=META, prompt="2+2?", completion="4"), "User: 2+2?\n\nAssistant: 4\n\n"),
        (Pair(meta=META, prompt="", completion="4"), "Assistant: 4\n\n"),
        (Pair(meta=META, prompt="2+2?", completion=" "), "User: 2+2?\n\n"),
        (Pair(meta=META, prompt="", completion=""), ""),
        (SessionEnd(meta=META), ""),
        (Other(meta=META, kind="summary", raw={"type": "summary"}), ""),
        (user(""), ""),
        (user(" \n\t\r\n "), ""),
        (Thinking(meta=META, text="\n"), ""),
        (AssistantMessage(meta=META, text=""), ""),
    ],
)
def test_text_of_each_type(trace, text):
    assert render(trace) == text


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("a\n\nb", "a\nb"),
        ("a\n\n\n\n\nb", "a\nb"),
        ("a\r\nb\r\n\r\nc", "a\nb\nc"),
        ("def f():\n\n    return 1", "def f():\n    return 1"),
        ("a\n  \t \n\n\tb", "a\n\tb"),
        ("a\n\f\n b", "a\n b"),
        ("  a  \n b", "a  \n b"),
        ("progress 1%\rprogress 2%", "progress 1%\rprogress 2%"),
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        ("nul\0inside", "nul\0inside"),
        ("lone \ud83d high, \ude00 low", "lone \ufffd high, \ufffd low"),
        ("pair \ud83d\ude00", "pair 😀"),
        ("last \ud83d", "last \ufffd"),
        ("日本語\n\n日本語", "日本語\n日本語"),
    ],
)
def test_text_is_folded_inside_a_turn(text, folded):
    assert render(user(text)) == f"User: {folded}\n\n"


def test_only_the_completion_of_a_pair_is_paid():
    parts = render_parts(Pair(meta=META, prompt="p\n\nq", completion="c"))
    assert parts == (Part("User: p\nq\n\nAssistant:", paid=False), Part(" c\n\n", paid=True))


def test_all_other_traces_are_paid_in_full():
    assert render_parts(user("u")) == (Part("User: u\n\n", paid=True),)
    assert render_parts(Other(meta=META, kind="k", raw="")) == ()


def test_surrogates_in_names_and_inputs_are_replaced():
    text = render(ToolUse(meta=META, name="T\ud800", input={"k\udfff": ["\ud83d"]}))
    assert text == 'Tool call: T\ufffd {"k\ufffd":["\ufffd"]}\n\n'


def test_numbers_that_json_writes_and_orjson_refuses():
    assert render(ToolUse(meta=META, name="T", input=[2**80])) == f"Tool call: T [{2**80}]\n\n"


any_text = st.text(st.characters(codec=None) | st.sampled_from("\n\r\t \ud800\udfff\x1b\0"), max_size=40)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=6,
)
traces = st.one_of(
    st.builds(UserMessage, meta=st.just(META), text=any_text),
    st.builds(AssistantMessage, meta=st.just(META), text=any_text),
    st.builds(Thinking, meta=st.just(META), text=any_text),
    st.builds(ToolUse, meta=st.just(META), name=any_text, input=json_values),
    st.builds(ToolResult, meta=st.just(META), name=any_text, output=any_text, is_error=st.booleans()),
    st.builds(Pair, meta=st.just(META), prompt=any_text, completion=any_text),
)


@given(traces)
def test_parts_are_not_empty_and_join_to_the_whole(trace):
    parts = render_parts(trace)
    assert "".join(part.text for part in parts) == render(trace)
    assert all(part.text for part in parts)


@given(traces)
def test_any_trace_is_encodable(trace):
    assert render(trace).encode().decode() == render(trace)


@given(traces)
def test_a_blank_line_always_ends_a_turn(trace):
    text = render(trace)
    if not text:
        return
    assert text.endswith("\n\n")
    turns = text.split("\n\n")[:-1]
    assert all(re.match(r"(User|Assistant|Tool (call|result|error)):", turn) for turn in turns)
    assert len(turns) == (2 if isinstance(trace, Pair) and len(render_parts(trace)) == 2 else 1) or (
        isinstance(trace, Pair) and not trace.prompt.strip()
    )
    assert not re.search(r"\n[^\S\n]*\n", text.removesuffix("\n\n").replace("\n\nAssistant:", ""))


@given(json_values.filter(lambda value: "\\ud" not in json.dumps(value)))
def test_input_survives_as_json(value):
    text = render(ToolUse(meta=META, name="T", input=value))
    assert json.loads(text.removeprefix("Tool call: T ")) == value


@given(any_text)
def test_folding_is_idempotent(text):
    once = render(user(text)).removeprefix("User: ")
    assert render(user(once)).removeprefix("User: ") == once


def test_long_runs_of_white_space_take_linear_time():
    text = "a" + "\n" + " " * 300_000 + "b" + "\r" * 300_000 + "c" + "\n" * 300_000 + "d"
    assert render(user(text)).endswith("c\nd\n\n")

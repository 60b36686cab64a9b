"""Pairs: one trace for each trace, only the agent's text is paid for, and a restart changes nothing."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sttx_core import (
    AssistantMessage,
    Meta,
    Other,
    Pair,
    Thinking,
    ToolResult,
    ToolUse,
    UsageError,
    UserMessage,
    render,
    render_parts,
)
from sttx_core.pairs import PairMaker, to_pairs

META = Meta(session="s", origin="file")


def user(text, meta=META):
    return UserMessage(meta=meta, text=text)


def agent(text, meta=META):
    return AssistantMessage(meta=meta, text=text)


def test_a_turn_with_tools():
    traces = [
        user("List it."),
        Thinking(meta=META, text="ls will do"),
        ToolUse(meta=META, name="Bash", input={"command": "ls"}),
        ToolResult(meta=META, name="Bash", output="a.py\nb.py"),
        agent("Two files."),
    ]
    pairs = [trace for trace in to_pairs(traces) if isinstance(trace, Pair)]
    assert [(pair.prompt, pair.completion) for pair in pairs] == [
        ("List it.", "<think>ls will do</think>"),
        ("", 'Tool call: Bash {"command":"ls"}'),
        ("Tool result: Bash\na.py\nb.py", "Two files."),
    ]


def test_only_the_completion_is_paid():
    _, pair = to_pairs([user("2+2?"), agent("4")])
    assert "".join(part.text for part in render_parts(pair) if part.paid) == " 4\n\n"
    assert render(pair) == "User: 2+2?\n\nAssistant: 4\n\n"


def test_all_messages_before_a_completion_are_one_prompt():
    *_, pair = to_pairs([user("one"), user("two"), agent("three")])
    assert isinstance(pair, Pair)
    assert pair.prompt == "one\ntwo"


def test_documents_do_not_mix():
    other = Meta(session="t", origin="file")
    *_, pair = to_pairs([user("mine"), user("theirs", other), agent("done")])
    assert isinstance(pair, Pair)
    assert pair.prompt == "mine"


def test_other_traces_pass_unchanged():
    traces = [Pair(meta=META, prompt="p", completion="c"), Other(meta=META, kind="odd", raw={})]
    assert list(to_pairs(traces)) == traces


def test_an_empty_completion_leaves_the_prompt_pending():
    asked, empty, pair = to_pairs([user("really?"), agent(" \n"), agent("yes")])
    assert isinstance(asked, Other) and isinstance(empty, Other)
    assert isinstance(pair, Pair)
    assert pair.prompt == "really?"


def test_the_start_of_a_long_prompt_is_dropped():
    maker = PairMaker(longest=4)
    maker.pair(user("abcdefgh"))
    pair = maker.pair(agent("x"))
    assert isinstance(pair, Pair)
    assert pair.prompt == "efgh"


def test_the_least_recently_used_prompt_is_dropped():
    maker = PairMaker(documents=2)
    metas = [Meta(session=name) for name in "abc"]
    for meta in metas:
        maker.pair(user(meta.session, meta))
    prompts = [maker.pair(agent("x", meta)) for meta in metas]
    assert [pair.prompt for pair in prompts if isinstance(pair, Pair)] == ["", "b", "c"]


@pytest.mark.parametrize("options", [{"documents": 0}, {"longest": 0}])
def test_invalid_sizes_are_refused(options):
    with pytest.raises(UsageError, match="at least 1"):
        PairMaker(**options)


talk = st.lists(
    st.builds(
        lambda kind, session, text: kind(text, Meta(session=session, origin=session)),
        st.sampled_from([user, agent]),
        st.sampled_from("ab"),
        st.text(max_size=6),
    ),
    max_size=20,
)


@given(talk, st.integers(0, 20))
def test_one_trace_for_each_trace_and_a_restart_changes_nothing(traces, cut):
    whole = list(to_pairs(traces))
    assert [trace.meta for trace in whole] == [trace.meta for trace in traces]
    first, second = PairMaker(), PairMaker()
    parts = [first.pair(trace) for trace in traces[:cut]]
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert parts + [second.pair(trace) for trace in traces[cut:]] == whole

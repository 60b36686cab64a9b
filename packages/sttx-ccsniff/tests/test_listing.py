import pytest
from hypothesis import given
from hypothesis import strategies as st

from sttx_ccsniff.listing import in_reading_order, list_sessions, session_traces
from sttx_core.errors import UsageError
from sttx_core.traces import Meta, SessionEnd, ToolResult, ToolUse, UserMessage


def said(text, session="s", subagent="", time=0.0, **meta):
    parent = meta.pop("parent", session if subagent else "")
    return UserMessage(
        meta=Meta(session=session, subagent=subagent, time=time, parent=parent, **meta), text=text
    )


def call(name, subagent="", time=0.0, tool="Task", **given):
    meta = Meta(session="s", subagent=subagent, time=time, parent="s" if subagent else "")
    return ToolUse(meta=meta, name=tool, input=given, id=name)


def answer(name, subagent="", by="", time=0.0):
    parent = "s" if subagent else ""
    meta = Meta(session="s", subagent=subagent, time=time, parent=parent)
    return ToolResult(meta=meta, name="Task", output="done", id=name, subagent=by)


def texts(ordered):
    return [(depth, getattr(trace, "text", type(trace).__name__)) for depth, trace in ordered]


# List of sessions


def test_the_summary_of_a_session():
    traces = [
        said("a", time=100.0, project="orchard"),
        call("1", time=110.0, tool="Bash"),
        call("2", time=105.0, tool="Bash"),
        call("3", tool="Read"),
        SessionEnd(meta=Meta(session="s", time=9000.0)),
    ]
    [summary] = list_sessions(traces)
    assert (summary.session, summary.subagent, summary.project) == ("s", "", "orchard")
    assert (summary.start, summary.end, summary.traces) == (100.0, 110.0, 4)
    assert summary.tools == {"Bash": 2, "Read": 1}


def test_sessions_are_sorted_by_time_with_their_subagents_as_children():
    traces = [
        said("x", session="new", time=50.0),
        said("y", session="new", subagent="b", time=70.0),
        said("z", session="new", subagent="a", time=60.0),
        said("x", session="old", subagent="c", time=10.0),
        said("x", session="timeless"),
    ]
    found = [
        (summary.session, [child.subagent for child in summary.children]) for summary in list_sessions(traces)
    ]
    assert found == [("timeless", []), ("old", ["c"]), ("new", ["a", "b"])]


def test_a_session_started_by_another_is_its_child():
    traces = [
        said("x", session="parent", time=1.0),
        said("x", session="child", parent="parent", time=2.0),
        said("x", session="grandchild", parent="child", time=3.0),
        said("x", session="orphan", parent="gone", time=4.0),
    ]
    found = [
        (summary.session, [child.session for child in summary.children]) for summary in list_sessions(traces)
    ]
    assert found == [("parent", ["child", "grandchild"]), ("orphan", [])]


families = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from(["", *"abcd"]), st.sampled_from(["", "x"]))
)


@given(families)
def test_each_session_is_listed_once_for_any_parents(links):
    traces = [
        said("t", session=session, parent=parent, subagent=subagent) for session, parent, subagent in links
    ]
    stack, found = list_sessions(traces), []
    while stack:
        summary = stack.pop()
        found.append((summary.session, summary.subagent))
        stack += summary.children
    wanted = {(session, subagent) for session, _, subagent in links} | {
        (session, "") for session, _, _ in links
    }
    assert sorted(found) == sorted(wanted)


# One session


@pytest.mark.parametrize("name", ["abc1", "abc1-x", "abc1-xyz"])
def test_a_prefix_of_a_name_is_enough(name):
    traces = [said("mine", session="abc1-xyz"), said("its", session="abc2"), said("too", session="abc1-xyz")]
    assert [trace.text for trace in session_traces(traces, name)] == ["mine", "too"]


def test_an_exact_name_wins_over_a_longer_one():
    traces = [said("long", session="abcd"), said("short", session="abc")]
    assert [trace.text for trace in session_traces(traces, "abc")] == ["short"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("", "empty"),
        ("x", "no session's identity starts with 'x'"),
        ("a", "7 sessions start with 'a': 'a0', 'a1', 'a2', 'a3', 'a4' and 2 more; use a longer prefix"),
    ],
)
def test_no_match_or_several_matches_are_refused(name, sentence):
    with pytest.raises(UsageError, match=sentence):
        session_traces([said("x", session=f"a{number}") for number in range(7)], name)


# Reading order


def test_subagents_follow_the_calls_that_started_them():
    traces = [
        *(call("1"), call("2"), answer("2", by="b"), answer("1", by="a"), said("end")),
        *(said("b says", subagent="b"), said("a says", subagent="a"), call("3", subagent="a")),
        *(answer("3", subagent="a", by="c"), said("c says", subagent="c")),
    ]
    assert texts(in_reading_order(traces)) == [
        *((0, "ToolUse"), (1, "a says"), (1, "ToolUse"), (2, "c says"), (1, "ToolResult")),
        *((0, "ToolUse"), (1, "b says"), (0, "ToolResult"), (0, "ToolResult"), (0, "end")),
    ]


def test_a_subagent_without_a_call_follows_its_result():
    traces = [said("a"), answer("1", by="x"), said("b"), said("x says", subagent="x")]
    assert texts(in_reading_order(traces)) == [(0, "a"), (0, "ToolResult"), (1, "x says"), (0, "b")]


def test_a_subagent_that_no_result_names_follows_the_call_with_its_prompt():
    traces = [
        *(call("1", time=1.0, prompt="Look"), call("2", time=2.0, prompt="Seek"), call("3", prompt="Look")),
        *(answer("1"), answer("2"), said("end", time=3.0)),
        *(
            said("Look", subagent="a", time=2.5),
            said("Seek", subagent="b", time=2.6),
            said("Look", subagent="c", time=4.0),
        ),
    ]
    assert texts(in_reading_order(traces)) == [
        *((0, "ToolUse"), (1, "Look"), (0, "ToolUse"), (1, "Seek"), (0, "ToolUse"), (1, "Look")),
        *((0, "ToolResult"), (0, "ToolResult"), (0, "end")),
    ]


def test_a_subagent_that_nothing_names_is_placed_by_its_time():
    traces = [
        said("a", time=1.0),
        said("b", time=9.0),
        said("x", subagent="x", time=5.0),
        said("y", subagent="y"),
    ]
    assert texts(in_reading_order(traces)) == [(0, "a"), (1, "x"), (0, "b"), (1, "y")]


def test_subagents_without_a_session_are_shown():
    assert texts(in_reading_order([said("x", subagent="x", time=5.0)])) == [(1, "x")]


names = st.sampled_from(["", *"abc"])
odd = st.lists(
    st.one_of(
        st.builds(call, st.sampled_from("123"), names, st.sampled_from([0.0, 1.0, 2.0])),
        st.builds(answer, st.sampled_from("123"), names, names),
        st.builds(said, st.just("t"), subagent=names, time=st.sampled_from([0.0, 1.0, 2.0])),
    )
)


@given(odd)
def test_each_trace_is_shown_once_and_each_subagent_in_its_order(traces):
    shown = [trace for _, trace in in_reading_order(traces)]
    assert sorted(map(id, shown)) == sorted(map(id, traces))
    for subagent in ("", *"abc"):
        mine = [id(trace) for trace in traces if trace.meta.subagent == subagent]
        assert [id(trace) for trace in shown if trace.meta.subagent == subagent] == mine


def test_thousands_of_nested_subagents():
    traces = [call("0"), answer("0", by="1")]
    for number in range(1, 3000):
        traces += [
            call(str(number), subagent=str(number)),
            answer(str(number), subagent=str(number), by=str(number + 1)),
        ]
    depths = [depth for depth, _ in in_reading_order(traces)]
    assert max(depths) == 2999 and len(depths) == len(traces)

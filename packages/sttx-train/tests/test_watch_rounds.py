"""Rounds of priced traces: side by side, without a call or a result, of sub-agents, in bounded memory."""

import numpy as np
import pytest

from sttx_core.traces import AssistantMessage, Meta, Other, Pair, SessionEnd, ToolResult, ToolUse, UserMessage
from sttx_train.evaluate import ScoredTrace
from sttx_train.predict import Prices
from sttx_train.watch import Round, RoundMaker, Said, clipped, waits
from sttx_train.watch.clipping import clipped_text
from sttx_train.watch.gist import gist, without_particulars
from sttx_train.watch.rounds import MOST_AGENTS, MOST_WAITING


def priced(trace, bits=8.0, network=16.0):
    prices = Prices(bits=np.array([bits]), network=np.array([network]), frozen=np.array([network + 1]))
    return ScoredTrace(trace=trace, ids=(1,), paid=np.array([True]), prices=prices, bytes=10)


def call(id="1", name="Bash", value=None, **meta):
    return ToolUse(meta=Meta(**{"session": "s", **meta}), name=name, input=value or {"command": "ls"}, id=id)


def result(id="1", name="Bash", output="a", is_error=False, **meta):
    return ToolResult(
        meta=Meta(**{"session": "s", **meta}), name=name, output=output, is_error=is_error, id=id
    )


def rounds_of(*traces, maker=None):
    maker = maker or RoundMaker()
    return [event for trace in traces for event in maker.add(priced(trace))]


def test_a_call_and_its_result_are_a_round():
    maker = RoundMaker()
    assert maker.add(priced(call(time=1.0, uid="c"), bits=100.0, network=200.0)) == []
    (one,) = maker.add(priced(result(time=3.0, uid="r", project="p", is_error=True), bits=5.0, network=50.0))
    assert one == Round(
        session="s",
        agent="",
        project="p",
        number=1,
        tool="Bash",
        uid="r",
        time=3.0,
        bytes=20,
        bits=105.0,
        network_bits=250.0,
        frozen_bits=252.0,
        gist=gist([call(), result(is_error=True)]),
        failed=True,
        turn=1,
    )
    assert maker.end() == []


def test_calls_side_by_side_are_rounds_in_the_order_of_their_results():
    events = rounds_of(call("1"), call("2", name="Read"), call("3", name="Grep"), result("2", name="Read"))
    events += rounds_of(result("9", name="Task"))
    assert [(event.tool, event.bytes, event.answered) for event in events] == [
        ("Read", 20, True),
        ("Task", 10, True),
    ]


def test_calls_without_a_result_between_them_are_one_turn():
    events = rounds_of(call("1"), call("2"), result("2"), call("3"), result("1"), result("3"), result("9"))
    assert [(event.number, event.turn) for event in events] == [(1, 1), (2, 1), (3, 2), (4, 3)]
    meta = Meta(session="s")
    between = UserMessage(meta=meta, text="and this"), AssistantMessage(meta=meta, text="I look at both")
    for trace, turns in zip(between, ([1, 2], [1, 1]), strict=True):
        events = rounds_of(call("1"), trace, call("2"), result("1"), result("2"))
        assert [event.turn for event in events if isinstance(event, Round)] == turns


def test_a_second_call_with_the_same_id_ends_the_first():
    events = rounds_of(call("1", value={"command": "sleep 9"}), call("1"), result("1"))
    assert [(event.number, event.answered, event.waits) for event in events] == [
        (1, False, True),
        (2, True, False),
    ]


def test_calls_without_results_become_rounds_at_the_end():
    maker = RoundMaker()
    assert rounds_of(call("1"), call("2"), call("3", subagent="a"), maker=maker) == []
    ended = maker.end(SessionEnd(meta=Meta(session="s")))
    assert [(one.name, one.number, one.answered, one.bytes) for one in ended] == [
        ("s", 1, False, 10),
        ("s", 2, False, 10),
    ]
    assert [(one.name, one.number) for one in maker.end()] == [("s/a", 1)]
    assert maker.end() == []


def test_sub_agents_and_sessions_count_apart_and_a_compaction_does_not():
    traces = [call(), result(), call(segment=1), result(segment=1)]
    traces += [call(subagent="a"), result(subagent="a"), call(session="t"), result(session="t")]
    assert [(one.name, one.number) for one in rounds_of(*traces)] == [
        ("s", 1),
        ("s", 2),
        ("s/a", 1),
        ("t", 1),
    ]


def test_without_ids_a_result_answers_the_oldest_call_of_its_name():
    first, second = call("", value={"command": "sleep 9"}), call("", value={"command": "ls"})
    events = rounds_of(first, second, call("", name="Read"), *[result("")] * 3)
    assert [(one.waits, one.bytes) for one in events] == [(True, 20), (False, 20), (False, 10)]


def test_a_users_message_is_said_and_other_traces_are_nothing():
    said = UserMessage(meta=Meta(session="s", subagent="a"), text="go on")
    assert rounds_of(said) == [Said(name="s/a", bytes=10, bits=8.0, network_bits=16.0)]
    meta = Meta(session="s")
    assert rounds_of(AssistantMessage(meta=meta, text="x"), Pair(meta=meta, prompt="", completion="y")) == []


def test_memory_is_bounded():
    maker = RoundMaker()
    events = rounds_of(*[call(str(number)) for number in range(MOST_WAITING + 3)], maker=maker)
    assert [one.number for one in events] == [1, 2, 3] and not any(one.answered for one in events)
    for number in range(MOST_AGENTS):
        rounds_of(call(session=f"other {number}"), maker=maker)
    assert len(maker._agents) == MOST_AGENTS and "s" not in maker._agents


@pytest.mark.parametrize(
    ("trace", "expected"),
    [
        (call(name="BashOutput", value={"bash_id": "1"}), True),
        (call(name="TaskOutput", value={}), True),
        (call(name="mcp__browser__browser_wait_for", value={"text": "Done"}), True),
        (call(name="write_stdin", value={"session_id": 3, "chars": ""}), True),
        (call(value={"command": "sleep 30; gh run view 17"}), True),
        (call(value={"command": "until curl -s localhost:3000; do sleep 1; done"}), True),
        (call(value={"command": "gh run watch 17"}), True),
        (call(value={"command": "npx jest --watch"}), True),
        (call(value={"command": "tail -f build.log"}), True),
        (call(value={"command": "git fetch && docker logs --follow web"}), True),
        (call(value={"command": "git log --oneline --follow src/a.py"}), False),
        (call(value={"command": "cd web && PAGER=cat git log --follow a.py"}), False),
        (call(value={"command": "npx ng test --watch=false --browsers=ChromeHeadless"}), False),
        (call(value={"command": "npx vitest --watch false"}), False),
        (call(value={"command": "kubectl delete pod web --wait=false"}), False),
        (call(value={"command": "make & wait"}), True),
        (call(name="shell", value={"command": ["bash", "-c", "sleep 5"]}), True),
        (call(name="exec", value="sleep 5"), True),
        (call(value={"command": "npm test"}), False),
        (call(value={"command": "grep -rn wait src"}), False),
        (call(value={"command": "git log --oneline | head"}), False),
        (call(name="Edit", value={"old_string": "sleep 5", "new_string": "sleep 9"}), False),
        (call(name="Read", value={"file_path": "wait.py"}), False),
        (call(name="Output", value=[1, 2]), False),
    ],
)
def test_calls_that_wait(trace, expected):
    assert waits(trace) is expected


def test_long_traces_keep_their_start_and_end():
    assert clipped_text("a" * 10, 10) == "a" * 10
    short = clipped_text("a" * 500 + "b" * 500, 103)
    assert len(short) == 103 and short.startswith("a" * 75) and short.endswith("\n…\n" + "b" * 25)
    meta = Meta(session="s")
    long = "x" * 5000
    assert len(clipped(result(output=long), 200).output) == 200
    for one in (UserMessage(meta=meta, text=long), AssistantMessage(meta=meta, text=long)):
        assert len(clipped(one, 200).text) == 200
    pair = clipped(Pair(meta=meta, prompt=long, completion=long), 200)
    assert (len(pair.prompt), len(pair.completion)) == (200, 200)


def test_short_traces_and_those_without_text_are_not_changed():
    meta = Meta(session="s")
    for trace in (call(), result(), SessionEnd(meta=meta), Other(meta=meta, kind="k", raw="x" * 999)):
        assert clipped(trace, 200) is trace
    pair = Pair(meta=meta, prompt="a", completion="b")
    assert clipped(pair, 200) is pair


def test_the_strings_of_a_long_input_share_its_length():
    long = {"file_path": "/a/b.py", "edits": [{"old": "x" * 5000, "new": "y" * 5000}], "all": True, "n": 3}
    short = clipped(call(value=long), 900).input
    assert (short["file_path"], short["all"], short["n"]) == ("/a/b.py", True, 3)
    assert (len(short["edits"][0]["old"]), len(short["edits"][0]["new"])) == (300, 300)
    many = clipped(call(value=[["x" * 100] * 1000]), 900).input
    assert isinstance(many, str) and len(many) == 900


def test_two_runs_of_one_command_have_one_gist():
    def ran(path, words):
        return call(value={"command": f"pytest {path}"}), result(output=f"{words} in {path}")

    first = ran("/tmp/a1/test.py", "FAILED at 10:31:07, run 1f3c9ab2, 3 of 17")
    second = ran("/tmp/z/y/t.py", "FAILED at 23:59:59, run 00aa11bb, 4 of 9")
    other = ran("/tmp/a1/test.py", "PASSED at 10:31:07, run 1f3c9ab2, 3 of 17")
    assert gist(first) == gist(second) != gist(other)


def test_words_without_digits_stay():
    assert without_particulars("deadbeef is beef in src/a.py, v2") == "N is beef in P, N"

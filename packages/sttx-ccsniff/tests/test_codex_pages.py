"""Codex rollouts of newer versions: times that are numbers, completed items, items that are repeated."""

import json

import pytest

from sttx_ccsniff import open_source
from sttx_ccsniff.codex.parser import RolloutParser
from sttx_ccsniff.codex.thread_items import ThreadItemReader, in_snake_case
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.checks import check_source
from sttx_core.traces import AssistantMessage, Meta, Thinking, ToolResult, ToolUse, UserMessage

THREAD = "0199bbbb-0000-7000-8000-000000000002"
START = 1_770_022_800


def line(kind, payload, seconds=0, **more):
    return {"timestamp": START + seconds, "type": kind, "payload": payload, **more}


META = line("session_meta", {"id": THREAD, "cwd": "/home/ada/orchard"})


def response(kind, **fields):
    return line("response_item", {"type": kind, **fields})


def completed(kind, name, **fields):
    return line("event_msg", {"type": "item_completed", "item": {"type": kind, "id": name, **fields}}, 5)


def prompt(name, text):
    return completed("UserMessage", name, content=[{"type": "text", "text": text}])


def answer(name, text):
    return completed("AgentMessage", name, content=[{"type": "Text", "text": text}])


TURN = [
    prompt("u1", "Count the trees"),
    completed("Reasoning", "r1", summary_text=["**Counting**"], raw_content=[]),
    completed(
        "CommandExecution",
        "call_1",
        command=["bash", "-lc", "ls"],
        cwd="/home/ada/orchard",
        status="failed",
        aggregatedOutput="none",
        exitCode=1,
    ),
    completed(
        "McpToolCall",
        "call_2",
        server="docs",
        tool="find",
        arguments={"q": 1},
        status="completed",
        result={"content": [{"type": "text", "text": "found"}]},
    ),
    answer("m1", "Twelve."),
    completed("HookPrompt", "h1", fragments=[]),
]


def read(path):
    with open_source(path, say=lambda message: None) as source:
        return list(source), source.report


@pytest.mark.parametrize("unit", [1, 1000, 1_000_000, 1_000_000_000])
def test_times_may_be_numbers(session_file, unit):
    lines = [META, response("message", role="user", content=[{"type": "input_text", "text": "Hi"}])]
    path = session_file("rollout.jsonl", *(one | {"timestamp": (START + 0.5) * unit} for one in lines))
    traces, report = read(path)
    assert traces[0].meta.time == START + 0.5 and not report.noted


@pytest.mark.parametrize("more", [[], [prompt("u2", "And the roots?"), answer("m2", "Many.")]])
def test_a_rollout_of_completed_items_alone(session_file, more):
    path = session_file("rollout.jsonl", META, *TURN, *more)
    traces, report = read(path)
    assert [type(trace) for trace in traces] == [
        *(UserMessage, Thinking, ToolUse, ToolResult, ToolUse, ToolResult, AssistantMessage),
        *((UserMessage, AssistantMessage) if more else ()),
    ]
    assert traces[2].input == {"command": ["bash", "-lc", "ls"]} and traces[2].id == "call_1"
    assert traces[3].output == "none" and traces[3].is_error
    assert traces[4].name == "mcp__docs__find" and traces[5].output == "found"
    assert {(trace.meta.session, trace.meta.time) for trace in traces} == {(THREAD, START + 5)}
    assert len({trace.meta.uid for trace in traces}) == len(traces)
    assert report.noted == {"rollout of completed items alone": 1}
    check_source(lambda cursor: open_source(path, cursor=cursor))


def test_completed_items_that_repeat_items_are_counted(session_file):
    lines = [
        META,
        line("event_msg", {"type": "user_message", "message": "Count the trees"}),
        TURN[0],
        response("message", role="user", content=[{"type": "input_text", "text": "Count the trees"}]),
        *TURN[1:],
        response("message", role="assistant", content=[{"type": "output_text", "text": "Twelve."}]),
    ]
    traces, report = read(session_file("rollout.jsonl", *lines))
    assert [trace.text for trace in traces] == ["Count the trees", "Twelve."]
    assert report.skipped["event: item_completed"] == len(TURN) and not report.noted


def test_items_of_the_context_alone_do_not_hide_the_talk(session_file):
    context = "<environment_context><cwd>/x</cwd></environment_context>"
    lines = [
        response("message", role="developer", content=[{"type": "input_text", "text": "Be brief."}]),
        response("message", role="user", content=[{"type": "input_text", "text": context}]),
    ]
    traces, report = read(session_file("rollout.jsonl", META, *lines, *TURN, *lines))
    assert len(traces) == 7 and report.skipped["environment context"] == 2


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ({"type": "agentMessage", "text": "Hi"}, "Hi"),
        ({"type": "reasoning", "summary": ["a", "b"], "content": []}, "a\n\nb"),
        ({"type": "Reasoning", "summary_text": [{"text": "a"}]}, "a"),
        ({"type": "plan", "text": "1. Dig"}, "1. Dig"),
        (
            {"type": "userMessage", "content": [{"type": "text", "text": "Go"}, {"type": "image"}]},
            "Go\n[image]",
        ),
    ],
)
def test_the_text_of_an_item_in_any_spelling(item, text):
    reader = ThreadItemReader(SourceReport(), Seen())
    [trace] = reader.traces(in_snake_case(item), Meta(session="s"), "c")
    assert trace.text == text


def test_completed_items_replace_the_older_events(session_file):
    old = [
        line("event_msg", {"type": "user_message", "message": "Count the trees"}),
        line("event_msg", {"type": "agent_message", "message": "Twelve."}),
    ]
    traces, report = read(
        session_file("rollout.jsonl", META, old[0], *TURN, old[1], *old, prompt("u2", "Ok"))
    )
    assert [trace.text for trace in traces if isinstance(trace, UserMessage)] == ["Count the trees", "Ok"]
    assert [trace.text for trace in traces if isinstance(trace, AssistantMessage)] == ["Twelve."]


def test_an_unanswered_prompt_waits(session_file):
    traces, _ = read(session_file("rollout.jsonl", META, TURN[0]))
    assert traces == []


def test_items_that_a_later_page_repeats_are_read_once(session_file):
    call = {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c1"}
    said = {
        "type": "message",
        "id": "msg_1",
        "role": "user",
        "content": [{"type": "input_text", "text": "Go"}],
    }
    output = {"type": "function_call_output", "call_id": "c1", "output": "ok"}
    items = [line("response_item", one, ordinal=at) for at, one in enumerate([said, call, output], 1)]
    again = [one | {"ordinal": one["ordinal"] + 10, "timestamp": START + 60} for one in items]
    typed_again = [items[0] | {"ordinal": 20, "payload": said | {"id": "msg_2"}}]
    session_file("a.jsonl", META, *items, *again, *typed_again)
    path = session_file("b.jsonl", META | {"timestamp": START + 60}, *again)
    traces, report = read(path.parent)
    assert [type(trace) for trace in traces] == [UserMessage, ToolUse, ToolResult, UserMessage]
    assert report.skipped["duplicate record"] == 6


def test_a_parser_can_stop_after_any_line(read_with_handover):
    lines = [json.dumps(one).encode() for one in (META, *TURN, prompt("u2", "And the roots?"))]
    whole = RolloutParser("x.jsonl", SourceReport(), Seen())
    traces = read_with_handover(RolloutParser, "x.jsonl", lines)
    assert traces == [trace for one in lines for trace in whole.feed(one)]
    assert len(traces) == 8


def test_wrong_types_in_any_field_break_nothing():
    for one in TURN:
        item = one["payload"]["item"]
        for key in (*item, "error", "result", "content_items", "namespace"):
            for odd in (None, 1, "x", [], {}, [[1]], {"content": 5}):
                report = SourceReport()
                made = in_snake_case({**item, key: odd})
                traces = ThreadItemReader(report, Seen()).traces(made, Meta(session="s"), "c")
                assert traces or report.skipped

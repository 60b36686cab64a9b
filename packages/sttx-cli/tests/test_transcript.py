from collections import Counter

import pytest

from sttx_ccsniff import SessionSummary
from sttx_cli.transcript import (
    clock,
    length,
    model_lines,
    sessions_table,
    short_names,
    token_columns,
    transcript,
)
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
EVIL = "\x1b[2J\x1b]0;owned\x07\x9b1m\u202e"


def shown(*traces, **options):
    return "\n".join(line.plain for line in transcript([(0, trace) for trace in traces], **options))


def test_each_type_has_its_heading():
    traces = [
        UserMessage(meta=META, text="Hi"),
        AssistantMessage(meta=META, text="Hello"),
        Thinking(meta=META, text="hm"),
        ToolUse(meta=META, name="Bash", input={"command": "ls"}),
        ToolResult(meta=META, name="Bash", output="a b"),
        ToolResult(meta=META, name="Bash", output="no", is_error=True),
        Pair(meta=META, prompt="2+2?", completion="4"),
        Other(meta=META, kind="new", raw={"x": 1}),
        SessionEnd(meta=META),
    ]
    assert shown(*traces).split("\n") == [
        *("User", "Hi", "", "Assistant", "Hello", "", "Thinking", "hm", ""),
        *("Tool: Bash", "command: ls", "", "Result: Bash", "a b", "", "Error: Bash", "no", ""),
        *("Prompt", "2+2?", "Completion", "4", "", "Other: new", "", "End", ""),
    ]


def test_subagents_and_compactions_are_marked():
    other = Meta(session="s", subagent="a", parent="s")
    ordered = [
        (0, UserMessage(meta=META, text="one")),
        (1, UserMessage(meta=other, text="two\nlines")),
        (0, UserMessage(meta=META, text="three")),
        (0, UserMessage(meta=Meta(session="s", segment=1), text="four")),
    ]
    lines = [line.plain.rstrip() for line in transcript(ordered)]
    assert lines == [
        *("User", "one", "", "│ ── sub-agent a ──", "│ User", "│ two", "│ lines", "│"),
        *("── the session ──", "User", "three", ""),
        *("── compacted: continues from a summary ──", "User", "four", ""),
    ]


def test_long_inputs_and_results_are_shortened_and_full_shows_them():
    use = ToolUse(meta=META, name="Write", input={"content": "y" * 500, "lines": "a\nb"})
    answer = ToolResult(meta=META, name="Write", output="\n".join(map(str, range(100))))
    short, full = shown(use, answer), shown(use, answer, full=True)
    assert "y" * 161 not in short and "(340 more characters)" in short
    assert "\n11\n… (264 more characters; --full shows them)" in short and "lines: a b" in short
    assert "y" * 500 in full and "\n99" in full and "lines:\na\nb" in full and "more characters" not in full


@pytest.mark.parametrize("value", [None, 5, "text", ["a", {"b": 1}], {"a": {"b": [1]}}, {}])
@pytest.mark.parametrize("full", [False, True])
def test_inputs_of_any_shape(value, full):
    assert shown(ToolUse(meta=META, name="x", input=value), full=full).startswith("Tool: x")


@pytest.mark.parametrize("full", [False, True])
def test_nothing_in_a_trace_reaches_the_terminal_as_a_command(full):
    meta = Meta(session="s", subagent=EVIL, parent="s")
    traces = [
        UserMessage(meta=meta, text=EVIL),
        AssistantMessage(meta=META, text=EVIL),
        Thinking(meta=META, text=EVIL),
        ToolUse(meta=META, name=EVIL, input={EVIL: EVIL}),
        ToolUse(meta=META, name=EVIL, input=EVIL),
        ToolResult(meta=META, name=EVIL, output=EVIL),
        Pair(meta=META, prompt=EVIL, completion=EVIL),
        Other(meta=META, kind=EVIL, raw={"x": EVIL}),
    ]
    text = shown(*traces, full=full)
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(text)


def test_the_table_has_a_row_for_each_session_and_subagent():
    child = SessionSummary(session="session-one", subagent="a1", start=60.0, end=70.0, traces=2)
    tools = Counter({f"tool{number}": 9 - number for number in range(7)})
    summary = SessionSummary(
        session="session-one", project="p", start=50.0, end=3700.0, traces=1234, tools=tools, children=[child]
    )
    by_speaker = {("session-one", "a1"): Counter(output_tokens=5)}
    by_model = {"wise": Counter(input_tokens=1500), "old": Counter(input_tokens=500, output_tokens=5)}
    table = sessions_table([summary], by_speaker, by_model)
    rows = [
        [cell.plain for cell in column.cells]  # type: ignore[union-attr]
        for column in table.columns
    ]
    names, projects, _, lengths, traces, used, *tokens = rows
    assert names == ["session-", "  a1", "(total)"] and projects == ["p", "", ""]
    assert lengths == ["1h 00m", "10s", ""] and traces == ["1,234", "2", ""]
    assert used == ["tool0 9, tool1 8, tool2 7, tool3 6, tool4 5, 2 more", "", ""]
    assert tokens == [["", "0", "2.0k"], ["", "0", "0"], ["", "5", "5"]]


def test_the_tokens_of_each_model_have_a_line():
    by_model = {"wise": Counter(input_tokens=1500), EVIL: Counter(output_tokens=5), "none": Counter()}
    evil, wise = sorted(model_lines(by_model), key=lambda line: line.startswith("wise"))
    assert wise == "wise: 1.5k tokens in, 0 cached, 0 out"
    assert evil.endswith(": 0 tokens in, 0 cached, 5 out") and "\x1b" not in evil and "\n" not in evil


def test_short_names_are_enough_to_find_a_session():
    names = ["a" * 12 + "1", "a" * 12 + "2", "b" * 36, "c"]
    short = short_names(names)
    for name in names:
        assert [other for other in names if other.startswith(short[name])] == [name]
    assert short["b" * 36] == "b" * 8


def test_numbers_in_words():
    assert token_columns(Counter()) == ("", "", "")
    assert token_columns(Counter(input_tokens=1500, cache_creation_input_tokens=500)) == ("2.0k", "0", "0")
    assert length(0) == "0s" and length(1e300).endswith("h")
    assert clock(0, "%H") == clock(-5, "%H") == clock(1e300, "%H") == ""
    assert clock(1e9, "%Y") == "2001"

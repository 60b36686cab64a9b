"""Sessions as a person reads them on a terminal: a list of sessions, or the whole of one.

All text is untrusted and goes through `plain`. Knows traces, not where they come from.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from rich.table import Table
from rich.text import Text

from sttx_ccsniff import SessionSummary
from sttx_cli.plain import one_line, plain
from sttx_core.traces import (
    AssistantMessage,
    Json,
    Other,
    Pair,
    SessionEnd,
    Thinking,
    ToolResult,
    ToolUse,
    Trace,
    UserMessage,
)

UsageBySpeaker = Mapping[tuple[str, str], Counter[str]]
Line = tuple[str, str]

_TOKENS = ("tokens in", "cached", "out")
_COLUMNS = ("session", "project", "start", "length", "traces", "tools", *_TOKENS)
_MOST_TOOLS = 5
_SHORT_VALUE = 160
_SHORT_LINES = 12
_SHORT_TEXT = 1500
_SHORTEST_NAME = 8


def sessions_table(
    sessions: Sequence[SessionSummary], by_speaker: UsageBySpeaker, by_model: Mapping[str, Counter[str]]
) -> Table:
    """Lay out sessions, the newest last, with their sub-agents indented, and the tokens in total.

    Args:
        sessions: The sessions to list.
        by_speaker: Tokens billed, by (session, sub-agent).
        by_model: Tokens billed in total, by model.
    """
    table = Table(box=None, pad_edge=False)
    for name in _COLUMNS:
        right = name in ("length", "traces", *_TOKENS)
        table.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=right)
    short = short_names([summary.session for summary in _all(sessions)])
    for summary in sessions:
        for depth, each in _nested(summary):
            name = each.subagent or short[each.session]
            cells = [
                "  " * depth + plain(name),
                plain(each.project) if not depth else "",
                clock(each.start, "%Y-%m-%d %H:%M"),
                length(each.end - each.start) if each.start else "",
                f"{each.traces:,}",
                _tools(each.tools),
                *token_columns(by_speaker.get((each.session, each.subagent), Counter())),
            ]
            table.add_row(*map(Text, cells))
    if by_model:
        total = sum(by_model.values(), Counter())
        table.add_row(*map(Text, ["(total)", *[""] * 5, *token_columns(total)]))
    return table


def model_lines(by_model: Mapping[str, Counter[str]]) -> Iterator[str]:
    """Write the tokens billed in total, one line for each model.

    >>> list(model_lines({"wise": Counter(input_tokens=900, output_tokens=42)}))
    ['wise: 900 tokens in, 0 cached, 42 out']
    """
    for model, tokens in sorted(by_model.items()):
        if tokens:
            new, cached, out = token_columns(tokens)
            yield f"{one_line(model, 80) or 'unnamed model'}: {new} tokens in, {cached} cached, {out} out"


def transcript(ordered: Iterable[tuple[int, Trace]], *, full: bool = False) -> Iterator[Text]:
    """Write a session's traces as lines of styled text.

    Args:
        ordered: The traces in reading order, each with its depth.
        full: Whether to show whole inputs and results of tools.
    """
    before: Trace | None = None
    for depth, trace in ordered:
        margin = "│ " * depth
        if before is None or before.meta.subagent != trace.meta.subagent:
            if depth or before is not None:
                name = f"sub-agent {trace.meta.subagent}" if trace.meta.subagent else "the session"
                yield _styled(margin, f"── {plain(name)} ──", "bold cyan")
        elif before.meta.segment != trace.meta.segment:
            yield _styled(margin, "── compacted: continues from a summary ──", "bold yellow")
        time = clock(trace.meta.time, "%H:%M:%S")
        for at, (text, style) in enumerate(_lines(trace, full)):
            heading = f"{time} {text}".strip() if at == 0 else text
            for line in plain(heading).split("\n"):
                yield _styled(margin, line, style)
        yield _styled(margin, "", "")
        before = trace


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Shorten each name to its shortest prefix that no other name shares, of at least eight characters.

    >>> short_names(["0123456789", "0123456788", "abc"])
    {'0123456788': '0123456788', '0123456789': '0123456789', 'abc': 'abc'}
    """
    ordered = sorted(set(names))
    short = {}
    for at, name in enumerate(ordered):
        beside = ordered[max(at - 1, 0) : at] + ordered[at + 1 : at + 2]
        need = max((_shared(name, other) + 1 for other in beside), default=0)
        short[name] = name[: max(need, _SHORTEST_NAME)]
    return short


def length(seconds: float) -> str:
    """Write a length of time in its two largest units.

    >>> length(9), length(200), length(7260), length(200_000)
    ('9s', '3m 20s', '2h 01m', '2d 07h')
    """
    whole = int(min(seconds, 1e12))
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d {hours:02}h"
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {whole % 60:02}s" if minutes else f"{whole}s"


def token_columns(tokens: Counter[str]) -> tuple[str, str, str]:
    """Write the tokens billed: new input, cached input, and output.

    >>> token_columns(Counter(input_tokens=900, cache_read_input_tokens=1_234_567, output_tokens=42))
    ('900', '1.2M', '42')
    """
    if not tokens:
        return "", "", ""
    new = tokens["input_tokens"] + tokens["cache_creation_input_tokens"]
    return _amount(new), _amount(tokens["cache_read_input_tokens"]), _amount(tokens["output_tokens"])


def clock(time: float, form: str) -> str:
    """Write a local time; "" if it is unknown or out of the calendar's range."""
    if time <= 0:
        return ""
    try:
        return datetime.fromtimestamp(time).strftime(form)
    except (ValueError, OverflowError, OSError):
        return ""


def _lines(trace: Trace, full: bool) -> list[Line]:
    """Return what is shown of a trace: a heading, then its text, each with a style."""
    match trace:
        case UserMessage(text=text):
            return [("User", "bold green"), (text, "")]
        case AssistantMessage(text=text):
            return [("Assistant", "bold blue"), (text, "")]
        case Thinking(text=text):
            return [("Thinking", "bold dim"), (text, "dim")]
        case ToolUse(name=name, input=value):
            return [(f"Tool: {name}", "bold magenta"), *((line, "") for line in _input(value, full))]
        case ToolResult(name=name, output=output, is_error=failed):
            heading = f"Error: {name}" if failed else f"Result: {name}"
            return [(heading, "bold red" if failed else "bold magenta"), (_shortened(output, full), "dim")]
        case Pair(prompt=prompt, completion=completion):
            return [("Prompt", "bold green"), (prompt, ""), ("Completion", "bold blue"), (completion, "")]
        case SessionEnd():
            return [("End", "bold")]
        case Other(kind=kind, raw=raw):
            return [(f"Other: {one_line(kind, 80)}", "dim"), *([(_json(raw), "dim")] if full else [])]


def _input(value: Json, full: bool) -> list[str]:
    if not isinstance(value, dict):
        return [_json(value) if full else one_line(_json(value), _SHORT_VALUE)]
    words = {key: item if isinstance(item, str) else _json(item) for key, item in value.items()}
    if full:
        return [f"{key}:\n{word}" if "\n" in word else f"{key}: {word}" for key, word in words.items()]
    return [f"{one_line(key, 40)}: {one_line(word, _SHORT_VALUE)}" for key, word in words.items()]


def _shortened(text: str, full: bool) -> str:
    if full:
        return text
    lines = text.split("\n")
    shown = "\n".join(lines[:_SHORT_LINES])[:_SHORT_TEXT]
    left = len(text) - len(shown)
    return f"{shown}\n… ({left:,} more characters; --full shows them)" if left > 1 else text


def _json(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _styled(margin: str, text: str, style: str) -> Text:
    return Text.assemble((margin, "cyan"), (text, style))


def _tools(tools: Counter[str]) -> str:
    shown = [f"{one_line(name, 40) or '?'} {count:,}" for name, count in tools.most_common(_MOST_TOOLS)]
    left = len(tools) - len(shown)
    return ", ".join([*shown, *([f"{left} more"] if left else [])])


def _amount(number: int) -> str:
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.1f}{letter}"
    return str(number)


def _nested(summary: SessionSummary) -> Iterator[tuple[int, SessionSummary]]:
    yield 0, summary
    for child in summary.children:
        yield 1, child
        for grandchild in child.children:
            yield 2, grandchild


def _all(sessions: Iterable[SessionSummary]) -> Iterator[SessionSummary]:
    return (each for summary in sessions for _, each in _nested(summary))


def _shared(one: str, other: str) -> int:
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count

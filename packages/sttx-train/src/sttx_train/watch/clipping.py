"""Shortens long traces before they are priced, so that no round takes long. Knows traces; no prices.

What a command prints at its start and at its end tells a repeat from a new result; its middle rarely does.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import assert_never

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

_MARK = "\n…\n"
_SHORTEST = 64  # characters that any text in the input of a call keeps


def clipped(trace: Trace, most: int) -> Trace:
    r"""Return a trace whose texts have at most about ``most`` characters, the start and the end of each.

    >>> from sttx_core.traces import Meta
    >>> clipped(UserMessage(meta=Meta(session="s"), text="0123456789" * 3), 16).text
    '0123456789\n…\n789'
    """
    match trace:
        case UserMessage(text=text) | AssistantMessage(text=text) | Thinking(text=text):
            return trace if len(text) <= most else replace(trace, text=clipped_text(text, most))
        case ToolUse(input=value):
            return trace if _size(value) <= most else replace(trace, input=_clipped_input(value, most))
        case ToolResult(output=output):
            return trace if len(output) <= most else replace(trace, output=clipped_text(output, most))
        case Pair(prompt=prompt, completion=completion):
            if len(prompt) + len(completion) <= most:
                return trace
            return replace(
                trace, prompt=clipped_text(prompt, most), completion=clipped_text(completion, most)
            )
        case SessionEnd() | Other():
            return trace
        case _:
            assert_never(trace)


def clipped_text(text: str, most: int) -> str:
    """Return a text, or its start and its end, of at most ``most`` characters."""
    if len(text) <= most:
        return text
    kept = max(most - len(_MARK), 2)
    tail = kept // 4
    return text[: kept - tail] + _MARK + text[len(text) - tail :]


def _clipped_input(value: Json, most: int) -> Json:
    """Clip each string of a call's input; an input of too many parts becomes one clipped text."""
    strings = _strings(value)
    short = _with_strings(value, max(most // max(strings, 1), _SHORTEST))
    return short if _size(short) <= 2 * most else clipped_text(_compact(value), most)


def _strings(value: Json) -> int:
    if isinstance(value, dict):
        return sum(map(_strings, value.values()))
    if isinstance(value, list):
        return sum(map(_strings, value))
    return int(isinstance(value, str))


def _with_strings(value: Json, most: int) -> Json:
    if isinstance(value, dict):
        return {key: _with_strings(item, most) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_strings(item, most) for item in value]
    return clipped_text(value, most) if isinstance(value, str) else value


def _size(value: Json) -> int:
    return len(_compact(value))


def _compact(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

"""`render`: the only place that knows how a trace becomes text.

The format is the RWKV chat convention: a turn is a label, a text and one blank line, and the text has no
blank lines. So a blank line always ends a turn, and a state tuned on sessions works in any RWKV chat program.

```
User: {text}                             Tool call: {name} {input as compact JSON}
Assistant: {text}                        Tool result: {name}
Assistant: <think>{text}</think>         {output}
                                         ("Tool error: " where the tool failed)
```

The result can always be encoded as UTF-8: lone surrogates, which JSON can contain, become U+FFFD. Terminal
escapes stay. This file does not know about tokens or bits.
"""

import json
import re
from dataclasses import dataclass
from typing import assert_never

from sttx_core.text import encodable
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

_END = "\n\n"
_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a rendered trace; `paid` says whether its bits are paid for and learned from."""

    text: str
    paid: bool = True


def render(trace: Trace) -> str:
    r"""Return a trace as text; "" if it has none.

    >>> from sttx_core.traces import Meta
    >>> render(UserMessage(meta=Meta(session="s"), text="Fix it.\r\n\r\n  please "))
    'User: Fix it.\n  please\n\n'
    """
    return "".join(part.text for part in render_parts(trace))


def render_parts(trace: Trace) -> tuple[Part, ...]:
    r"""Return a trace as parts that are paid for or not; joined, they are `render(trace)`.

    Only a `Pair` has an unpaid part: its prompt and the label before its completion.

    >>> from sttx_core.traces import Meta
    >>> render_parts(Pair(meta=Meta(session="s"), prompt="2+2?", completion="4"))
    (Part(text='User: 2+2?\n\nAssistant:', paid=False), Part(text=' 4\n\n', paid=True))
    """
    match trace:
        case UserMessage(text=text):
            return _turn("User: ", text)
        case AssistantMessage(text=text):
            return _turn("Assistant: ", text)
        case Thinking(text=text):
            return _turn("Assistant: <think>", text, "</think>")
        case ToolUse(name=name, input=value):
            return (Part(_labeled("Tool call:", name, _compact_json(value), " ")),)
        case ToolResult(name=name, output=output, is_error=is_error):
            label = "Tool error:" if is_error else "Tool result:"
            return (Part(_labeled(label, name, _fold(output), "\n")),)
        case Pair(prompt=prompt, completion=completion):
            return _pair(_fold(prompt), _fold(completion))
        case SessionEnd() | Other():
            return ()
        case _:
            assert_never(trace)


def _turn(head: str, text: str, tail: str = "") -> tuple[Part, ...]:
    folded = _fold(text)
    return (Part(head + folded + tail + _END),) if folded else ()


def _pair(prompt: str, completion: str) -> tuple[Part, ...]:
    question = f"User: {prompt}{_END}" if prompt else ""
    if not completion:
        return (Part(question, paid=False),) if question else ()
    return (Part(question + "Assistant:", paid=False), Part(f" {completion}{_END}"))


def _labeled(label: str, name: str, body: str, separator: str) -> str:
    """Return a tool's turn, even with an empty body: an empty result is information."""
    words = " ".join(encodable(name).split())
    head = f"{label} {words}" if words else label
    return f"{head}{separator}{body}{_END}" if body else head + _END


def _compact_json(value: Json) -> str:
    return encodable(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _fold(text: str) -> str:
    """Return a text that fits in a turn: no blank lines, no outer white space, one kind of line end."""
    return _BLANK_LINES.sub("\n", encodable(text).replace("\r\n", "\n")).strip()

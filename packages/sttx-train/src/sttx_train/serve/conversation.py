"""Messages of a chat to the text that the model reads, and the turns that it may answer with.

A message is a turn of the render convention, as in training. Each turn is encoded by itself, so that the ids
of a conversation's start stay the same while it grows. Knows tokenizers; neither HTTP nor readers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sttx_core.render import render
from sttx_core.tokenizers import Tokenizer
from sttx_core.traces import AssistantMessage, Meta, ToolResult, ToolUse, UserMessage
from sttx_train.generate import Constraint
from sttx_train.serve.bodies import Message, NamedTool, Part, Tool
from sttx_train.serve.catalog import Served
from sttx_train.serve.failures import bad
from sttx_train.serve.forms import arguments_of

ANSWER = "Assistant:"
END = "\n\n"
"""A blank line ends a turn."""
_META = Meta(session="chat")
_TOOLS = "Tools that may be called:"


@dataclass(frozen=True, kw_only=True)
class Opening:
    """How an answer may start.

    Attributes:
        text: what starts its turn.
        tool: name of the tool that is called; None for an answer in words.
        form: what must follow; None for anything.
    """

    text: str
    tool: str | None = None
    form: Constraint | None = None


def turns(messages: Sequence[Message], tools: Sequence[Tool] = ()) -> list[str]:
    """Return the turns of a chat as text, the tools first.

    Raises:
        RequestError: a message has no text, or parts that are not text.
    """
    names: dict[str, str] = {}
    found = [_system(_describe(tools))] if tools else []
    for index, message in enumerate(messages):
        for call in message.tool_calls or ():
            names[call.id] = call.function.name
        found.append(_turn(message, index, names))
    return found


def encode_turns(texts: Sequence[str], tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the ids of turns, each encoded by itself."""
    return tuple(token for text in texts for token in tokenizer.encode(text))


def newest(messages: Sequence[Message], served: Served) -> tuple[int, ...]:
    """Return the ids of the turns after the last answer: what was not sent before."""
    answers = [index for index, message in enumerate(messages) if message.role == "assistant"]
    after = answers[-1] + 1 if answers else 0
    return encode_turns(turns(messages)[after:], served.predictor.tokenizer)


def openings(
    tools: Sequence[Tool], choice: str | NamedTool | None, served: Served, form: Constraint | None = None
) -> list[Opening]:
    """Return how the answer may start; one opening if there is no choice.

    Args:
        tools: the tools that may be called; what strict ones are called with fits their schema.
        choice: whether one must be called, and which.
        served: the model.
        form: what an answer in words must be.

    Raises:
        RequestError: a tool is asked for that is not there, or a schema cannot be enforced.
    """
    calls = [
        Opening(
            text=f"Tool call: {tool.function.name} ",
            tool=tool.function.name,
            form=arguments_of(tool, served),
        )
        for tool in tools
    ]
    # JSON starts with no space, so the turn's label has it.
    answer = Opening(text=ANSWER if form is None else f"{ANSWER} ", form=form)
    if isinstance(choice, NamedTool):
        named = [call for call in calls if call.tool == choice.function.name]
        if not named:
            raise bad(f"tool_choice names {choice.function.name!r}, which is not in tools", "tool_choice")
        return named[:1]
    if choice == "required":
        if not calls:
            raise bad("tool_choice requires a call, but there are no tools", "tool_choice")
        return calls
    return [answer] if choice == "none" else [answer, *calls]


def _turn(message: Message, index: int, names: dict[str, str]) -> str:
    text = _text(message.content, index)
    if message.role in ("system", "developer"):
        return _required(_system(text), index)
    if message.role == "user":
        return _required(render(UserMessage(meta=_META, text=text)), index)
    if message.role in ("tool", "function"):
        name = message.name or names.get(message.tool_call_id or "", "")
        return render(ToolResult(meta=_META, name=name, output=text))
    answer = render(AssistantMessage(meta=_META, text=text))
    calls = [
        render(ToolUse(meta=_META, name=call.function.name, input=_arguments(call.function.arguments)))
        for call in message.tool_calls or ()
    ]
    return _required("".join([answer, *calls]), index)


def _required(text: str, index: int) -> str:
    if not text:
        raise bad(f"messages[{index}] has no text", "messages")
    return text


def _text(content: str | list[Part] | None, index: int) -> str:
    if not isinstance(content, list):
        return content or ""
    for part in content:
        if part.type not in ("text", "input_text", "output_text", "refusal"):
            raise bad(
                f"messages[{index}] has a part of the type {part.type!r}: only text is read", "messages"
            )
    return "\n".join(part.text for part in content)


def _system(text: str) -> str:
    """Return the turn of a system prompt, labeled as RWKV's chats do."""
    rendered = render(UserMessage(meta=_META, text=text))
    return rendered.replace("User:", "System:", 1)


def _describe(tools: Sequence[Tool]) -> str:
    lines = [_TOOLS]
    for tool in tools:
        function = tool.function
        schema = json.dumps(function.parameters or {}, ensure_ascii=False, separators=(",", ":"))
        about = f" {' '.join(function.description.split())}" if function.description else ""
        lines.append(f"{function.name} {schema}{about}")
    return "\n".join(lines)


def _arguments(text: str):
    """Return a call's input as JSON; one that is not JSON stays text."""
    try:
        return json.loads(text) if text else {}
    except ValueError:
        return text

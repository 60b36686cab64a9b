"""``/v1/responses``: items to an ask, events to a response, and responses that can be continued.

What was read is kept as ids, and its state in the cache: a conversation continues without reading it again.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from secrets import token_hex
from typing import Any, TypeAlias

import msgspec

from sttx_train.serve.bodies import (
    Function,
    Item,
    Message,
    NamedFunction,
    NamedTool,
    ObjectFormat,
    Response,
    ResponseSchema,
    ResponseToolChoice,
    TextFormat,
    Tool,
    ToolCall,
    ToolFunction,
)
from sttx_train.serve.catalog import Served
from sttx_train.serve.chat import TOKENS, Answer
from sttx_train.serve.conversation import END, Opening, encode_turns, newest, openings, turns
from sttx_train.serve.failures import bad
from sttx_train.serve.forms import form_of
from sttx_train.serve.jobs import Ask, Ended, Event
from sttx_train.serve.slots import SlotName
from sttx_train.serve.streaming import PING, Channel, event
from sttx_train.serve.usage import Usage

_CALL = re.compile(r"Tool call: (\S+) ")
_TAIL = 512  # ids at a conversation's end in which its last turn mostly stands

Keep: TypeAlias = Callable[[str, tuple[int, ...], Served], Awaitable[None]]
"""Keeps what was read for a response, by its name and the model."""


def response_ask(
    body: Response, served: Served, most: int, before: tuple[int, ...], slot: SlotName | None = None
) -> tuple[Ask, list[Opening]]:
    """Return what a body asks for after the ids of the response that it continues, and how it may start.

    Args:
        body: the request.
        served: the model.
        most: most tokens that may be asked for.
        before: the ids of the response that it continues.
        slot: where the state at the end is kept.

    Raises:
        RequestError: the body asks for what is not possible.
    """
    body.check(most, body.max_output_tokens, "max_output_tokens")
    if body.n not in (None, 1):
        raise bad("n must be 1: a response has one answer", "n")
    tokenizer = served.predictor.tokenizer
    tools = [_tool(tool) for tool in body.tools or () if tool.type == "function"]
    form = form_of(body.text.format if body.text else None, "text", served)
    starts = openings(tools, _choice(body.tool_choice), served, form)
    texts = turns(messages_of(body, last_called(before, served)), [] if body.tool_choice == "none" else tools)
    if len(starts) == 1:
        texts.append(starts[0].text)
    ask = Ask(
        served=served,
        ids=(*before, *encode_turns(texts, tokenizer)),
        options=tuple(tuple(tokenizer.encode(one.text)) for one in starts) if len(starts) > 1 else (),
        forms=tuple(start.form for start in starts),
        sampling=body.sampling(len(served.predictor.tokens)),
        max_tokens=TOKENS if body.max_output_tokens is None else body.max_output_tokens,
        stop=(END, *body.stops),
        slot=slot,
    )
    return ask, starts


def _tool(tool: Any) -> Tool:
    function = ToolFunction(
        name=tool.name, description=tool.description, parameters=tool.parameters, strict=tool.strict
    )
    return Tool(function=function)


def _choice(choice: str | ResponseToolChoice | None) -> str | NamedTool | None:
    if isinstance(choice, ResponseToolChoice):
        return NamedTool(function=NamedFunction(name=choice.name))
    return choice


def last_called(before: tuple[int, ...], served: Served) -> str:
    """Return the name of the tool that the last turn of a conversation calls; empty if it calls none.

    An answer has one call, so what a request sends after it as the output of a call is that of this one.
    """
    tokenizer, size = served.predictor.tokenizer, _TAIL
    while True:
        text = tokenizer.decode(before[-size:]).removesuffix(END)
        _, end, turn = text.rpartition(END)
        if end or size >= len(before):
            found = _CALL.match(turn)
            return found[1] if found else ""
        size *= 8


def messages_of(body: Response, called: str = "") -> list[Message]:
    """Return the instructions and the input as messages.

    Args:
        body: the request.
        called: name of the tool whose output the input may have without its call.

    Raises:
        RequestError: the input has no item, or one of a type that is not known.
    """
    found = [Message(role="system", content=body.instructions)] if body.instructions else []
    if isinstance(body.input, str):
        return [*found, Message(role="user", content=body.input)]
    calls = {item.call_id for item in body.input if item.type == "function_call"}
    for item in body.input:
        if (message := _message(item)) is not None:
            if message.role == "tool" and item.call_id not in calls:
                message.name = called or None
            found.append(message)
    if not found:
        raise bad("input has no items", "input")
    return found


def new_of_response(body: Response, served: Served, before: tuple[int, ...]) -> tuple[int, ...]:
    """Return the ids of what a request sends that was not sent before."""
    return newest(messages_of(body, last_called(before, served)), served)


def _message(item: Item) -> Message | None:
    match item.type:
        case "message":
            return Message(role=item.role, content=item.content)
        case "function_call":
            call = ToolCall(id=item.call_id, function=Function(name=item.name, arguments=item.arguments))
            return Message(role="assistant", tool_calls=[call])
        case "function_call_output":
            return Message(role="tool", content=item.output, tool_call_id=item.call_id)
        case "reasoning":  # the model thinks in words, which are in its messages
            return None
        case _:
            raise bad(f"input has an item of the type {item.type!r}, which is not known", "input")


class Responses:
    """Makes the objects of one request.

    Args:
        body: the request.
        ask: its answer.
        starts: how it may start.
        keep: keeps what was read, before the answer ends.
    """

    def __init__(self, body: Response, ask: Ask, starts: list[Opening], keep: Keep) -> None:
        self._body, self._ask, self._keep = body, ask, keep
        self._usage, self._answer = Usage([ask]), Answer(starts, 0)
        self._id, self._item = f"resp_{token_hex(12)}", f"msg_{token_hex(12)}"
        self._created, self._sent = int(time.time()), 0

    async def whole(self, events: Iterable[tuple[int, Event]]) -> dict[str, Any]:
        """Return the response in one object, once it can be continued."""
        for _, found in events:
            await self._keep_end(found)
            for _ in self._read(found):
                pass
        return self._object()

    async def chunks(self, channel: Channel, ping: float) -> AsyncIterator[bytes]:
        """Yield the response as server-sent events."""
        yield self._event("response.created", response=self._object())
        yield self._event("response.in_progress", response=self._object())
        async for found in channel.events(ping):
            if found is None:
                yield PING
                continue
            await self._keep_end(found[1])
            for delta in self._read(found[1]):
                for name, fields in self._events(delta):
                    yield self._event(name, **fields)
        status = "response.completed" if self._answer.finish != "length" else "response.incomplete"
        yield self._event(status, response=self._object())

    async def _keep_end(self, found: Event) -> None:
        """Keep what was read, at the end of an answer, unless the request forbids it."""
        if isinstance(found, Ended) and self._body.store is not False:
            missing = next(END[size:] for size in (2, 1, 0) if found.data.endswith(END[:size].encode()))
            tokenizer = self._ask.served.predictor.tokenizer
            rest = tokenizer.encode_bytes(found.unread + missing.encode())
            await self._keep(self._id, (*found.ids, *rest), self._ask.served)

    def _read(self, found: Event) -> Iterator[dict[str, Any]]:
        self._usage.add(0, found)
        yield from self._answer.deltas(found)

    def _event(self, kind: str, /, **fields: Any) -> bytes:
        self._sent += 1
        return event({"type": kind, "sequence_number": self._sent - 1, **fields}, kind)

    def _events(self, delta: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the events of what was added to the answer."""
        place = {"item_id": self._item, "output_index": 0}
        call = self._answer.tool is not None
        part = place | {"content_index": 0}
        if "role" in delta:
            yield "response.output_item.added", {"output_index": 0, "item": self._output("in_progress")}
            if not call:
                yield "response.content_part.added", part | {"part": _text("")}
        elif delta:
            text = delta["tool_calls"][0]["function"]["arguments"] if call else delta["content"]
            if call:
                yield "response.function_call_arguments.delta", place | {"delta": text}
            else:
                yield "response.output_text.delta", part | {"delta": text, "logprobs": []}
        else:
            text = self._answer.text
            if call:
                named = {"arguments": text, "name": self._answer.tool}
                yield "response.function_call_arguments.done", place | named
            else:
                yield "response.output_text.done", part | {"text": text, "logprobs": []}
                yield "response.content_part.done", part | {"part": _text(text)}
            yield "response.output_item.done", {"output_index": 0, "item": self._output(self._status)}

    @property
    def _status(self) -> str:
        if self._answer.finish is None:
            return "in_progress"
        return "incomplete" if self._answer.finish == "length" else "completed"

    def _output(self, status: str) -> dict[str, Any]:
        answer = self._answer
        if answer.tool is not None:
            fields = {"call_id": answer.call, "name": answer.tool, "arguments": answer.text}
            return {"id": self._item, "type": "function_call", "status": status, **fields}
        content = [_text(answer.text)] if answer.finish is not None else []
        fields = {"role": "assistant", "content": content}
        return {"id": self._item, "type": "message", "status": status, **fields}

    def _object(self) -> dict[str, Any]:
        body, ended = self._body, self._answer.finish is not None
        incomplete = {"reason": "max_output_tokens"} if self._status == "incomplete" else None
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": self._status,
            "error": None,
            "incomplete_details": incomplete,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": body.metadata or {},
            "model": self._ask.served.id,
            "output": [self._output(self._status)] if ended else [],
            "parallel_tool_calls": False,
            "previous_response_id": body.previous_response_id,
            "store": body.store is not False,
            "temperature": self._ask.sampling.temperature,
            "text": {"format": msgspec.to_builtins(_format(body))},
            "tool_choice": body.tool_choice if isinstance(body.tool_choice, str) else "auto",
            "tools": [],
            "top_p": self._ask.sampling.top_p,
            "truncation": "disabled",
            "usage": self._usage.of_response() if ended else None,
        }


def _format(body: Response) -> TextFormat | ObjectFormat | ResponseSchema:
    return (body.text.format if body.text else None) or TextFormat()


def _text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

"""``/v1/chat/completions``: messages to asks, and events to the objects that clients read."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from secrets import token_hex
from typing import Any

from sttx_train.serve.bodies import Chat
from sttx_train.serve.catalog import Served
from sttx_train.serve.completions import FINISH
from sttx_train.serve.conversation import END, Opening, encode_turns, openings, turns
from sttx_train.serve.failures import bad
from sttx_train.serve.forms import form_of
from sttx_train.serve.jobs import Ask, Ended, Event, Generated, PromptRead
from sttx_train.serve.slots import SlotName
from sttx_train.serve.streaming import DONE, PING, Channel, event
from sttx_train.serve.tokens import Token, chat_logprobs
from sttx_train.serve.usage import Usage

TOKENS = 1024  # of an answer, by default


def chat_asks(
    body: Chat, served: Served, most: int, slot: SlotName | None = None
) -> tuple[list[Ask], list[Opening]]:
    """Return the answers that a body asks for, `n` of them, and how each of them may start.

    Args:
        body: the request.
        served: the model.
        most: most tokens that may be asked for.
        slot: where the state at the end is kept.

    Raises:
        RequestError: the body asks for what is not possible.
    """
    name = "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens"
    asked = getattr(body, name)
    body.check(most, asked, name)
    if body.top_logprobs and not body.logprobs:
        raise bad("top_logprobs has no effect without logprobs", "top_logprobs")
    tokenizer = served.predictor.tokenizer
    sampling = body.sampling(len(served.predictor.tokens))
    tools = body.tools or []
    form = form_of(body.response_format, "response_format", served)
    starts = openings(tools, body.tool_choice, served, form)
    texts = turns(body.messages, [] if body.tool_choice == "none" else tools)
    if len(starts) == 1:
        texts.append(starts[0].text)
    ids = encode_turns(texts, tokenizer)
    options = tuple(tuple(tokenizer.encode(start.text)) for start in starts) if len(starts) > 1 else ()
    asks = [
        Ask(
            served=served,
            ids=ids,
            options=options,
            forms=tuple(start.form for start in starts),
            sampling=sampling,
            max_tokens=TOKENS if asked is None else asked,
            stop=(END, *body.stops),
            stream=stream,
            top=(body.top_logprobs or 0) if body.logprobs else None,
            slot=slot,
        )
        for stream in range(body.n or 1)
    ]
    return asks, starts


class Chats:
    """Makes the objects of one request.

    Args:
        body: the request.
        served: the model.
        asks: its answers.
        starts: how each of them may start.
    """

    def __init__(self, body: Chat, served: Served, asks: list[Ask], starts: list[Opening]) -> None:
        self._body, self._served = body, served
        self._usage = Usage(asks, len(asks))
        self._id, self._created = f"chatcmpl-{token_hex(12)}", int(time.time())
        self._answers = [Answer(starts, body.top_logprobs or 0) for _ in asks]

    def whole(self, events: Iterable[tuple[int, Event]]) -> dict[str, Any]:
        """Return the answers in one object."""
        for index, found in events:
            self._usage.add(index, found)
            for _ in self._answers[index].deltas(found):
                pass
        choices = [
            answer.choice(index, bool(self._body.logprobs)) for index, answer in enumerate(self._answers)
        ]
        return self._object("chat.completion", choices) | {"usage": self._usage.as_json()}

    async def chunks(self, channel: Channel, ping: float) -> AsyncIterator[bytes]:
        """Yield the answers as server-sent events."""
        extra = {"usage": None} if self._body.wants_usage else {}
        async for found in channel.events(ping):
            if found is None:
                yield PING
                continue
            index, happened = found
            self._usage.add(index, happened)
            answer = self._answers[index]
            for delta in answer.deltas(happened):
                choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
                if self._body.logprobs:
                    choice["logprobs"] = answer.take_logprobs()
                if not delta:
                    choice["finish_reason"] = answer.finish
                yield event(self._object("chat.completion.chunk", [choice]) | extra)
        if self._body.wants_usage:
            yield event(self._object("chat.completion.chunk", []) | {"usage": self._usage.as_json()})
        yield DONE

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._served.id,
            "system_fingerprint": self._served.fingerprint,
            "choices": choices,
        }


class Answer:
    """One answer while it comes: words, or the call of a tool.

    Args:
        starts: how it may start.
        top: how many likeliest tokens are shown.

    Attributes:
        text: the words, or the arguments of the call, so far.
        tool: the tool that is called; None for words.
        call: id of the call.
        finish: why it ended; None before.
    """

    def __init__(self, starts: list[Opening], top: int) -> None:
        self._starts, self._top = starts, top
        self.text, self.tool, self.call = "", None, f"call_{token_hex(12)}"
        self.finish: str | None = None
        self._tokens: list[Token] = []

    def deltas(self, event: Event) -> Iterable[dict[str, Any]]:
        """Yield what an event adds to the answer; an empty one at its end."""
        if isinstance(event, PromptRead):
            self.tool = self._starts[event.chosen or 0].tool
            yield self._first()
        elif isinstance(event, Generated):
            self._tokens.append(event.token)
            text = event.text if self.text else event.text.lstrip()
            if text:
                self.text += text
                yield self._more(text)
        elif isinstance(event, Ended):
            called = self.tool is not None and event.finish != "length"
            self.finish = "tool_calls" if called else FINISH[event.finish]
            yield {}

    def _first(self) -> dict[str, Any]:
        if self.tool is None:
            return {"role": "assistant", "content": ""}
        function = {"name": self.tool, "arguments": ""}
        call = {"index": 0, "id": self.call, "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}

    def _more(self, text: str) -> dict[str, Any]:
        if self.tool is None:
            return {"content": text}
        return {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}

    def take_logprobs(self) -> dict[str, Any]:
        """Return the log-probabilities of the tokens since the last call."""
        tokens, self._tokens = self._tokens, []
        return chat_logprobs(tokens, self._top)

    def choice(self, index: int, logprobs: bool) -> dict[str, Any]:
        """Return the whole answer."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text, "refusal": None}
        if self.tool is not None:
            function = {"name": self.tool, "arguments": self.text}
            call = {"id": self.call, "type": "function", "function": function}
            message |= {"content": None, "tool_calls": [call]}
        return {
            "index": index,
            "message": message,
            "logprobs": self.take_logprobs() if logprobs else None,
            "finish_reason": self.finish,
        }

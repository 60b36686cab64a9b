"""``/v1/completions``: prompts to asks, and events to the objects that clients read."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterable
from secrets import token_hex
from typing import Any

from sttx_train.serve.bodies import Completion
from sttx_train.serve.catalog import Served
from sttx_train.serve.conversation import END, encode_turns
from sttx_train.serve.failures import bad
from sttx_train.serve.jobs import Ask, Ended, Event, Generated, PromptRead
from sttx_train.serve.slots import SlotName
from sttx_train.serve.streaming import DONE, PING, Channel, event
from sttx_train.serve.tokens import Token, completion_logprobs
from sttx_train.serve.usage import Usage

_TOKENS = 16  # as OpenAI's default
FINISH = {"stop": "stop", "end": "stop", "length": "length"}
_TURNS = re.compile(rf"(?<={END})")
_MOST = 2048  # prompts of one request


def completion_asks(body: Completion, served: Served, most: int, slot: SlotName | None = None) -> list[Ask]:
    """Return the texts that a body asks for: `n` of each prompt, in order.

    Args:
        body: the request.
        served: the model.
        most: most tokens that may be asked for.
        slot: where the state at the end is kept.

    Raises:
        RequestError: the body asks for what is not possible.
    """
    body.check(most, body.max_tokens, "max_tokens")
    predictor = served.predictor
    sampling = body.sampling(len(predictor.tokens))
    return [
        Ask(
            served=served,
            ids=ids,
            sampling=sampling,
            max_tokens=_TOKENS if body.max_tokens is None else body.max_tokens,
            stop=body.stops,
            stream=stream,
            top=body.logprobs,
            echo=bool(body.echo),
            slot=slot,
        )
        for ids in _prompts(body, served)
        for stream in range(body.n or 1)
    ]


def _prompts(body: Completion, served: Served) -> list[tuple[int, ...]]:
    prompt = body.prompt
    if isinstance(prompt, str):
        return [encoded(prompt, served)]
    ids = [one for one in prompt if isinstance(one, int)]
    lists = [one for one in prompt if isinstance(one, list)]
    texts = [one for one in prompt if isinstance(one, str)]
    if len(prompt) not in (len(ids), len(lists), len(texts)):
        raise bad("prompt must be one text or a list of texts, of ids, or of lists of ids", "prompt")
    if ids:
        return [checked(ids, served)]
    if not prompt or len(prompt) > _MOST:
        raise bad(f"prompt must have 1 to {_MOST} texts or lists of ids", "prompt")
    return [checked(one, served) for one in lists] or [encoded(one, served) for one in texts]


def encoded(text: str, served: Served) -> tuple[int, ...]:
    """Return the ids of a text, each turn encoded by itself as in training; a blank line ends a turn."""
    return encode_turns(_TURNS.split(text), served.predictor.tokenizer)


def checked(ids: Iterable[int], served: Served, name: str = "prompt") -> tuple[int, ...]:
    """Return ids that a request has given.

    Args:
        ids: the ids.
        served: the model.
        name: the field that has them.

    Raises:
        RequestError: there are none, or one is not in the vocabulary.
    """
    found = tuple(ids)
    size = len(served.predictor.tokens)
    if not found or not all(token < size for token in found):
        raise bad(f"{name} needs at least one id, each below {size}", name)
    return found


class Completions:
    """Makes the objects of one request.

    Args:
        body: the request.
        served: the model.
        asks: its texts.
    """

    def __init__(self, body: Completion, served: Served, asks: list[Ask]) -> None:
        self._body, self._served, self._asks = body, served, asks
        self._usage = Usage(asks, body.n or 1)
        self._id, self._created = f"cmpl-{token_hex(12)}", int(time.time())
        self._texts = [_Text(ask) for ask in asks]

    def whole(self, events: Iterable[tuple[int, Event]]) -> dict[str, Any]:
        """Return the answer in one object."""
        parts: list[list[dict[str, Any]]] = [[] for _ in self._asks]
        for index, found in events:
            self._usage.add(index, found)
            parts[index].extend(self._texts[index].choices(found))
        choices = [self._joined(index, part) for index, part in enumerate(parts)]
        return self._object(choices) | {"usage": self._usage.as_json()}

    async def chunks(self, channel: Channel, ping: float) -> AsyncIterator[bytes]:
        """Yield the answer as server-sent events."""
        wants_usage = self._body.wants_usage
        extra = {"usage": None} if wants_usage else {}
        async for found in channel.events(ping):
            if found is None:
                yield PING
                continue
            self._usage.add(*found)
            for choice in self._texts[found[0]].choices(found[1]):
                yield event(self._object([{"index": found[0], **choice}]) | extra)
        if wants_usage:
            yield event(self._object([]) | {"usage": self._usage.as_json()})
        yield DONE

    def _object(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "model": self._served.id,
            "system_fingerprint": self._served.fingerprint,
            "choices": choices,
        }

    def _joined(self, index: int, parts: list[dict[str, Any]]) -> dict[str, Any]:
        logprobs: dict[str, list[Any]] | None = None
        for part in parts:
            if part["logprobs"] is not None:
                logprobs = logprobs or {name: [] for name in part["logprobs"]}
                for name, more in part["logprobs"].items():
                    logprobs[name].extend(more)
        return {
            "index": index,
            "text": "".join(part["text"] for part in parts),
            "logprobs": logprobs,
            "finish_reason": parts[-1]["finish_reason"],
        }


class _Text:
    """The choices of one text, from its events."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._offset = 0
        self._held: list[Token] = []

    def choices(self, event: Event) -> Iterable[dict[str, Any]]:
        """Yield what an event adds to the answer."""
        if isinstance(event, PromptRead) and self._ask.echo:
            data = b"".join(self._ask.served.predictor.tokens[token] for token in self._ask.ids)
            yield self._choice(data.decode(errors="replace"), event.tokens)
        elif isinstance(event, Generated):
            self._held.append(event.token)
            if event.text:
                yield self._choice(event.text, self._take())
        elif isinstance(event, Ended):
            yield self._choice("", self._take()) | {"finish_reason": FINISH[event.finish]}

    def _take(self) -> list[Token]:
        held, self._held = self._held, []
        return held

    def _choice(self, text: str, tokens: Iterable[Token]) -> dict[str, Any]:
        logprobs = None
        if self._ask.top is not None:
            logprobs = completion_logprobs(list(tokens), self._offset)
        self._offset += len(text)
        return {"text": text, "logprobs": logprobs, "finish_reason": None}

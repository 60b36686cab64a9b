"""Reads examples for tuning: JSON lines of pairs, chats and texts, as tokens that are learned or only read.

```
{"prompt": "2+2?", "completion": "4"}
{"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}
{"text": "Any text."}
```

They are written as `sttx_core.render` writes turns, so that a state works in any RWKV chat program: of the
first two, ``User: 2+2?``, a blank line, ``Assistant: 4`` and a blank line; learned is what follows
``Assistant:``. A text is learned whole and gets nothing. Other keys are ignored. Knows no model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sttx_core.errors import DataError, UsageError
from sttx_core.foreign_files import open_regular
from sttx_core.os_errors import explain
from sttx_core.render import Part, render, render_parts
from sttx_core.text import encodable
from sttx_core.tokenizers import Tokenizer
from sttx_core.traces import Json, Meta, Pair, ToolResult, ToolUse, UserMessage
from sttx_train.byte_lengths import token_byte_lengths
from sttx_train.tune.config import TuneConfig

_META = Meta(session="")
_LONGEST_LINE = 1 << 28
_NAMED = 10
_WANTED = (
    'each must have "prompt" and "completion", or "text", or "messages" of the roles system, user, assistant '
    "and tool, all of them text"
)


@dataclass(frozen=True, kw_only=True)
class Example:
    """Tokens of one example.

    Attributes:
        context: the token that is read before the others.
        ids: its other tokens, at least one.
        paid: which of them are learned, at least one.
        bytes: UTF-8 bytes of those.
    """

    context: int
    ids: tuple[int, ...]
    paid: tuple[bool, ...]
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Examples:
    """The examples of a file.

    Attributes:
        examples: in the file's order.
        damaged: numbers of the first lines that hold no example, from 1.
        left_out: how many lines hold none.
        cut: how many examples were longer than the limit.
        empty: how many had nothing to learn, or nothing left of it.
    """

    examples: tuple[Example, ...]
    damaged: tuple[int, ...] = ()
    left_out: int = 0
    cut: int = 0
    empty: int = 0

    def notes(self, path: Path) -> list[str]:
        """Return a sentence for each kind of line that was not used as it is."""
        notes = []
        if self.left_out:
            numbers = ", ".join(map(str, self.damaged)) + (", …" if self.left_out > _NAMED else "")
            notes.append(f"{str(path)!r}: {self.left_out:,} lines left out, {_WANTED}: {numbers}")
        if self.empty:
            notes.append(f"{str(path)!r}: {self.empty:,} examples left out, which have nothing to learn")
        if self.cut:
            notes.append(f"{str(path)!r}: {self.cut:,} examples are longer than --ctx, and cut there")
        return notes


@dataclass(frozen=True, kw_only=True)
class Lines:
    """The examples of a file as text.

    Attributes:
        path: the file.
        parts: the parts of each example, in the file's order; at least one example.
        damaged: numbers of the first lines that hold no example, from 1.
        left_out: how many lines hold none.
    """

    path: Path
    parts: tuple[tuple[Part, ...], ...]
    damaged: tuple[int, ...]
    left_out: int


def read_lines(path: Path) -> Lines:
    """Read the examples in a file of JSON lines as text, which takes no model.

    Raises:
        UsageError: there is no such file.
        DataError: it cannot be read, or no line holds an example.
    """
    if not path.is_file():
        raise UsageError(f"{str(path)!r} is not a file: give JSON lines, {_WANTED}")
    found, damaged = [], []
    for number, parts in _lines(path):
        if parts is None:
            damaged.append(number)
        else:
            found.append(parts)
    if not found:
        first = f"; line {damaged[0]} is the first that holds none" if damaged else ""
        raise DataError(f"{str(path)!r} holds no example to learn from{first}: {_WANTED}")
    return Lines(path=path, parts=tuple(found), damaged=tuple(damaged[:_NAMED]), left_out=len(damaged))


def encode_examples(lines: Lines, tokenizer: Tokenizer, config: TuneConfig) -> Examples:
    """Return the examples of a file as tokens.

    Raises:
        DataError: none of them has anything to learn.
    """
    lengths = token_byte_lengths(tokenizer)
    encoded = [_encoded(parts, tokenizer, lengths, config) for parts in lines.parts]
    examples = tuple(example for example, _ in encoded if example is not None)
    if not examples:
        raise DataError(f"{str(lines.path)!r} holds no example to learn from: {_WANTED}")
    return Examples(
        examples=examples,
        damaged=lines.damaged,
        left_out=lines.left_out,
        cut=sum(was_cut for example, was_cut in encoded if example is not None),
        empty=len(encoded) - len(examples),
    )


def read_examples(path: Path, tokenizer: Tokenizer, config: TuneConfig) -> Examples:
    """Read the examples in a file of JSON lines as tokens.

    Raises:
        UsageError: there is no such file.
        DataError: it cannot be read, or holds no example to learn from.
    """
    return encode_examples(read_lines(path), tokenizer, config)


def split_examples(
    examples: Sequence[Example], share: float, seed: int
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Split examples into those to learn and those to measure, which are drawn by the seed.

    Args:
        examples: all of them.
        share: of the examples to measure, from 0 to below 1; above 0 it is one at least.
        seed: of the draw.

    Raises:
        UsageError: nothing would be left to learn.
    """
    if not 0 <= share < 1:
        raise UsageError(f"--validation must be a share from 0 to below 1, or a file, not {share!r}")
    count = max(round(share * len(examples)), 1) if share else 0
    if count >= len(examples):
        raise UsageError(
            f"--validation {share!r} leaves none of {len(examples)} examples to learn: give more, or a file"
        )
    drawn = set(np.random.default_rng(seed).permutation(len(examples))[:count].tolist())
    train = tuple(example for index, example in enumerate(examples) if index not in drawn)
    return train, tuple(examples[index] for index in sorted(drawn))


def fingerprint(examples: Sequence[Example]) -> str:
    """Return a hash of examples: a run is resumed on the same ones only."""
    digest = hashlib.sha256()
    for example in examples:
        row = [example.context, len(example.ids), *example.ids, *example.paid]
        digest.update(np.array(row, "<u4").tobytes())
    return digest.hexdigest()


def parts_of(value: Json) -> tuple[Part, ...] | None:
    r"""Return the text of a line as parts that are learned or only read; None for anything else.

    >>> parts_of({"prompt": "2+2?", "completion": "4"})
    (Part(text='User: 2+2?\n\nAssistant:', paid=False), Part(text=' 4\n\n', paid=True))
    """
    match value:
        case {"messages": list() as messages}:
            return _chat(messages)
        case {"prompt": str() as prompt, "completion": str() as completion}:
            return render_parts(Pair(meta=_META, prompt=prompt, completion=completion))
        case {"text": str() as text}:
            return (Part(encodable(text).replace("\r\n", "\n")),)
        case _:
            return None


def _chat(messages: Sequence[Any]) -> tuple[Part, ...] | None:
    parts: list[Part] = []
    for message in messages:
        turn = _turn(message)
        if turn is None:
            return None
        parts += turn
    return tuple(parts)


def _turn(message: Any) -> tuple[Part, ...] | None:
    """Return a message as parts; only what the assistant wrote is learned."""
    match message:
        case {"role": "user", "content": str() as text}:
            return _unpaid(render(UserMessage(meta=_META, text=text)))
        case {"role": "system", "content": str() as text}:
            folded = render(UserMessage(meta=_META, text=text)).removeprefix("User: ")
            return _unpaid(f"System: {folded}") if folded else ()
        case {"role": "tool", "content": str() as text}:
            name = message.get("name")
            return _unpaid(
                render(ToolResult(meta=_META, name=name if isinstance(name, str) else "", output=text))
            )
        case {"role": "assistant"}:
            return _answer(message)
        case _:
            return None


def _answer(message: dict[str, Any]) -> tuple[Part, ...] | None:
    text, calls = message.get("content") or "", message.get("tool_calls") or []
    if not isinstance(text, str) or not isinstance(calls, list):
        return None
    parts = render_parts(Pair(meta=_META, prompt="", completion=text))
    for call in calls:
        match call:
            case {"function": {"name": str() as name, "arguments": str() as arguments}}:
                try:
                    given = json.loads(arguments)
                except ValueError:
                    return None
                parts += (Part(render(ToolUse(meta=_META, name=name, input=given))),)
            case _:
                return None
    return parts


def _unpaid(text: str) -> tuple[Part, ...]:
    return (Part(text, paid=False),) if text else ()


def _lines(path: Path) -> Iterator[tuple[int, tuple[Part, ...] | None]]:
    """Yield each line's number and parts; None if it holds no example."""
    try:
        with open_regular(path) as file:
            number = 0
            while line := file.readline(_LONGEST_LINE):
                number += 1
                if line.strip():
                    yield number, _parsed(line)
    except OSError as error:
        raise DataError(f"cannot read {str(path)!r}: {explain(error)}") from error


def _parsed(line: bytes) -> tuple[Part, ...] | None:
    try:
        return parts_of(json.loads(line.decode("utf-8-sig")))
    except (ValueError, RecursionError):
        return None


def _encoded(
    parts: Sequence[Part], tokenizer: Tokenizer, lengths: np.ndarray, config: TuneConfig
) -> tuple[Example | None, bool]:
    """Return the example of some parts, None if nothing of it is learned; and whether it was cut."""
    ids: list[int] = [tokenizer.eot_id] if config.eot else []
    paid = [False] * len(ids)
    for part in parts:
        encoded = tokenizer.encode(part.text)
        ids += encoded
        paid += [part.paid or config.loss == "all"] * len(encoded)
    was_cut = len(ids) > config.ctx
    ids, paid = ids[: config.ctx], paid[: config.ctx]
    if not any(paid[1:]):
        return None, was_cut
    learned = lengths[np.array(ids[1:])][np.array(paid[1:])].sum()
    example = Example(context=ids[0], ids=tuple(ids[1:]), paid=tuple(paid[1:]), bytes=int(learned))
    return example, was_cut

"""Prompts with and without memory, side by side: the base sees the prompt alone, and the memory the rest.

With memory, all messages before the last are written, and the base then forgets them; without, nothing is
written. Both see the same tokens. It refuses to compare if the memory is not active. Knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypedDict

import msgspec

from sttx_core.errors import DataError, UsageError
from sttx_core.foreign_files import shown
from sttx_train.generate import SamplingConfig
from sttx_train.memory.health import Health, divergence
from sttx_train.memory.serving import MemoryPredictor, MemoryReader
from sttx_train.serve.bodies import Message
from sttx_train.serve.conversation import ANSWER, END, encode_turns, turns
from sttx_train.serve.failures import RequestError


class Said(TypedDict):
    """An answer: its text, how many tokens it has, and why it ended."""

    text: str
    tokens: int
    finish: str | None


class Compared(TypedDict):
    """A prompt with both answers.

    ``written`` counts the tokens in the memory, ``divergence`` is how many bits the memory changes the first
    token by, and ``same`` says whether both answers are equal.
    """

    prompt: str
    written: int
    divergence: float
    same: bool
    with_memory: Said
    without_memory: Said


class Prompt(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A line of a suite: messages, of which the last is the prompt; `id` comes back."""

    messages: list[Message]
    id: str | int | None = None


def read_prompts(lines: Iterable[bytes]) -> Iterator[Prompt]:
    """Yield the prompts of JSON lines; empty lines are left out.

    Raises:
        DataError: a line is not such a prompt; names it.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            prompt = msgspec.json.decode(line, type=Prompt)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise DataError(f"line {number} is not a prompt: {shown(str(error))[1:-1]}") from error
        if len(prompt.messages) < 2:
            raise DataError(f"line {number} has no message before its prompt: the memory would be empty")
        yield prompt


def require_active(health: Health) -> None:
    """Refuse to compare with a memory that is not active.

    Raises:
        UsageError: it is not; says why.
    """
    if not health.active:
        raise UsageError(f"the memory is not active, so there is nothing to compare: {health.reason}")


def compare_answers(
    predictor: MemoryPredictor,
    messages: Sequence[Message],
    sampling: SamplingConfig,
    *,
    max_tokens: int,
    stop: Sequence[str] = (),
) -> Compared:
    """Answer the last of some messages with and without a memory of those before.

    Args:
        predictor: with the memory.
        messages: at least two.
        sampling: how tokens are chosen, the same way for both.
        max_tokens: most tokens of an answer.
        stop: texts that end an answer, beside a blank line.

    Raises:
        UsageError: there is one message, or one without text.
    """
    if len(messages) < 2:
        raise UsageError("the memory would be empty: give messages before the prompt")
    try:
        *before, prompt = turns(messages)
    except RequestError as error:
        raise UsageError(str(error)) from error
    remembering, bare = predictor.read(), predictor.read(writes=False)
    history = encode_turns(before, predictor.tokenizer)
    remembering.advance(history)
    remembering.forget_context()
    asked = encode_turns([prompt, ANSWER], predictor.tokenizer)
    for reader in (remembering, bare):
        reader.advance(asked)
    change = divergence(remembering.log_probs(), bare.log_probs())
    first, second = (_said(reader, sampling, max_tokens, (END, *stop)) for reader in (remembering, bare))
    return Compared(
        prompt=prompt.strip(),
        written=len(history),
        divergence=change,
        same=first == second,
        with_memory=first,
        without_memory=second,
    )


def _said(reader: MemoryReader, sampling: SamplingConfig, most: int, stop: Sequence[str]) -> Said:
    generation = reader.generate(sampling, max_tokens=most, stop=stop)
    text = "".join(generation)
    return Said(text=text.strip(), tokens=len(generation.ids), finish=generation.finish_reason)


def answer_line(prompt: Prompt, compared: Compared) -> dict[str, Any]:
    """Return the line of a result."""
    return {**({} if prompt.id is None else {"id": prompt.id}), **compared}

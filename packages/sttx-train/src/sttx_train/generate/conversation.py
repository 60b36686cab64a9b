"""A conversation in the render convention: what a person says is read or learned, and answers are generated.

Knows how turns are written, and readers by their verbs; neither terminals nor files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

from sttx_core.errors import UsageError
from sttx_core.render import render
from sttx_core.tokenizers import Tokenizer
from sttx_core.traces import AssistantMessage, Meta, Trace, UserMessage
from sttx_train.generate.config import SamplingConfig
from sttx_train.generate.generation import Generation

_ANSWER = "Assistant:"
_END = "\n\n"  # a blank line ends a turn


class ChatReader(Protocol):
    """What a reader can do that converses; `sttx_train.Reader` does."""

    def advance(self, ids: Sequence[int]) -> Any:
        """Read tokens without learning from them; return what they cost."""
        ...

    def learn(self, ids: Sequence[int]) -> Any:
        """Pay for tokens, and learn from each window that they complete; return what they cost."""
        ...

    def finish(self) -> None:
        """Learn from the last window, which the end of the document leaves short."""
        ...

    def generate(
        self,
        sampling: SamplingConfig | None = None,
        *,
        max_tokens: int = 256,
        stop: Sequence[str] = (),
        stream: int = 0,
    ) -> Generation:
        """Generate a text after what was read."""
        ...


class Conversation:
    r"""Turns of a person and the model, each read once.

    Args:
        start: returns a reader at a document's start.
        tokenizer: the reader's.
        sampling: how answers are chosen; each answer has random numbers of its own.
        max_tokens: most tokens of an answer.
        stop: texts that end an answer, beside the end of its turn.
        learns: learn from what the person says.
        name: name of the session in the traces.

    Attributes:
        traces: the turns so far.
    """

    def __init__(
        self,
        start: Callable[[], ChatReader],
        tokenizer: Tokenizer,
        *,
        sampling: SamplingConfig | None = None,
        max_tokens: int = 256,
        stop: Sequence[str] = (),
        learns: bool = False,
        name: str = "chat",
    ) -> None:
        self._start, self._tokenizer, self._learns, self._name = start, tokenizer, learns, name
        self._sampling, self._max_tokens, self._stop = sampling, max_tokens, (_END, *stop)
        self._answers = 0
        self._reader = start()
        self.traces: list[Trace] = []

    def reset(self) -> None:
        """Forget all turns; what was learned stays, that of the last window included."""
        if self._learns:
            self._reader.finish()
        self._reader = self._start()
        self.traces = []

    def say(self, text: str) -> Any:
        """Read what the person says, or learn from it; return what it cost.

        Raises:
            UsageError: it is blank.
        """
        trace = UserMessage(meta=self._meta(), text=text)
        if not (rendered := render(trace)):
            raise UsageError("nothing was said: write a line of text")
        self.traces.append(trace)
        ids = self._tokenizer.encode(rendered)
        return self._reader.learn(ids) if self._learns else self._reader.advance(ids)

    def answer(self) -> Generator[str, None, None]:
        """Generate the model's turn; yield its pieces.

        If the iterator is closed before its end, the turn ends there and the conversation can go on.
        """
        self._reader.advance(self._tokenizer.encode(_ANSWER))
        self._answers += 1
        generation = self._reader.generate(
            self._sampling, max_tokens=self._max_tokens, stop=self._stop, stream=self._answers
        )
        try:
            yield from generation
        finally:
            self._close(generation)

    def _close(self, generation: Generation) -> None:
        """Let the reader read the end of the turn."""
        missing = _END[next(size for size in (2, 1, 0) if generation.data.endswith(_END[:size].encode())) :]
        if rest := generation.unread + missing.encode():
            self._reader.advance(self._tokenizer.encode_bytes(rest))
        text = generation.text.strip()
        if text:
            self.traces.append(AssistantMessage(meta=self._meta(), text=text))

    def _meta(self) -> Meta:
        return Meta(session=self._name, time=time.time(), uid=f"{self._name}-{len(self.traces)}")

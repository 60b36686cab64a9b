"""`OnlineMemorySession`: one conversation and its memory, which is written as the conversation goes on.

The base sees a window of the latest tokens; the memory is all that stays of those before. A full window is
dropped with its cache, and the next one begins with the last few tokens, which are read again but not written
again. Knows no files and no chat format.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sttx_core.errors import UsageError
from sttx_train.memory.attached import AttachedMemory
from sttx_train.memory.session_config import SessionConfig


class Followed(NamedTuple):
    """What `OnlineMemorySession.follow` did.

    Attributes:
        kept: tokens that the session had already.
        ingested: tokens that it read now.
        rebuilt: whether it forgot everything first, because the conversation differs.
    """

    kept: int
    ingested: int
    rebuilt: bool


@dataclass
class Seen:
    """The window that the base sees.

    Attributes:
        first: number of the first token that is written in it.
        context: tokens at its begin that were only read: `start`, and the overlap.
        calls: of the calls that wrote since, how many tokens, and whether a new block began.
        state: of the memory when it began.
    """

    first: int
    context: list[int]
    calls: list[tuple[int, bool]]
    state: dict[str, Tensor]


class OnlineMemorySession:
    """A conversation with a memory; it forgets what the memory held before.

    Args:
        memory: attached to the base, and used by nothing else meanwhile.
        config: when it writes.
        start: ids that the base wants before a text.
        ends_sentence: whether a token ends a sentence; for the unit ``sentence``.

    Attributes:
        ids: all tokens of the conversation.
        ends: how many tokens there are up to the end of each finished message.
        written: how many of the tokens are written.

    Raises:
        UsageError: the unit is ``sentence``, and nothing says where one ends; it is ``token``, and written
            tokens do not read; or the window is too small.
    """

    def __init__(
        self,
        memory: AttachedMemory,
        config: SessionConfig | None = None,
        *,
        start: Sequence[int] = (),
        ends_sentence: Callable[[int], bool] | None = None,
    ) -> None:
        self.memory, self.config = memory, config or SessionConfig()
        self.start, self.ends_sentence = list(start), ends_sentence
        if self.config.unit == "sentence" and ends_sentence is None:
            raise UsageError("nothing says where a sentence ends: give ends_sentence, or use another unit")
        if self.config.unit == "token" and not memory.config.write_reads:
            raise UsageError("--unit token would never read: this memory was trained with --no-write-reads")
        if len(self.start) + self.config.overlap >= self.config.window:
            raise UsageError(f"--window must be above {len(self.start) + self.config.overlap} here")
        self.reset()

    def reset(self) -> None:
        """Forget the conversation."""
        self.memory.reset()
        self.ids: list[int] = []
        self.ends: list[int] = []
        self.written = 0
        self.seen = Seen(0, [], [], {})
        self.cache: Any = None
        self._logits: Tensor | None = None

    def ingest(self, ids: Sequence[int], *, end: bool = True) -> None:
        """Read tokens, and write the units that are complete.

        Args:
            ids: the tokens.
            end: whether the message ends with them.

        Raises:
            UsageError: an id is not one of the base's.
        """
        self._check(ids)
        for token in ids:
            self.ids.append(int(token))
            match self.config.unit:
                case "token":
                    first = self.written == (self.ends[-1] if self.ends else 0)
                    self._write_to(len(self.ids), at_once=1, block=first)
                case "sentence" if self.ends_sentence is not None and self.ends_sentence(int(token)):
                    self._write_unit()
        if end and len(self.ids) > (self.ends[-1] if self.ends else 0):
            self._write_unit()
            self.ends.append(len(self.ids))

    def follow(self, messages: Sequence[Sequence[int]]) -> Followed:
        """Become the session of a conversation that is given whole.

        If it begins with what this session has read, only the rest is read; otherwise everything is forgotten
        and read again.

        Args:
            messages: the tokens of each message; all have ended.
        """
        ends, total = [], 0
        for message in messages:
            total += len(message)
            ends.append(total)
        whole = [int(token) for message in messages for token in message]
        self._check(whole)
        known = len(self.ids)
        fits = self.ids == whole[:known] and [end for end in ends if end <= known] == self.ends
        if not fits:
            self.reset()
        kept = len(self.ids)
        for end in ends:
            if end > len(self.ids):
                self.ingest(whole[len(self.ids) : end])
        return Followed(kept, len(self.ids) - kept, not fits and known > 0)

    def next_logits(self) -> Tensor:
        """Return the logits of the next token ``[V]``, float32; nothing changes.

        Raises:
            UsageError: nothing was read yet, so that there is nothing to continue.
        """
        pending = self.ids[self.written :]
        if not pending:
            if self._logits is None:
                raise UsageError("nothing was read yet: ingest a message first")
            return self._logits
        return self._forward(pending, copy.deepcopy(self._current_cache()))[0]

    def generate(
        self,
        count: int,
        choose: Callable[[Tensor], int] | None = None,
        stop: Callable[[list[int]], bool] | None = None,
    ) -> list[int]:
        """Generate tokens, and read them as the next part of the conversation; the message stays open.

        Args:
            count: most tokens.
            choose: a token by its logits; the likeliest when None.
            stop: called with all tokens so far; when it returns true, the last one is the end.
        """
        choose = choose or (lambda logits: int(logits.argmax()))
        made: list[int] = []
        logits, cache = self.next_logits(), None
        while len(made) < count:
            made.append(choose(logits))
            done = len(made) == count or (stop is not None and stop(made))
            if self.config.unit == "token":
                self.ingest(made[-1:], end=False)
            if done:
                break
            if self.config.unit == "token":
                logits = self.next_logits()
            elif cache is None:
                cache = copy.deepcopy(self._current_cache())
                logits, cache = self._forward([*self.ids[self.written :], *made], cache)
            else:
                logits, cache = self._forward(made[-1:], cache)
        if self.config.unit != "token":
            self.ingest(made, end=False)
        return made

    def save(self, folder: Path) -> None:
        """Save the session; a kill at any moment leaves the old one or the new one.

        Raises:
            CheckpointError: the folder cannot be written.
        """
        from sttx_train.memory.session_files import save_session

        save_session(self, folder)

    def load(self, folder: Path) -> None:
        """Become the session that was saved; it continues bit for bit on the same machine.

        Raises:
            CheckpointError: the folder is damaged, of another version, or was saved with another base,
                adapter or config; this session keeps what it had.
        """
        from sttx_train.memory.session_files import load_session

        load_session(self, folder)

    def replay(self, ids: list[int], ends: list[int], written: int, seen: Seen) -> None:
        """Become a session with these tokens, and run the calls of its window again."""
        self.ids, self.ends, self.written = ids, ends, seen.first
        self.seen = Seen(seen.first, list(seen.context), [], seen.state)
        self.memory.load_state_tensors(seen.state)
        self.cache = None
        self._logits = None
        if seen.context:
            self._logits, self.cache = self._forward(seen.context, None)
        for length, block in seen.calls:
            self._call(length, block)
        assert self.written == written, (self.written, written)

    @property
    def vocabulary_size(self) -> int:
        """How many ids the base has."""
        model: Any = self.memory.model
        return model.get_input_embeddings().num_embeddings

    def _check(self, ids: Sequence[int]) -> None:
        size = self.vocabulary_size
        if wrong := [token for token in ids if not 0 <= int(token) < size]:
            raise UsageError(f"{wrong[0]!r} is not an id of the base, which has {size:,}")

    def _write_unit(self) -> None:
        """Write what is pending, as a block of its own."""
        self._write_to(len(self.ids), at_once=self.config.window, block=True)

    def _write_to(self, stop: int, *, at_once: int, block: bool) -> None:
        block = block and self.memory.config.cut == "block"
        while self.written < stop:
            self._current_cache()
            room = self.config.window - len(self.seen.context) - (self.written - self.seen.first)
            self._call(min(room, stop - self.written, at_once), block)
            block = False

    def _current_cache(self) -> Any:
        """Return the cache of the window; begin the next window if this one is full."""
        length = len(self.seen.context) + self.written - self.seen.first
        if self.cache is None or length >= self.config.window:
            overlap = self.ids[max(self.written - self.config.overlap, 0) : self.written]
            self.seen = Seen(self.written, [*self.start, *overlap], [], self.memory.state_tensors())
            self.cache = None
            if self.seen.context:
                self._logits, self.cache = self._forward(self.seen.context, None)
        return self.cache

    def _call(self, length: int, block: bool) -> None:
        """Write the next tokens in one call of the base."""
        if block:
            self.memory.new_block()
        with self.memory.writing():
            self._logits, self.cache = self._forward(
                self.ids[self.written : self.written + length], self.cache
            )
        self.written += length
        self.seen.calls.append((length, block))

    @torch.no_grad()
    def _forward(self, ids: Sequence[int], cache: Any) -> tuple[Tensor, Any]:
        device = next(self.memory.parameters()).device
        output = self.memory.model(
            input_ids=torch.tensor([list(ids)], device=device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[0, -1].float(), output.past_key_values

"""Cuts a stream of traces into windows of base tokens, document by document. Knows no model.

Sessions interleave, so each document has its own buffer; a batch has at most one window of each document.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from msgspec import Meta

from sttx_core.errors import UsageError
from sttx_core.foreign_files import shown
from sttx_core.render import render_parts
from sttx_core.saved_state import Count, State, checked, damaged
from sttx_core.tokenizers import Tokenizer
from sttx_core.traces import SessionEnd, Trace
from sttx_train.byte_lengths import token_byte_lengths
from sttx_train.online import Window
from sttx_train.online.sharing import share_of

_WHAT = "unfinished windows"


class _Saved(State):
    """What `TraceWindows.state_dict` returns: of each document its name, ids, flags and whether it ended.

    `projects` has the project of each document; earlier versions did not save it.
    """

    buffers: list[tuple[str, Annotated[list[Count], Meta(min_length=1)], list[Literal[0, 1]], bool]]
    projects: dict[str, str] = {}


@dataclass
class _Buffer:
    """Tokens of one document that wait for a full window, and which of them are paid for."""

    ids: deque[int] = field(default_factory=deque)
    paid: deque[bool] = field(default_factory=deque)
    ended: bool = False  # the session has ended, so the rest does not wait for a full window
    project: str = ""


class TraceWindows:
    """Buffers rendered traces and returns them in windows.

    A batch is ready when ``batch`` documents have a full window, or when one document has two; with
    ``ahead``, when so many tokens wait. With ``batch=1`` every full window is ready at once. The windows
    depend on the traces alone. A batch prefers documents of different shares, which several processes read at
    the same time.

    Args:
        tokenizer: the model's tokenizer.
        size: base tokens of a window.
        batch: largest number of windows in a batch, each of another document.
        documents: largest number of documents with an unfinished window; beyond it the least recently used
            document's window is returned short.
        ahead: tokens that may wait for windows of other documents.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, size: int = 64, batch: int = 1, documents: int = 64, ahead: int = 0
    ) -> None:
        if size < 1 or batch < 1:
            raise UsageError(f"--window and --batch must be at least 1, not {size!r} and {batch!r}")
        self.tokenizer, self.size, self.batch, self.documents = tokenizer, size, batch, documents
        self.ahead = ahead
        self.byte_lengths = token_byte_lengths(tokenizer)
        self._buffers: OrderedDict[str, _Buffer] = OrderedDict()

    def add(self, trace: Trace) -> int:
        """Encode a trace's text into its document's buffer; return the number of its tokens."""
        tokens = 0
        for part in render_parts(trace):
            ids = self.tokenizer.encode(part.text)
            if ids:
                buffer = self._buffers.setdefault(trace.document, _Buffer())
                buffer.ids.extend(ids)
                buffer.paid.extend([part.paid] * len(ids))
                tokens += len(ids)
        if (waiting := self._buffers.get(trace.document)) is not None:
            waiting.ended = isinstance(trace, SessionEnd)
            waiting.project = trace.meta.project
            self._buffers.move_to_end(trace.document)
        return tokens

    def take(self) -> list[Window] | None:
        """Return the next batch of windows, full or at a session's end; None until more traces come."""
        full = [name for name, buffer in self._buffers.items() if self._is_ready(buffer)]
        if len(full) >= self.batch or (full and self._waits_long(full)):
            return [self._cut(name) for name in self._chosen(full)]
        if len(self._buffers) > self.documents:
            return [self._cut(next(iter(self._buffers)))]
        return None

    def _waits_long(self, full: list[str]) -> bool:
        """Whether a batch is ready, though more documents could have a window later."""
        if self.ahead:
            return sum(len(buffer.ids) for buffer in self._buffers.values()) > self.ahead
        return any(self._is_ready(self._buffers[name], windows=2) for name in full)

    def _chosen(self, names: list[str]) -> list[str]:
        """Return the documents of a batch: the first of each share, then the second of each, and so on."""
        seen: Counter[int] = Counter()
        rounds = []
        for name in names:
            share = share_of(name, self.batch)
            rounds.append(seen[share])
            seen[share] += 1
        order = sorted(range(len(names)), key=rounds.__getitem__)
        return [names[index] for index in order[: self.batch]]

    def _is_ready(self, buffer: _Buffer, windows: int = 1) -> bool:
        return buffer.ended or len(buffer.ids) >= windows * self.size

    def flush(self) -> list[Window] | None:
        """Return a batch of what is left at the end of the stream, None if nothing is."""
        return [self._cut(name) for name in self._chosen(list(self._buffers))] or None

    def _cut(self, name: str) -> Window:
        buffer = self._buffers[name]
        length = min(self.size, len(buffer.ids))
        ids = tuple(buffer.ids.popleft() for _ in range(length))
        paid = tuple(buffer.paid.popleft() for _ in range(length))
        if not buffer.ids:
            del self._buffers[name]
        return Window(document=name, ids=ids, paid=None if all(paid) else paid, project=buffer.project)

    def state_dict(self) -> dict[str, Any]:
        """Return the buffered tokens, JSON-able, in order."""
        projects = {name: buffer.project for name, buffer in self._buffers.items() if buffer.project}
        return {
            "buffers": [
                [name, list(buffer.ids), [int(paid) for paid in buffer.paid], buffer.ended]
                for name, buffer in self._buffers.items()
            ],
            **({"projects": projects} if projects else {}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned.

        Raises:
            CheckpointError: the state is damaged.
        """
        meta = checked(_Saved, state, _WHAT)
        saved, projects = meta.buffers, meta.projects
        for name, ids, paid, _ in saved:
            if len(ids) != len(paid) or max(ids) >= self.tokenizer.vocab_size:
                raise damaged(_WHAT, f"document {shown(name)} has other ids than the vocabulary, or flags")
        self._buffers = OrderedDict(
            (name, _Buffer(deque(ids), deque(bool(flag) for flag in paid), ended, projects.get(name, "")))
            for name, ids, paid, ended in saved
        )
        if len(self._buffers) != len(saved):
            raise damaged(_WHAT, "a document is there twice")
        if unknown := projects.keys() - self._buffers.keys():
            raise damaged(_WHAT, f"a project is that of document {shown(min(unknown))}, which is not there")

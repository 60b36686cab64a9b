"""A stream cut into windows, and which trace each token is of. Knows no prices."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from sttx_core.tokenizers import Tokenizer
from sttx_core.traces import ToolResult, ToolUse, Trace, trace_type
from sttx_train.byte_lengths import token_byte_lengths
from sttx_train.online import Window
from sttx_train.stream import TraceWindows


@dataclass(frozen=True, kw_only=True)
class StreamText:
    """The windows of a stream, and what its tokens are of. T tokens, in the order of the windows.

    Attributes:
        windows: every window, in the order in which it is paid for.
        bytes_T: bytes of each token; 0 where it is not paid for.
        session_T: number of each token's session.
        kind_T: number of each token's kind.
        sessions: the sessions, in the order in which they begin.
        kinds: type of a trace and name of its tool, in the order in which they first occur.
    """

    windows: tuple[Window, ...]
    bytes_T: np.ndarray
    session_T: np.ndarray
    kind_T: np.ndarray
    sessions: tuple[str, ...]
    kinds: tuple[tuple[str, str], ...]

    def of_sessions(self, first: int, last: int) -> tuple[Window, ...]:
        """Return the windows of the sessions from one number up to another, without that."""
        return tuple(window for window, session in self._by_session() if first <= session < last)

    def sessions_of(self, documents: Container[str]) -> set[int]:
        """Return the numbers of the sessions that these documents are of."""
        return {session for window, session in self._by_session() if window.document in documents}

    def _by_session(self) -> Iterator[tuple[Window, int]]:
        starts = np.cumsum([0] + [len(window.ids) for window in self.windows])[:-1]
        return zip(self.windows, self.session_T[starts].tolist(), strict=True)


def cut_stream(
    traces: Iterable[Trace], tokenizer: Tokenizer, *, window: int = 64, documents: int = 64
) -> StreamText:
    """Cut traces into windows, as `sttx train` does.

    Args:
        traces: the stream.
        tokenizer: the model's.
        window: base tokens of a window.
        documents: most documents with an unfinished window.
    """
    windows = TraceWindows(tokenizer, size=window, documents=documents)
    cut, waiting = [], _Waiting()
    for trace in traces:
        waiting.add(trace, windows.add(trace))
        while (batch := windows.take()) is not None:
            cut += batch
    while (batch := windows.flush()) is not None:
        cut += batch
    lengths = token_byte_lengths(tokenizer)
    sizes = [np.where(one.paid_T, lengths[np.asarray(one.ids)], 0) for one in cut]
    pieces = [piece for one in cut for piece in waiting.take(one.document, len(one.ids))]
    counts = [count for *_, count in pieces]
    return StreamText(
        windows=tuple(cut),
        bytes_T=np.concatenate([np.zeros(0, np.int64), *sizes]),
        session_T=np.repeat([session for session, *_ in pieces], counts).astype(np.int64),
        kind_T=np.repeat([kind for _, kind, _ in pieces], counts).astype(np.int64),
        sessions=tuple(waiting.sessions),
        kinds=tuple(waiting.kinds),
    )


class _Waiting:
    """How many tokens of each document are of which session and kind, in order."""

    def __init__(self) -> None:
        self.sessions: dict[str, int] = {}
        self.kinds: dict[tuple[str, str], int] = {}
        self._pieces: dict[str, deque[tuple[int, int, int]]] = {}

    def add(self, trace: Trace, tokens: int) -> None:
        if not tokens:
            return
        tool = trace.name if isinstance(trace, ToolUse | ToolResult) else ""
        session = self.sessions.setdefault(trace.meta.session, len(self.sessions))
        kind = self.kinds.setdefault((trace_type(trace), tool), len(self.kinds))
        self._pieces.setdefault(trace.document, deque()).append((session, kind, tokens))

    def take(self, document: str, tokens: int) -> list[tuple[int, int, int]]:
        """Return the session, kind and number of tokens of each piece of a document's next tokens."""
        pieces, taken = self._pieces[document], []
        while tokens:
            session, kind, count = pieces.popleft()
            used = min(count, tokens)
            taken.append((session, kind, used))
            tokens -= used
            if used < count:
                pieces.appendleft((session, kind, count - used))
        return taken

"""The end of one session of a source: its last traces, in bounded memory. Knows no model."""

import time
from collections import deque
from dataclasses import dataclass, field

from sttx_cli.plain import one_line
from sttx_core.errors import UsageError
from sttx_core.render import render
from sttx_core.traces import ToolResult, ToolUse, Trace, trace_type

_MOST_KEPT = 64
_MOST_NAMED = 5


@dataclass
class Tail:
    """The last text of a document: of a session, of a sub-agent, or of what followed a compaction.

    Attributes:
        document: identity of the document.
        session: identity of its session.
        project: what the session worked on.
        texts: its last rendered traces.
        kept: their bytes.
        bytes: bytes of all its traces with text.
        last: the last trace with text; None before the first.
        order: its time, and its place in the stream: the greater, the later.
    """

    document: str
    session: str
    project: str = ""
    texts: deque[str] = field(default_factory=deque)
    kept: int = 0
    bytes: int = 0
    last: Trace | None = None
    order: tuple[float, int] = (0.0, 0)

    def add(self, trace: Trace, text: str, most: int, order: tuple[float, int]) -> None:
        """Add a trace with text; forget what stands more than ``most`` bytes before its end."""
        size = len(text.encode())
        self.texts.append(text)
        self.bytes += size
        self.kept += size
        while len(self.texts) > 1 and self.kept - len(self.texts[0].encode()) >= most:
            self.kept -= len(self.texts.popleft().encode())
        if self.kept > most:
            whole = self.texts[0].encode()
            self.texts[0] = whole[self.kept - most :].decode(errors="ignore")
            self.kept = most
        self.project = trace.meta.project or self.project
        self.last, self.order = trace, max(self.order, order)

    def description(self) -> str:
        """Say which session this is, and where it stands."""
        name = f"session '{one_line(self.session, 80)}'"
        if self.document != self.session:
            name += f", document '{one_line(self.document, 120)}'"
        if self.project:
            name += f", of '{one_line(self.project, 80)}'"
        if self.last is None:
            return name
        tool = f" of {one_line(self.last.name, 60)}" if isinstance(self.last, ToolUse | ToolResult) else ""
        name += f"; its last trace: {trace_type(self.last).replace('_', ' ')}{tool}{_when(self.order[0])}"
        return f"{name}; {self.bytes:,} bytes"

    def part(self) -> str:
        """Say how much of it is read."""
        return "it is read whole" if self.kept == self.bytes else f"its last {self.kept:,} bytes are read"


class Tails:
    """Follows a stream of traces, and keeps the ends of the documents that were written to last.

    Args:
        most: bytes of the text of a document that are kept.
        session: keep only sessions whose identity is this or starts with it.
    """

    def __init__(self, most: int, session: str | None = None) -> None:
        self._most, self._session = most, session
        self._tails: dict[str, Tail] = {}
        self._left: dict[str, int] = {}  # documents that were forgotten, and the bytes that they had
        self._sessions: dict[str, None] = {}
        self._count = 0

    def add(self, trace: Trace) -> None:
        """Follow one more trace."""
        name = trace.meta.session
        if self._session is not None and not name.startswith(self._session):
            return
        text = render(trace)
        if not text:
            return
        self._count += 1
        if self._session is not None:
            self._sessions[name] = None
        tail = self._tails.get(trace.document)
        if tail is None:
            tail = Tail(trace.document, name, bytes=self._left.pop(trace.document, 0))
            self._tails[trace.document] = tail
        tail.add(trace, text, self._most, (trace.meta.time, self._count))
        if len(self._tails) > _MOST_KEPT:
            oldest = min(self._tails.values(), key=lambda each: each.order)
            self._left[oldest.document] = self._tails.pop(oldest.document).bytes

    def latest(self) -> Tail | None:
        """Return the document that was written to last; None if there was no text.

        Raises:
            UsageError: A session was asked for, and none or several match.
        """
        if self._session is None:
            return max(self._tails.values(), key=lambda each: each.order, default=None)
        if not self._sessions:
            raise UsageError(
                f"no session's identity starts with {self._session!r}: `sttx traces SOURCE` lists them"
            )
        named = [self._session] if self._session in self._sessions else sorted(self._sessions)
        if len(named) > 1:
            first = ", ".join(map(repr, named[:_MOST_NAMED]))
            raise UsageError(
                f"{len(named)} sessions start with {self._session!r}, such as {first}: use a longer prefix"
            )
        tails = [tail for tail in self._tails.values() if tail.session == named[0]]
        return max(tails, key=lambda each: each.order, default=None)


def _when(seconds: float) -> str:
    """Say when something was; "" if that is unknown or out of the calendar's range."""
    if seconds <= 0:
        return ""
    try:
        return time.strftime(" at %Y-%m-%d %H:%M UTC", time.gmtime(seconds))
    except (ValueError, OverflowError, OSError):
        return ""

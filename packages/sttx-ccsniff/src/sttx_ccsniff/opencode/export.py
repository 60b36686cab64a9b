r"""Reads what `opencode export` prints: one JSON document `{"info": ..., "messages": [...]}`.

The document may be pretty-printed over many lines or be one line, lines of text may precede it, and several
may follow each other. It is read message by message, so memory is bounded by the longest message. Messages
become traces as those of the database do, and a message that was read from there is not read again.
"""

import re
from typing import Any

from sttx_ccsniff.opencode.message import Json, Message
from sttx_ccsniff.parse.content import text_of
from sttx_ccsniff.parse.project import project_of
from sttx_ccsniff.parse.records import TOKEN, decode_line
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.traces import Meta, Trace

MOST_BYTES = 2**25
"""Most bytes of one message that are kept; a longer one is dropped and counted."""

_BEGINNING = re.compile(
    rb'(?:\A|\n)(?:\xef\xbb\xbf)?\s*\{\s*"(?:info"\s*:\s*\{|messages"\s*:\s*\[\s*\{\s*"(?:info|parts)")'
)


def recognizes(record: Json) -> bool:
    """Return whether a JSON object is a whole export."""
    info, messages = record.get("info"), record.get("messages")
    return isinstance(info, dict) and "id" in info and isinstance(messages, list)


def begins(head: bytes) -> bool:
    r"""Return whether a pretty-printed export begins in these lines.

    >>> begins(b'Exporting session: ses_1\n{\n  "info": {\n    "id": "ses_1",'), begins(b'{\n  "name": {')
    (True, False)
    """
    return _BEGINNING.search(head) is not None


class ExportParser:
    r"""Reads the lines of an export, in order.

    >>> parser = ExportParser("a.json", SourceReport(), Seen())
    >>> lines = [b'{"info": {"id": "ses_1"},', b'"messages": [', b'{"info": {"id": "msg_1", "role": "user"},']
    >>> traces = [trace for line in lines for trace in parser.feed(line)]
    >>> traces += parser.feed(b'"parts": [{"type": "text", "text": "Hi"}]}') + parser.feed(b"]}")
    >>> [(trace.text, trace.meta.uid) for trace in traces]
    [('Hi', 'msg_1')]
    """

    name = "opencode-export"

    def __init__(self, origin: str, report: SourceReport, seen: Seen) -> None:
        self._origin, self._report, self._seen = origin, report, seen
        self._info: Json = {}
        self._segment = 0
        self._depth = 0  # of brackets: 1 is in the document, 2 in its info or messages, 3 in a message
        self._key = b""  # of the document: the last one that was read
        self._value = bytearray()  # the info or message that is being read
        self._is_too_long = False

    @property
    def undecided(self) -> bool:
        """Whether a message, or what precedes the messages, is incomplete."""
        return bool(self._value) or self._is_too_long or (self._depth > 0 and not self._in_messages)

    def feed(self, line: bytes) -> list[Trace]:
        """Read one line, without its line end; return the traces of the messages that it completes."""
        if not self._depth and not line.lstrip(b"\xef\xbb\xbf \t\r").startswith(b"{"):
            if line.strip():
                self._report.skip("line outside the export")
            return []
        traces: list[Trace] = []
        at = 0
        for token in TOKEN.finditer(line):
            if token[0][:1] == b'"':
                if self._depth == 1:
                    self._key = token[0][1:-1]
            elif token[0] in (b"{", b"["):
                self._depth += 1
                if self._depth == self._value_depth:
                    at = token.start()
            else:
                if self._depth == self._value_depth:
                    traces += self._complete(line[at : token.end()])
                    at = token.end()
                self._close()
        if self._depth >= self._value_depth:
            self._keep(line[at:] + b"\n")
        return traces

    def finish(self, tail: bytes) -> list[Trace]:
        """Read what follows the last line end; count a message that was cut."""
        traces = self.feed(tail)
        if self._depth:
            self._report.damaged("cut short")
            self._value.clear()
            self._depth, self._is_too_long = 0, False
        return traces

    def state_dict(self) -> tuple[Any, ...]:
        """Return everything needed to continue from here, JSON-able; call between two messages."""
        info = {key: self._info.get(key) for key in ("id", "parentID", "directory")}
        return (info, self._segment, self._depth)

    def load_state_dict(self, state: Any) -> None:
        """Continue from the state of another parser of the same file.

        Raises:
            ValueError: The state is invalid.
        """
        match state:
            case [dict(info), int(segment), 0 | 2 as depth]:
                self._info, self._segment, self._depth = info, segment, depth
                self._key = b"messages" if depth else b""
            case _:
                raise ValueError("not a state of a parser of exports")

    @property
    def _in_messages(self) -> bool:
        return self._key == b"messages" and self._depth > 1

    @property
    def _value_depth(self) -> int:
        """Return the depth of the values that are kept: the messages, or the info of the document."""
        return 3 if self._key == b"messages" else 2

    def _keep(self, piece: bytes) -> None:
        if self._is_too_long or len(self._value) + len(piece) > MOST_BYTES:
            self._is_too_long = True
            self._value.clear()
        else:
            self._value += piece

    def _close(self) -> None:
        self._depth = max(self._depth - 1, 0)
        if not self._depth:
            self._key = b""

    def _complete(self, end: bytes) -> list[Trace]:
        """Read the info or message that ends here."""
        self._keep(end)
        data, self._value = bytes(self._value), bytearray()
        if self._is_too_long:
            self._is_too_long = False
            self._report.damaged(f"message over {MOST_BYTES} bytes")
            return []
        if self._key not in (b"messages", b"info"):
            return []
        values, problem = decode_line(data, self._report.noted)
        value = values[0] if len(values) == 1 and isinstance(values[0], dict) else {}
        if problem or not value:
            self._report.damaged(problem or "not an object")
        if self._key == b"messages":
            return self._message(value) if value else []
        self._info, self._segment = value, 0
        return []

    def _message(self, value: Json) -> list[Trace]:
        info, parts = value.get("info"), value.get("parts")
        info = info if isinstance(info, dict) else {}
        parts = [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
        self._report.records += 1 + len(parts)
        message = Message(text_of(info.get("id")), info, parts)
        self._segment += message.cuts
        return message.new_traces(self._meta(message), self._report, self._seen)

    def _meta(self, message: Message) -> Meta:
        session = text_of(self._info.get("id")) or text_of(message.info.get("sessionID"))
        parent = text_of(self._info.get("parentID"))
        return Meta(
            session=parent or session,
            project=project_of(self._info.get("directory"), self._origin),
            time=message.created,
            uid=message.id or f"{session}:{message.fingerprint()}",
            origin=self._origin,
            subagent=session if parent else "",
            parent=parent,
            segment=self._segment,
        )

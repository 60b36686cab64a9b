"""Rows that another program exported: `ccsniff --json` rows, and pairs of prompt and completion.

A ccsniff row is `{"ts","iso","sid","parent","cwd","project","role","type","tool","isMeta","text"}`. Rows
carry no ids, so a result cannot name its tool, and a repeated row cannot be told from a new one.
"""

import math
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

import orjson

from sttx_ccsniff.content import shallow, text_of
from sttx_ccsniff.records import decode_line
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_ccsniff.usertext import typed_text
from sttx_core.traces import (
    AssistantMessage,
    Json,
    Meta,
    Other,
    Pair,
    Thinking,
    ToolResult,
    ToolUse,
    Trace,
    UserMessage,
)

Row = dict[str, Any]

LOSSY = (
    "`ccsniff --json` rows lack most tool calls (about two in three: the later lines of each message), every "
    "line break, the text of thinking, the ids that join results to calls, and the names of sub-agents; for "
    "everything, read the session files themselves (a folder, `claude` or `live`)"
)
"""What is said once when such rows are read."""


def recognises_rows(record: Row) -> bool:
    """Say whether a JSON object looks like a row of `ccsniff --json`."""
    return {"sid", "role", "type", "text"} <= record.keys()


def recognises_pairs(record: Row) -> bool:
    """Say whether a JSON object looks like a prompt and its completion."""
    return {"prompt", "completion"} <= record.keys()


class _LineParser:
    """What the two have in common: a line is a record, and each record is handed to `_record`."""

    def __init__(self, origin: str, report: SourceReport, seen: Seen) -> None:
        del seen  # rows have no identity to be known by
        self._origin = origin
        self._report = report
        self._stem = PurePath(origin).name.split(".")[0] or "-"
        self._records = 0

    def feed(self, line: bytes) -> list[Trace]:
        """Take one line without its line end; return the traces on it."""
        if line.startswith(b"#"):
            self._report.skip("comment")
            return []
        values, problem = decode_line(line, self._report.noted)
        if problem:
            self._report.damaged(problem)
        traces: list[Trace] = []
        for value in values:
            if isinstance(value, dict):
                self._report.records += 1
                self._records += 1
                traces += self._record(value)
            else:
                self._report.damaged("not an object")
        return traces

    def finish(self, tail: bytes) -> list[Trace]:
        """Take what stands after the last line end."""
        return self.feed(tail)

    def state(self) -> tuple[int]:
        """All that must be known to go on from here in another process, as JSON can hold it."""
        return (self._records,)

    def restore(self, state: Any) -> None:
        """Go on where another parser of the same file gave this state.

        Raises:
            ValueError: it is no such state.
        """
        match state:
            case [int(records)] if type(records) is int and records >= 0:
                self._records = records
            case _:
                raise ValueError("not a state of a parser of rows or pairs")

    def _record(self, record: Row) -> list[Trace]:
        raise NotImplementedError


class RowParser(_LineParser):
    """Reads `ccsniff --json` rows, and says once what they lack.

    >>> report = SourceReport(say=lambda message: None)
    >>> row = b'{"ts":1000,"sid":"s","role":"assistant","type":"tool_use","tool":"Bash","text":"{}"}'
    >>> [(trace.name, trace.input) for trace in RowParser("x", report, Seen()).feed(row)]
    [('Bash', {})]
    """

    name = "ccsniff-rows"

    def __init__(self, origin: str, report: SourceReport, seen: Seen) -> None:
        super().__init__(origin, report, seen)
        report.warn(LOSSY)
        self._kinds: dict[tuple[Any, Any], Callable[[Meta, Row, str], Trace | None]] = {
            ("user", "text"): self._user,
            ("user", "image"): self._picture,
            ("user", "document"): self._picture,
            ("assistant", "text"): self._assistant,
            ("assistant", "thinking"): self._thinking,
            ("assistant", "tool_use"): _use,
            ("assistant", "server_tool_use"): _use,
            ("tool_result", "tool_result"): _result,
        }

    def _record(self, record: Row) -> list[Trace]:
        role, kind = text_of(record.get("role")), text_of(record.get("type"))
        if role in ("system", "result") or kind == "redacted_thinking":
            self._report.skip(f"row: {role} {kind}")
            return []
        meta = self._meta(record)
        read = self._kinds.get((role, kind))
        if read is None:
            return [Other(meta=meta, kind=f"row {role} {kind}", raw=shallow(record))]
        trace = read(meta, record, text_of(record.get("text")))
        return [] if trace is None else [trace]

    def _user(self, meta: Meta, row: Row, text: str) -> Trace | None:
        text, reason = typed_text(text)
        if row.get("isMeta"):
            reason = "meta message"
        if reason:
            self._report.skip(reason)
            return None
        return UserMessage(meta=meta, text=text)

    def _picture(self, meta: Meta, row: Row, text: str) -> Trace:
        del text
        return UserMessage(meta=meta, text=f"[{row['type']}]")

    def _assistant(self, meta: Meta, row: Row, text: str) -> Trace | None:
        del row
        if not text.strip():
            self._report.skip("empty text")
            return None
        return AssistantMessage(meta=meta, text=text)

    def _thinking(self, meta: Meta, row: Row, text: str) -> Trace | None:
        del row
        if not text.strip():
            self._report.skip("empty thinking")
            return None
        return Thinking(meta=meta, text=text)

    def _meta(self, row: Row) -> Meta:
        session = text_of(row.get("sid")) or self._stem
        parent = text_of(row.get("parent"))
        return Meta(
            session=session,
            project=text_of(row.get("project")),
            time=_seconds(row.get("ts")),
            uid=f"{self._stem}:{self._records}",
            origin=self._origin,
            parent="" if parent == session else parent,
        )


class PairParser(_LineParser):
    """Reads `{"prompt": ..., "completion": ...}` records.

    >>> parser = PairParser("pairs.jsonl", SourceReport(), Seen())
    >>> [pair.completion for pair in parser.feed(b'{"prompt":"2+2?","completion":"4"}')]
    ['4']
    """

    name = "pairs"

    def _record(self, record: Row) -> list[Trace]:
        prompt, completion = record.get("prompt"), record.get("completion")
        if not isinstance(prompt, str) or not isinstance(completion, str):
            self._report.damaged("pair whose prompt or completion is not a string")
            return []
        uid = f"{self._stem}:{self._records}"
        session = text_of(record.get("session")) or self._stem
        meta = Meta(session=session, uid=uid, origin=self._origin)
        return [Pair(meta=meta, prompt=prompt, completion=completion)]


def _seconds(milliseconds: Any) -> float:
    try:
        seconds = float(milliseconds) / 1000
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return seconds if math.isfinite(seconds) else 0.0


def _use(meta: Meta, row: Row, text: str) -> Trace:
    value: Json
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = text
    return ToolUse(meta=meta, name=text_of(row.get("tool")), input=shallow(value))


def _result(meta: Meta, row: Row, text: str) -> Trace:
    return ToolResult(meta=meta, name=text_of(row.get("tool")), output=text)

"""Reads rows of `ccsniff --json`.

A row is `{"ts","iso","sid","parent","cwd","project","role","type","tool","isMeta","text"}`. Rows have no ids,
so a result does not know its call, and a repeated row looks like a new one.
"""

import math
from collections.abc import Callable
from typing import Any

import orjson

from sttx_ccsniff.claude_code.user_text import typed_text
from sttx_ccsniff.exports.lines import LineParser, Row
from sttx_ccsniff.parse.content import shallow, text_of
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.traces import (
    AssistantMessage,
    Json,
    Meta,
    Other,
    Thinking,
    ToolResult,
    ToolUse,
    Trace,
    UserMessage,
)

LOSSY = (
    "`ccsniff --json` rows lack most tool calls, line breaks and thinking: "
    "read the session files for everything"
)
"""The warning when such rows are read. docs/traces.md lists all that they lack."""


def recognizes_rows(record: Row) -> bool:
    """Return whether a JSON object looks like a row of `ccsniff --json`."""
    return {"sid", "role", "type", "text"} <= record.keys()


class RowParser(LineParser):
    """Reads `ccsniff --json` rows, and warns once about what they lack.

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

    def read(self, row: Row) -> list[Trace]:
        """Return the traces of one row; its uid is `stem:count`."""
        role, kind = text_of(row.get("role")), text_of(row.get("type"))
        if role in ("system", "result") or kind == "redacted_thinking":
            self.report.skip(f"row: {role} {kind}")
            return []
        meta = self._meta(row)
        reader = self._kinds.get((role, kind))
        if reader is None:
            return [Other(meta=meta, kind=f"row {role} {kind}", raw=shallow(row))]
        trace = reader(meta, row, text_of(row.get("text")))
        return [] if trace is None else [trace]

    def _user(self, meta: Meta, row: Row, text: str) -> Trace | None:
        text, reason = typed_text(text)
        if row.get("isMeta"):
            reason = "meta message"
        if reason:
            self.report.skip(reason)
            return None
        return UserMessage(meta=meta, text=text)

    def _picture(self, meta: Meta, row: Row, text: str) -> Trace:
        del text
        return UserMessage(meta=meta, text=f"[{row['type']}]")

    def _assistant(self, meta: Meta, row: Row, text: str) -> Trace | None:
        del row
        if not text.strip():
            self.report.skip("empty text")
            return None
        return AssistantMessage(meta=meta, text=text)

    def _thinking(self, meta: Meta, row: Row, text: str) -> Trace | None:
        del row
        if not text.strip():
            self.report.skip("empty thinking")
            return None
        return Thinking(meta=meta, text=text)

    def _meta(self, row: Row) -> Meta:
        session = text_of(row.get("sid")) or self.stem
        parent = text_of(row.get("parent"))
        return Meta(
            session=session,
            project=text_of(row.get("project")),
            time=_seconds(row.get("ts")),
            uid=f"{self.stem}:{self.count}",
            origin=self.origin,
            parent="" if parent == session else parent,
        )


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

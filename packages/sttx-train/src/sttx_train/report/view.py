"""How the parts of a report read on a page: names, amounts, dates, and a session's text with its gaps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from sttx_train.report.passages import Mark, Passage, TraceInfo
from sttx_train.report.session import SessionReport
from sttx_train.report.shading import visible_text

_KINDS = {
    "user_message": "User",
    "assistant_message": "Assistant",
    "thinking": "Thinking",
    "pair": "Pair",
}
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NAME = 60  # characters of a tool's name
_WORDS, _WORD = 4, 40  # words of a passage that are named, and characters of each
_SAYS_LITTLE = re.compile(r"[\d\W]{0,3}|.")  # alone: short numbers, single letters


@dataclass(frozen=True, kw_only=True)
class Block:
    """A trace of a session's text, or a gap between two.

    Attributes:
        trace: the trace; None for a gap.
        parts: its passages, each with the bytes that are left out before it.
        rest: bytes left out at the end.
        skipped: traces in the gap.
    """

    trace: TraceInfo | None = None
    parts: Sequence[tuple[int, Passage]] = ()
    rest: int = 0
    skipped: int = 0


def blocks(session: SessionReport, most: int) -> list[Block]:
    """Return the text of a session as blocks, with at most so many bytes of it."""
    result: list[Block] = []
    expected = 0
    for number, group in groupby(session.shown(most), key=lambda passage: passage.trace.number):
        if number > expected:
            result.append(Block(skipped=number - expected))
        expected = number + 1
        result.append(_block(list(group)))
    if session.traces > expected:
        result.append(Block(skipped=session.traces - expected))
    return result


def _block(passages: Sequence[Passage]) -> Block:
    parts, at = [], 0
    for passage in passages:
        parts.append((passage.start - at, passage))
        at = passage.start + passage.bytes
    trace = passages[0].trace
    return Block(trace=trace, parts=parts, rest=max(trace.bytes - at, 0))


def label(trace: TraceInfo) -> str:
    """Return what a trace is called.

    A call of Bash is a "Bash call".
    """
    if trace.kind in _KINDS:
        return _KINDS[trace.kind]
    what = {"tool_use": "call", "tool_result": "result"}.get(trace.kind, trace.kind)
    return f"{visible_text(trace.tool)[:_NAME] or 'Tool'} {what}"


def words_of_passage(passage: Passage) -> list[tuple[str, Mark]]:
    """Return the words of a passage that were most new, the newest first, each once; no short numbers."""
    found: dict[str, Mark] = {}
    for mark in sorted(passage.marks, key=lambda each: -each.news):
        text = " ".join(visible_text(passage.data[mark.start : mark.end].decode("utf-8", "replace")).split())
        if _SAYS_LITTLE.fullmatch(text):
            continue
        found.setdefault(text if len(text) <= _WORD else f"{text[: _WORD - 1]}…", mark)
    return list(found.items())[:_WORDS]


def amount(size: float) -> str:
    """Return a number of bytes in words.

    >>> amount(960), amount(12_345), amount(4_200_000)
    ('960 B', '12.3 kB', '4.2 MB')
    """
    if size < 1000:
        return f"{size:.0f} B"
    return f"{size / 1e3:.1f} kB" if size < 999_950 else f"{size / 1e6:.1f} MB"


def date_range(first: float, last: float) -> str:
    """Return when a session was, in local time; "" if that is unknown or out of the calendar's range."""
    if not first:
        return ""
    try:
        start, end = datetime.fromtimestamp(first), datetime.fromtimestamp(last)
    except (ValueError, OverflowError, OSError):
        return ""
    day = f"{start.day} {_MONTHS[start.month - 1]} {start.year}"
    if start.date() == end.date():
        return f"{day}, {start:%H:%M}–{end:%H:%M}"
    return f"{day} – {end.day} {_MONTHS[end.month - 1]} {end.year}"

"""A report as one object for programs: sums, sessions, and the traces with most new information."""

from __future__ import annotations

from typing import Any

from sttx_train.report.passages import Passage
from sttx_train.report.report import Report
from sttx_train.report.session import SessionReport
from sttx_train.report.view import words_of_passage

_TOP = 12


def summary(report: Report, top: int = _TOP) -> dict[str, Any]:
    """Return a report that is finished as a JSON-able object; sizes in bytes, prices in bits.

    Args:
        report: the report.
        top: how many traces with most new information.
    """
    return {
        **_sums(report),
        "sessions": [
            {"session": each.name, "project": each.project, **_sums(each)}
            for each in report.sessions.values()
        ],
        "sessions_left_out": report.left_out,
        "top": [_top(session, passage) for session, passage in report.newest(top)],
    }


def _sums(of: Report | SessionReport) -> dict[str, Any]:
    return {
        "traces": of.traces,
        "bytes": of.bytes,
        "bits": of.paid,
        "frozen_bits": of.frozen,
        "new_bits": of.news,
        "repeated_bytes": of.repeated,
    }


def _top(session: SessionReport, passage: Passage) -> dict[str, Any]:
    trace = passage.trace
    return {
        "session": session.name,
        "project": session.project,
        "uid": trace.uid,
        "type": trace.kind,
        "tool": trace.tool,
        "bytes": trace.bytes,
        "bits": trace.paid,
        "frozen_bits": trace.frozen,
        "new_bits": trace.news,
        "passage": {
            "start": passage.start,
            "text": passage.data.decode("utf-8", "replace"),
            "bits": passage.paid,
            "new_bits": passage.news,
            "rank": passage.rank,
            "words": [
                {"text": text, "new_bits": mark.news, "used_later": mark.uses}
                for text, mark in words_of_passage(passage)
            ],
        },
    }

"""Reads times as agents write them: ISO 8601 text, or a number of seconds or of a smaller unit since 1970."""

import math
from datetime import UTC, datetime
from typing import Any

from sttx_ccsniff.report import SourceReport

_UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))  # (least number that is in it, units per second)


def unix_seconds(stamp: Any) -> float:
    """Return the Unix seconds of a time; ISO 8601 text without a time zone is UTC.

    A number is in seconds, or so large that it must be in milliseconds, microseconds or nanoseconds.

    >>> unix_seconds("2026-01-02T03:04:05Z"), unix_seconds(1767323045.5), unix_seconds(1767323045500)
    (1767323045.0, 1767323045.5, 1767323045.5)

    Raises:
        ValueError, TypeError, OverflowError: It is not a time.
    """
    if isinstance(stamp, str):
        try:
            time = datetime.fromisoformat(stamp)
        except ValueError:
            return _scaled(float(stamp))
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    if type(stamp) not in (int, float):
        raise TypeError("neither text nor a number")
    return _scaled(float(stamp))


def seconds_of(stamp: Any, report: SourceReport) -> float:
    """Return the Unix seconds of a record's time; 0 without one, or with one that is noted as unparsable."""
    if stamp is None:
        return 0.0
    try:
        return unix_seconds(stamp)
    except (TypeError, ValueError, OverflowError):
        report.note("unparsable timestamp")
        return 0.0


def _scaled(number: float) -> float:
    if not math.isfinite(number) or number < 0:
        raise ValueError("not a time")
    return next((number / per_second for least, per_second in _UNITS if number >= least), number)

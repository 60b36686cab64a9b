"""What every source of traces must keep: repeatable, resumable by cursor, valid text and a clean end."""

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any, Protocol

from sttx_core.checks.require import require
from sttx_core.text import encodable
from sttx_core.traces import Trace, trace_type

_PATIENCE = 5.0
"""Seconds that the threads of a closed source may take to end."""


class ClosableSource(Iterable[Trace], AbstractContextManager[Any], Protocol):
    """An iterable of traces that is a context manager and can be closed, more than once."""

    @property
    def cursor(self) -> Mapping[str, Any]:
        """How far it was read, JSON-able: right after the last trace taken."""
        ...

    def close(self) -> None:
        """End everything that it started."""
        ...


def check_source(factory: Callable[..., ClosableSource]) -> None:
    """Raise an `AssertionError` that says what a source breaks.

    Args:
        factory: Called as `factory(cursor=…)` with None, or with the `cursor` of an earlier source after a
            round trip through JSON. It opens the same traces each time, a finite number above 0.
    """
    before = set(threading.enumerate())
    traces = _read(factory)
    require(bool(traces), "the source has no traces: check one that has some")
    for number, trace in enumerate(traces):
        _check_trace(number, trace)
    _check_no_threads(before, "read to its end")
    require(_read(factory) == traces, "the same input gave other traces the second time")
    _check_cursor(factory, traces)
    _check_early_end(factory, traces, before)


def _read(factory: Callable[..., ClosableSource], cursor: Any = None) -> list[Trace]:
    with factory(cursor=cursor) as source:
        return list(source)


def _check_trace(number: int, trace: Trace) -> None:
    name = trace_type(trace)
    require(bool(trace.meta.uid), f"trace {number} ({name}) has no uid")
    require(bool(trace.meta.origin), f"trace {number} ({name}) has no origin")
    for field in ("text", "name", "output", "prompt", "completion"):
        value = getattr(trace, field, "")
        require(type(value) is str, f"{field} of trace {number} ({name}) is {type(value).__name__}, not str")
        require(encodable(value) == value, f"{field} of trace {number} ({name}) holds a lone surrogate")


def _check_cursor(factory: Callable[..., ClosableSource], traces: list[Trace]) -> None:
    """A source that starts from a cursor has exactly the traces that were not read before it."""
    for cut in sorted({0, 1, len(traces) // 3, len(traces) // 2, len(traces) - 1, len(traces)}):
        with factory(cursor=None) as source:
            first = list(islice(source, cut))
            cursor = json.loads(json.dumps(source.cursor))
        require(first == traces[:cut], f"reading only {cut} traces gives other traces than reading all")
        rest = _read(factory, cursor)
        require(
            rest == traces[cut:],
            f"resumed after {cut} of {len(traces)} traces, it gave {len(rest)}, but not the remaining ones",
        )


def _check_early_end(
    factory: Callable[..., ClosableSource], traces: list[Trace], before: set[threading.Thread]
) -> None:
    with factory(cursor=None):
        pass
    _check_no_threads(before, "closed unread")
    with factory(cursor=None) as source:
        first = list(islice(source, 1))
    require(first == traces[:1], "the first trace differs when the source is closed early")
    _check_no_threads(before, "closed in mid-stream")
    source.close()
    opened = factory(cursor=None)
    next(iter(opened))
    opened.close()
    opened.close()
    _check_no_threads(before, "closed by close()")


def _check_no_threads(before: set[threading.Thread], when: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while extra := set(threading.enumerate()) - before:
        names = sorted(thread.name for thread in extra)
        require(
            time.monotonic() < deadline, f"a source that was {when} left threads running: {', '.join(names)}"
        )
        time.sleep(0.01)

"""What every source of traces must keep: repeatable, resumable by cursor, clean text, and a clean end."""

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
"""Seconds that a closed source's threads may take to end."""


class ClosableSource(Iterable[Trace], AbstractContextManager[Any], Protocol):
    """An iterable of traces that is a context manager and can be closed, more than once."""

    @property
    def cursor(self) -> Mapping[str, Any]:
        """Where its consumer has got to, JSON-able: right after the last trace taken."""
        ...

    def close(self) -> None:
        """End all that it started."""
        ...


def check_source(factory: Callable[..., ClosableSource]) -> None:
    """Raise an `AssertionError` if what the factory opens is no good source.

    Args:
        factory: Called as `factory(cursor=…)` with None or the `cursor` of an earlier one that was left,
            after a way through JSON. It opens the same traces each time: some, and not without end.
    """
    before = set(threading.enumerate())
    traces = _read(factory)
    require(bool(traces), "the source gave no trace: check it on one that has some")
    for number, trace in enumerate(traces):
        _check_trace(number, trace)
    _check_no_threads(before, "read to its end")
    require(_read(factory) == traces, "the same input gave another stream the second time")
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
    """Wherever a run was cut, the next one goes on with exactly the traces that it did not have."""
    for cut in sorted({0, 1, len(traces) // 3, len(traces) // 2, len(traces) - 1, len(traces)}):
        with factory(cursor=None) as source:
            first = list(islice(source, cut))
            cursor = json.loads(json.dumps(source.cursor))
        require(first == traces[:cut], f"the first {cut} traces are others when it is left after them")
        rest = _read(factory, cursor)
        require(
            rest == traces[cut:],
            f"resumed after {cut} of {len(traces)} traces, it gave {len(rest)} that are not the rest",
        )


def _check_early_end(
    factory: Callable[..., ClosableSource], traces: list[Trace], before: set[threading.Thread]
) -> None:
    with factory(cursor=None):
        pass
    _check_no_threads(before, "closed unread")
    with factory(cursor=None) as source:
        first = list(islice(source, 1))
    require(first == traces[:1], "the first trace of a source that is closed early is another one")
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
        require(time.monotonic() < deadline, f"a source that was {when} left threads: {', '.join(names)}")
        time.sleep(0.01)

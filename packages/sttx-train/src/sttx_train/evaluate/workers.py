"""Runs jobs in processes of their own, and reports how far they are. Does not know what a job does.

Each job gets a fresh process, unless one runs at a time: then all run in this one. The result does not depend
on how many run at once.
"""

from __future__ import annotations

import contextlib
import signal
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, TypeVar

from sttx_core.errors import DataError, SttxError

Result = TypeVar("Result")


class Named(Protocol):
    """A job; its name is for messages."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...


Work = Callable[[Any, Callable[[int], None]], Result]
"""Does a job; calls its second argument with how much more is done."""


def run_all(
    work: Work[Result], jobs: Sequence[Named], *, workers: int, advance: Callable[[int], None]
) -> list[Result]:
    """Return the result of each job, in order.

    Args:
        work: a function of a module; it and the jobs can be pickled.
        jobs: what to do.
        workers: how many run at once; one runs in this process.
        advance: called with how much more is done.

    Raises:
        SttxError: what a job raised first.
        DataError: a worker ended without a result.
    """
    if workers == 1:
        return [work(job, advance) for job in jobs]
    return _Pool(work, jobs, advance).run(workers)


class _Pool:
    """Starts a process for each job, at most so many at once."""

    def __init__(self, work: Work[Any], jobs: Sequence[Named], advance: Callable[[int], None]) -> None:
        self._work, self._jobs, self._advance = work, jobs, advance
        self._context = get_context("spawn")  # a fork would copy the threads of torch in any state
        self._running: dict[Connection, tuple[int, Any]] = {}
        self._results: dict[int, Any] = {}

    def run(self, workers: int) -> list[Any]:
        waiting = deque(enumerate(self._jobs))
        try:
            while waiting or self._running:
                while waiting and len(self._running) < workers:
                    self._start(*waiting.popleft())
                ready = wait(list(self._running))
                for connection in [one for one in self._running if one in ready]:
                    self._receive(connection)
        finally:  # after an error or Ctrl-C the others are of no use
            for _, process in self._running.values():
                process.terminate()
        return [self._results[index] for index in range(len(self._jobs))]

    def _start(self, index: int, job: Named) -> None:
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_do, args=(self._work, job, theirs), daemon=True)
        process.start()
        theirs.close()
        self._running[ours] = (index, process)

    def _receive(self, connection: Connection) -> None:
        index, process = self._running[connection]
        name = self._jobs[index].name
        try:
            kind, value = connection.recv()
        except EOFError:
            process.join()
            raise DataError(
                f"the worker of {name!r} ended without a result (exit code {process.exitcode}): perhaps "
                "memory ran out, then give fewer --workers"
            ) from None
        if kind == "more":
            self._advance(value)
            return
        del self._running[connection]
        process.join()
        connection.close()
        if kind == "error":
            raise value
        self._results[index] = value


def _do(work: Work[Any], job: Named, connection: Connection) -> None:
    """Do a job in a process of its own; Ctrl-C is for the process that started it, which ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(BrokenPipeError):  # nobody waits for the result any more
        try:
            connection.send(("done", work(job, lambda more: connection.send(("more", more)))))
        except SttxError as error:
            connection.send(("error", error))
        except Exception as error:  # noqa: BLE001  a bug, or no memory: one sentence instead of two tracebacks
            what = f"{type(error).__name__}: {error}"
            failed = DataError(f"the worker of {job.name!r} failed ({what}): --workers 1 shows where")
            connection.send(("error", failed))

"""The engine: one thread that owns the models, and computes requests as the rows of one batch.

Rows join and leave between steps. A step reads a piece of each prompt that is not read yet, then chooses one
token of each text. Knows rows and readers; neither HTTP nor text.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Protocol

import numpy as np

from sttx_core.errors import SttxError
from sttx_core.experts import NextToken
from sttx_train.predict import Predictor
from sttx_train.predict.twins import are_twins
from sttx_train.serve.config import ServeConfig
from sttx_train.serve.failures import RequestError
from sttx_train.serve.jobs import Ask, Failed, Job
from sttx_train.serve.readers import AnyPredictor
from sttx_train.serve.rows import Row
from sttx_train.serve.slots import Slot, SlotName
from sttx_train.serve.states import StateCache

_LOG = logging.getLogger(__name__)
_TURNS = 64  # steps of requests to one of idle work, if requests never cease
_STOPPING = Failed(status=503, message="the server is shutting down: try again later")
_GIVEN_UP = Failed(status=499, message="the client has left")
_BUG = Failed(status=500, message="something failed inside the server; its log says what")


class Idle(Protocol):
    """Work for times without requests."""

    def __call__(self) -> bool:
        """Do one step of it; return whether there is more."""
        ...


class Engine:
    """Computes jobs in a thread of its own, between `start` and `stop`.

    Args:
        config: how many rows, how long the queue, how large the cache.
        idle: is called when no request waits, and now and then between steps, while it says there is more.

    Attributes:
        cache: states of texts that were read; used in the engine's thread only.
        slots: states that requests asked to keep by a number; used in the engine's thread only.
        tokens_read, tokens_generated, tokens_cached: counts since the start.
    """

    def __init__(self, config: ServeConfig, idle: Idle | None = None) -> None:
        self._config, self.idle = config, idle
        self.cache = StateCache(config.cache_bytes)
        self.slots: dict[SlotName, Slot] = {}
        self.tokens_read = self.tokens_generated = self.tokens_cached = 0
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._rows: list[Row] = []
        self._stopped = False
        self._busy = False  # whether idle work is left
        self._turn = 0
        self._thread = threading.Thread(target=self._run, name="sttx-engine", daemon=True)

    # -- for other threads ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Give up all requests and end the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def waiting(self) -> int:
        """Number of jobs that wait."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Number of jobs that are computed."""
        return len(self._rows)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue jobs, all or none.

        Raises:
            RequestError: the queue is full (429), or too small (400), or the engine has stopped (503).
        """
        if len(jobs) > (most := self._config.rows + self._config.queue):
            raise RequestError(
                400, f"the request asks for {len(jobs)} texts, but at most {most} are possible"
            )
        with self._changed:
            if self._stopped:
                raise RequestError(_STOPPING.status, _STOPPING.message)
            free = max(0, self._config.rows - len(self._rows))
            if len(self._waiting) + len(jobs) > self._config.queue + free:
                raise RequestError(
                    429, "the server is busy and its queue is full: try again later", code="queue_full"
                )
            self._waiting.extend(jobs)
            self._changed.notify_all()

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Give jobs up: those that wait leave the queue, others end before their next token."""
        with self._changed:
            for job in jobs:
                job.cancelled = True
            self._waiting = deque(job for job in self._waiting if not job.cancelled)
            self._changed.notify_all()

    def call(self, function: Callable[[], Any]) -> Future[Any]:
        """Run a function in the engine's thread, between two steps; return its future result."""
        future: Future[Any] = Future()
        with self._changed:
            if self._stopped:
                future.set_exception(RequestError(_STOPPING.status, _STOPPING.message))
                return future
            self._calls.append((function, future))
            self._changed.notify_all()
        return future

    # -- the thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        while self._wait():
            self._answer_calls()
            self._admit()
            self._step()
            if self._busy and self.idle is not None and self._may_idle():
                self._busy = False  # before: who adds work meanwhile sets it again
                if self._guarded_idle(self.idle):
                    self._busy = True
        for job in [*(row.job for row in self._rows), *self._waiting]:
            job.emit(_STOPPING)
        for _, future in self._calls:
            future.set_exception(RequestError(_STOPPING.status, _STOPPING.message))
        self._rows = []

    def _may_idle(self) -> bool:
        """Whether idle work may have its turn: between requests, and in one of many turns beside them."""
        self._turn += 1
        return not (self._rows or self._waiting) or self._turn % _TURNS == 0

    def _guarded_idle(self, idle: Idle) -> bool:
        try:
            return idle()
        except Exception:  # noqa: BLE001  requests go on; the log says what failed
            _LOG.exception("work between requests failed")
            return False

    def _wait(self) -> bool:
        """Wait for something to do; return whether the engine goes on."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._stopped or self._busy or self._rows or self._waiting or self._calls
            )
            return not self._stopped

    def wake(self) -> None:
        """Let idle work start."""
        with self._changed:
            self._busy = True
            self._changed.notify_all()

    def _answer_calls(self) -> None:
        while self._calls:
            function, future = self._calls.popleft()
            if not future.set_running_or_notify_cancel():  # the caller has left
                continue
            try:
                future.set_result(function())
            except Exception as error:  # noqa: BLE001  the waiting caller gets it
                future.set_exception(error)

    def _admit(self) -> None:
        """Let jobs join, and rows leave that nobody wants any more."""
        for row in [row for row in self._rows if row.job.cancelled]:
            row.job.emit(_GIVEN_UP)
            self._rows.remove(row)
        while len(self._rows) < self._config.rows:
            with self._changed:
                if not self._waiting:
                    return
                job = self._waiting.popleft()
            self._join(job)

    def _join(self, job: Job) -> None:
        """Make a row of a job; if that fails, the job fails."""
        try:
            row = Row(job, self.cache, chunk=self._config.chunk, every=self._config.every)
        except SttxError as error:
            job.emit(_failed(error))
        except Exception:  # noqa: BLE001  the others go on
            _LOG.exception("a request could not join")
            job.emit(_BUG)
        else:
            self.tokens_cached += row.cached
            self._rows.append(row)

    def _step(self) -> None:
        """Read a piece of each prompt that is not read, and choose a token of each text."""
        for rows in _groups([row for row in self._rows if row.generation is None]):
            self._guarded(rows, self._read)
        for rows in _groups([row for row in self._rows if row.generation is not None and not row.ended]):
            self._guarded(rows, self._generate)
        for row in self._rows:
            if row.ended and row.ask.slot is not None:
                self._guarded([row], self._fill_slot)
        self._rows = [row for row in self._rows if not row.ended]

    def _guarded(self, rows: list[Row], work: Callable[[list[Row]], None]) -> None:
        """Do a step of rows; if it fails, they fail, and the others go on."""
        try:
            work(rows)
        except SttxError as error:
            self._fail(rows, _failed(error))
        except Exception:  # noqa: BLE001  the other rows go on
            _LOG.exception("a step failed")
            self._fail(rows, _BUG)

    def _fail(self, rows: list[Row], event: Failed) -> None:
        for row in rows:
            row.job.emit(event)
        self._rows = [row for row in self._rows if row not in rows]

    def _read(self, rows: list[Row]) -> None:
        pieces = {id(row): row.next_piece() for row in rows}
        for shown in (False, True):
            some = [row for row in rows if pieces[id(row)] and _shows_prompt(row.ask) is shown]
            if not some:
                continue
            batch = some[0].predictor.batch([row.reader for row in some])
            ids = [pieces[id(row)] for row in some]
            if shown:
                batch.advance_with_expected(ids, partial(_note, some))
                for row, piece in zip(some, ids, strict=True):
                    row.was_read(piece, None)
            else:
                for row, piece, prices in zip(some, ids, batch.advance(ids), strict=True):
                    row.was_read(piece, prices)
            self.tokens_read += sum(map(len, ids))
        for row in rows:
            if not row.next_piece():
                self._guarded([row], lambda rows: rows[0].begin())

    def _fill_slot(self, rows: list[Row]) -> None:
        for row in rows:
            if row.ask.slot is not None:
                self.slots[row.ask.slot] = row.as_slot()

    def _generate(self, rows: list[Row]) -> None:
        batch = rows[0].predictor.batch([row.reader for row in rows])
        batch.read([row.generation.behind for row in rows if row.generation is not None])
        for row, expected in zip(rows, batch.expected(), strict=True):
            row.take(expected)
        self.tokens_generated += len(rows)


def _note(rows: list[Row], at: int, token: int, expected: np.ndarray | NextToken) -> None:
    rows[at].note(token, expected)


def _failed(error: SttxError) -> Failed:
    failed = RequestError.of(error)
    return Failed(status=failed.status, message=str(failed))


def _shows_prompt(ask: Ask) -> bool:
    return ask.echo and ask.top is not None


def _groups(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Yield the rows that one batch can hold: those of a predictor, and of others that differ by S0 alone."""
    groups: list[list[Row]] = []
    for row in rows:
        group = next((one for one in groups if _fit(one[0].predictor, row.predictor)), None)
        if group is None:
            groups.append([row])
        else:
            group.append(row)
    yield from groups


def _fit(one: AnyPredictor, other: AnyPredictor) -> bool:
    if isinstance(one, Predictor) and isinstance(other, Predictor):
        return are_twins(one, other)
    return one is other

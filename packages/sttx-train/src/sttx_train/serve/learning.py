"""Learns in the background: reads and writes the store in a thread of its own, computes in the engine's.

So no request waits for a store that is slow or silent. Knows tenants and the engine; no requests.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future

from sttx_train.serve.engine import Engine
from sttx_train.serve.tenants import Tenants
from sttx_train.stores import StoreDown

_LOG = logging.getLogger(__name__)
_PAUSE = 5.0  # seconds until a store that failed is tried again


class Learning:
    """Takes the steps of tenants, while there is something to learn.

    Args:
        tenants: who learns.
        engine: computes the steps between requests; its idle work is this.
    """

    def __init__(self, tenants: Tenants, engine: Engine) -> None:
        self._tenants, self._engine = tenants, engine
        self._lock = threading.Lock()
        self._work: tuple[Callable[[], None], Future[None]] | None = None
        self._wanted, self._ending = threading.Event(), threading.Event()
        engine.idle = self._compute
        self._thread = threading.Thread(target=self._run, name="sttx-learning", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Learn what tenants have added."""
        self._wanted.set()

    def close(self) -> None:
        """End the thread, once the engine has ended; a step that is being written is finished."""
        with self._lock:
            self._ending.set()
            if self._work is not None:
                self._work[1].cancel()
        self._wanted.set()
        self._thread.join()

    def _run(self) -> None:
        down = False
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._ending.is_set():
                return
            more = False
            try:
                more = self._tenants.step(self._in_turn)
                down = False
            except CancelledError:
                return
            except StoreDown as error:
                if not down:
                    _LOG.warning("nothing is learned until the state store answers: %s", error)
                more = down = True
                self._ending.wait(_PAUSE)
            except Exception:  # noqa: BLE001  later texts are learned; the log says what failed
                _LOG.exception("a step of learning failed")
            if more:
                self._wanted.set()

    def _in_turn(self, work: Callable[[], None]) -> None:
        """Let the engine do a piece of work when it has time, and return when it is done.

        Raises:
            CancelledError: the server ends.
        """
        future: Future[None] = Future()
        with self._lock:
            if self._ending.is_set():
                raise CancelledError
            self._work = (work, future)
        self._engine.wake()
        future.result()

    def _compute(self) -> bool:
        """Do the work that waits, in the engine's thread; no more waits then."""
        with self._lock:
            waiting, self._work = self._work, None
        if waiting is not None:
            work, future = waiting
            try:
                work()
            except Exception as error:  # noqa: BLE001  the thread that waits gets it
                future.set_exception(error)
            else:
                future.set_result(None)
        return False

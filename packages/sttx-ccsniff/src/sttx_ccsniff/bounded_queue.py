"""The bounded hand-over between the thread that reads and the consumer that learns.

The producer blocks while the consumer is slower; nothing is ever dropped. At most `capacity` items wait, in
the hand-over and in the consumer's hand together (2 where `capacity` is 1). Items change hands several at a
time, so that a fast consumer does not pay for a lock at each one.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Closed(Exception):
    """The consumer has gone: the producer should end."""


class Handover(Generic[Item]):
    """A queue between one producer and one consumer.

    >>> handover = Handover(capacity=4)
    >>> handover.put([1, 2]); handover.end()
    >>> handover.take(), handover.take()
    ([1, 2], None)
    """

    def __init__(self, capacity: int) -> None:
        self._taken_at_once = max(1, capacity // 2)
        self._room = max(1, capacity - self._taken_at_once)
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._closed = False
        self._error: BaseException | None = None
        self._taker: int | None = None  # the thread that is in `take`

    def put(self, items: Iterable[Item]) -> None:
        """Hand over items, waiting for room for each; raise `Closed` if the consumer has gone."""
        with self._changed:
            for item in items:
                while len(self._items) >= self._room and not self._closed:
                    self._changed.wait()
                if self._closed:
                    raise Closed
                self._items.append(item)
                if len(self._items) == 1:
                    self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """Say that nothing more will come, and why if something went wrong."""
        with self._changed:
            self._ended = True
            self._error = error
            self._changed.notify_all()

    def take(self, timeout: float | None = None) -> list[Item] | None:
        """Wait for items; None at the end. An error of the producer is raised here, after its last item.

        Raises:
            TimeoutError: Nothing came for `timeout` seconds.
        """
        self._taker = threading.get_ident()
        try:
            return self._take(timeout)
        finally:
            self._taker = None

    def _take(self, timeout: float | None) -> list[Item] | None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._items or self._ended or self._closed, timeout):
                raise TimeoutError
            taken: list[Item] = []
            with contextlib.suppress(IndexError):  # a signal's handler, in this very thread, closed meanwhile
                while self._items and len(taken) < self._taken_at_once:
                    taken.append(self._items.popleft())
            self._changed.notify_all()
            if taken:
                return taken
            error, self._error = self._error, None
        if error is not None:
            raise error
        return None

    def close(self) -> bool:
        """The consumer goes: waiting items are dropped, and a blocked producer wakes.

        Returns:
            Whether the caller may wait for the producer to end. Not so a signal's handler that interrupts
            `take`: the producer may need the lock which that holds. Wait once `take` has returned.
        """
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()
        return self._taker != threading.get_ident()

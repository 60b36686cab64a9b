"""The bounded queue between the reading thread and the consumer.

The producer blocks while the queue is full; no item is dropped. At most `capacity` items wait, counting those
that the consumer took but has not used yet. With capacity 1 two items may wait: one queued, one taken. The
consumer takes several items at a time, so a fast consumer does not pay for a lock per item.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Closed(Exception):
    """The consumer closed the queue: the producer must end."""


class BoundedQueue(Generic[Item]):
    """A queue between one producer and one consumer.

    >>> queue = BoundedQueue(capacity=4)
    >>> queue.put([1, 2]); queue.end()
    >>> queue.take(), queue.take()
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
        self._taker: int | None = None  # the thread that runs `take`

    def put(self, items: Iterable[Item]) -> None:
        """Add items, waiting for room for each.

        Raises:
            Closed: The consumer closed the queue.
        """
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
        """Mark the end of the items; `error` is what ended the producer, if anything did."""
        with self._changed:
            self._ended = True
            self._error = error
            self._changed.notify_all()

    def take(self, timeout: float | None = None) -> list[Item] | None:
        """Wait for items and return them; None at the end.

        Raises:
            TimeoutError: No item arrived for `timeout` seconds.
            BaseException: The error of the producer, after its last item.
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
            with contextlib.suppress(IndexError):  # a signal handler in this thread may call close()
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
        """Close the queue from the consumer's side: drop waiting items and wake a blocked producer.

        Returns:
            Whether the caller may wait for the producer to end. False in a signal handler that interrupts
            `take`, because `take` holds the lock that the producer may need: wait after `take` returns.
        """
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()
        return self._taker != threading.get_ident()

import threading
import time
from collections import deque

import pytest

from sttx_ccsniff.bounded_queue import BoundedQueue, Closed


def in_thread(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def wait_until(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.001)


@pytest.mark.parametrize("capacity", [1, 2, 3, 64])
def test_everything_arrives_once_and_in_order(capacity):
    queue = BoundedQueue(capacity)

    def produce():
        for start in range(0, 1000, 7):
            queue.put(range(start, min(start + 7, 1000)))
        queue.end()

    in_thread(produce)
    got = []
    while (taken := queue.take()) is not None:
        got += taken
    assert got == list(range(1000))


@pytest.mark.parametrize("capacity", [1, 2, 8, 64])
def test_the_producer_is_at_most_the_capacity_ahead(capacity):
    queue = BoundedQueue(capacity)
    made = []

    def items():
        for number in range(300):
            made.append(number)
            yield number

    in_thread(lambda: (queue.put(items()), queue.end()))
    consumed = 0
    allowed = max(2, capacity) + 1  # the producer holds one more
    while (taken := queue.take()) is not None:
        for _ in taken:
            time.sleep(0.0002)
            assert len(made) - consumed <= allowed
            consumed += 1
    assert consumed == 300


def test_a_blocked_producer_waits_for_room():
    queue = BoundedQueue(4)
    done = threading.Event()
    in_thread(lambda: (queue.put(range(50)), done.set()))
    wait_until(lambda: len(queue._items) == queue._room)
    assert not done.wait(0.05), "it should be waiting for room"
    while not done.is_set():
        queue.take()


def test_closing_wakes_a_blocked_producer():
    queue = BoundedQueue(2)
    ended = []

    def produce():
        try:
            queue.put(range(1000))
        except Closed:
            ended.append("closed")

    thread = in_thread(produce)
    wait_until(lambda: len(queue._items) == queue._room)
    queue.close()
    thread.join(120)
    assert ended == ["closed"]


def test_closing_wakes_a_waiting_consumer():
    queue = BoundedQueue(2)
    threading.Timer(0.05, queue.close).start()
    assert queue.take() is None


def test_an_error_comes_after_the_items_before_it():
    queue = BoundedQueue(8)
    queue.put([1, 2])
    queue.end(ValueError("broken"))
    assert queue.take() == [1, 2]
    with pytest.raises(ValueError, match="broken"):
        queue.take()
    assert queue.take() is None


def test_take_times_out():
    with pytest.raises(TimeoutError):
        BoundedQueue(2).take(timeout=0.02)


def test_a_signal_handler_may_close_during_take():
    queue = BoundedQueue(64)

    class Signaled(deque):
        def popleft(self):
            item = super().popleft()
            if len(self) == 6:
                queue.close()
            return item

    queue._items = Signaled(range(8))
    assert queue.take() == [0, 1]
    assert queue.take(0) is None

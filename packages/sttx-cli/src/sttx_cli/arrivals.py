"""Traces as they arrive, taken by a thread of its own, so that the source never waits for who prices them.

What waits is bounded. Where nothing may be lost the thread waits until there is room. Where a person watches
live sessions, the oldest traces of a document make room for its newest: so neither a long history nor many
busy sessions make alarms late.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable

from sttx_ccsniff import Source
from sttx_core.render import render
from sttx_core.traces import Trace

MOST_DOCUMENTS = 1024  # with waiting traces; beyond it those of the document that waits longest are dropped
_LOSSLESS = 64  # traces that may wait where none is dropped


class Arrivals:
    """The traces of a source that nobody has taken yet.

    Args:
        source: What to read. Closing it ends the thread.
        tail: Bytes of text of each document that may wait, and of one trace more; None to drop nothing. A
            trace without text counts as one byte.
        clip: Shortens a trace before it waits.

    Attributes:
        dropped: Bytes of text that were dropped to make room.
    """

    def __init__(self, source: Source, *, tail: int | None, clip: Callable[[Trace], Trace]) -> None:
        self._source, self._tail, self._clip = source, tail, clip
        self._waiting: OrderedDict[str, deque[tuple[Trace, int]]] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._order: deque[Trace] = deque()  # where nothing is dropped, the order of the stream counts
        self._changed = threading.Condition()
        self._ended, self._closed = False, False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="sttx-arrivals", daemon=True)
        self.dropped = 0

    def __enter__(self) -> "Arrivals":
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()
        self._source.close()
        self._thread.join()

    def close(self) -> None:
        """Make `take` return None from now on; may be called from another thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self) -> Trace | None:
        """Wait for the next trace and return it; None at the end.

        Documents take turns where the oldest traces are dropped, so that no busy one delays the others.

        Raises:
            BaseException: What ended the source, after its last trace.
        """
        with self._changed:
            self._changed.wait_for(self._is_ready)
            if self._closed:
                return None
            trace = self._order.popleft() if self._order else self._next_document()
            self._changed.notify_all()
            error = self._error
        if trace is None and error is not None:
            raise error
        return trace

    def _is_ready(self) -> bool:
        return bool(self._order or self._waiting or self._ended or self._closed)

    def _next_document(self) -> Trace | None:
        if not self._waiting:
            return None
        document, traces = self._waiting.popitem(last=False)
        trace, size = traces.popleft()
        if traces:
            self._waiting[document] = traces
            self._sizes[document] -= size
        else:
            del self._sizes[document]
        return trace

    def _run(self) -> None:
        try:
            for trace in self._source:
                if self._tail is None:
                    self._put_in_order(trace)
                else:
                    self._put(self._clip(trace), self._tail)
                if self._closed:
                    break
        except BaseException as error:  # noqa: BLE001  passed to the consumer's thread, which raises it
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _put_in_order(self, trace: Trace) -> None:
        with self._changed:
            self._changed.wait_for(lambda: len(self._order) < _LOSSLESS or self._closed)
            self._order.append(trace)
            self._changed.notify_all()

    def _put(self, trace: Trace, tail: int) -> None:
        """Add a trace; its document drops its oldest ones beyond the tail."""
        size, document = max(len(render(trace).encode()), 1), trace.document
        with self._changed:
            traces = self._waiting.setdefault(document, deque())
            traces.append((trace, size))
            self._sizes[document] = self._sizes.get(document, 0) + size
            while len(traces) > 1 and self._sizes[document] - traces[-1][1] > tail:
                self._drop(document, traces.popleft()[1])
            while len(self._waiting) > MOST_DOCUMENTS:
                oldest, left = self._waiting.popitem(last=False)
                for _, each in left:
                    self._drop(oldest, each)
                del self._sizes[oldest]
            self._changed.notify_all()

    def _drop(self, document: str, size: int) -> None:
        self._sizes[document] -= size
        self.dropped += size

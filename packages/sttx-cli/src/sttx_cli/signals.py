"""Ends a run cleanly on SIGINT or SIGTERM: the first is a request, the second kills."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruptible:
    """Inside the block, the first SIGINT or SIGTERM calls ``stop`` and ``release``, and a second one kills.

    Args:
        stop: called in the signal handler; may only set flags.
        release: called in a thread of its own, since it may wait for locks that the interrupted code holds.

    Attributes:
        signaled: the signal that came; None before one comes.
    """

    def __init__(self, stop: Callable[[], None], release: Callable[[], None]) -> None:
        self._stop = stop
        self._releasing = threading.Thread(target=release, name="sttx-release", daemon=True)
        self._before: dict[signal.Signals, object] = {}
        self.signaled: signal.Signals | None = None

    def __enter__(self) -> "Interruptible":
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)  # type: ignore[arg-type]
        if self._releasing.ident is not None:
            self._releasing.join()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        for again in _SIGNALS:
            signal.signal(again, signal.SIG_DFL)
        self.signaled = signal.Signals(number)
        self._stop()
        self._releasing.start()

"""Ends a run cleanly on SIGINT, SIGTERM or SIGHUP: the first is a request, a later one kills.

One request may arrive twice: a supervisor such as `uv run` forwards the signal that the whole process group
got, and a shell repeats that of its terminal. So a signal that comes right after the first is not a second
request.
"""

import atexit
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable
from types import FrameType, TracebackType

_HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none
_SIGNALS = (signal.SIGINT, signal.SIGTERM, *([] if _HANGUP is None else [_HANGUP]))
REPEAT = 0.9  # seconds after the first signal in which another one repeats it; the first may be handled late


class Interruptible:
    """Inside the block, the first of the signals calls ``stop`` and ``release``, and a later one kills.

    A signal within :data:`REPEAT` seconds of the first is ignored, after the block too: the process reports
    and ends, and a repetition must not hit that. While Python itself ends, all are ignored. Without a signal,
    the block restores the old handlers.
    SIGHUP stays ignored where it is, as under `nohup`.

    Args:
        stop: called in the signal handler; may only set flags.
        release: called in a thread of its own, since it may wait for locks that the interrupted code holds.
        clock: returns the time in seconds; never goes back.

    Attributes:
        signaled: the signal that came; None before one comes.
    """

    def __init__(
        self,
        stop: Callable[[], None],
        release: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stop, self._clock = stop, clock
        self._kills_from = math.inf  # on the clock
        self._releasing = threading.Thread(target=release, name="sttx-release", daemon=True)
        self._before: dict[signal.Signals, object] = {}
        self.signaled: signal.Signals | None = None

    def __enter__(self) -> "Interruptible":
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if number is _HANGUP and signal.getsignal(number) is signal.SIG_IGN:
                    continue
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.signaled is None:
            for number, before in self._before.items():
                signal.signal(number, before)  # type: ignore[arg-type]
        if self._releasing.ident is not None:
            self._releasing.join()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        received = signal.Signals(number)
        if self.signaled is None:  # set at once, since another signal may interrupt this handler
            self.signaled = received
            self._kills_from = self._clock() + REPEAT
            atexit.register(_ignore, list(self._before))
            self._stop()
            self._releasing.start()
        elif self._clock() >= self._kills_from:
            signal.signal(received, signal.SIG_DFL)
            signal.raise_signal(received)


def _ignore(numbers: Iterable[signal.Signals]) -> None:
    """Ignore signals from now on; Python would restore their defaults, which kill, before it has ended."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)

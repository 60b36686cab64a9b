"""What may have changed under some folders: told by the operating system where it can, else looked for.

`Changes.wait` returns paths to look at, or None: look everywhere. Everything is looked at from time to time
even so, because notifications get lost (links to other places, network folders, full queues), as often as
keeps it under a quarter of a percent of a core.
"""

import os
import threading
import time
from collections.abc import Callable, Generator, Iterable
from pathlib import Path

import watchfiles

_STEP_MS = 20  # how long a burst must pause to be told at once
_DEBOUNCE_MS = 40  # how long a burst may last before it is told in any case
_TICK_SECONDS = 0.5
_POLL_SECONDS = 0.04
_SCAN_SHARE = 400  # a look everywhere may take 1/400 of the time
_SCAN_SECONDS = 1.0  # but is not taken more often
_HOT_SECONDS = 600.0
_MOST_HOT = 64


class Changes:
    """Waits for changes under folders, which need not exist yet.

    Args:
        roots: Folders or files.
        stop: Ends the waiting.
        say: Told once when notifications cannot be had, and looking takes their place.
        polling: Never ask for notifications.
    """

    def __init__(
        self,
        roots: Iterable[Path],
        stop: threading.Event,
        say: Callable[[str], None],
        *,
        polling: bool = False,
    ) -> None:
        self._roots = list(roots)
        self._stop = stop
        self._say = say
        self._polling = polling
        self._watcher: Generator[set[tuple[watchfiles.Change, str]], None, None] | None = None
        self._watched: list[tuple[str, int, int]] = []
        self._hot: dict[Path, float] = {}
        self._scan_due = 0.0

    def wait(self) -> set[Path] | None:
        """Wait a while for changes.

        Returns:
            Paths of files and folders that changed, perhaps none; None when it is time to look everywhere.
        """
        if not self._polling:
            self._watch()
        if not self._scan_due:
            return None
        told = self._poll() if self._watcher is None else self._notified()
        return None if time.monotonic() >= self._scan_due else told

    def scanned(self, seconds: float) -> None:
        """Be told that everything was looked at, and how much of a core's time that took."""
        self._scan_due = time.monotonic() + max(_SCAN_SECONDS, seconds * _SCAN_SHARE)

    def grew(self, path: Path) -> None:
        """Be told that a file has grown: while looking, it is looked at often from now on."""
        self._hot.pop(path, None)
        self._hot[path] = time.monotonic()
        if len(self._hot) > _MOST_HOT:
            del self._hot[next(iter(self._hot))]

    def close(self) -> None:
        """End the watching."""
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None

    def _watch(self) -> None:
        """Watch the folders that are there; anew where one was made or replaced."""
        there = []
        for root in self._roots:
            try:
                status = root.stat()
            except OSError:
                continue
            there.append((str(root), status.st_dev, status.st_ino))
        if there == self._watched:
            return
        self.close()
        self._watched = there
        if there:
            self._watcher = watchfiles.watch(
                *(path for path, _, _ in there),
                watch_filter=None,
                debounce=_DEBOUNCE_MS,
                step=_STEP_MS,
                stop_event=self._stop,
                rust_timeout=int(_TICK_SECONDS * 1000),
                yield_on_timeout=True,
                raise_interrupt=False,
                force_polling=False,
            )
        self._scan_due = 0.0

    def _notified(self) -> set[Path] | None:
        assert self._watcher is not None
        try:
            changes = next(self._watcher, None)
        except (OSError, RuntimeError) as error:
            self._watcher, self._polling = None, True
            self._say(f"changes are looked for, not notified: the system refused ({error})")
            return None
        if changes is None:  # stopped
            self._watcher = None
            return set()
        return {Path(path) for _, path in changes}

    def _poll(self) -> set[Path]:
        self._stop.wait(_POLL_SECONDS)
        now = time.monotonic()
        self._hot = {path: when for path, when in self._hot.items() if now - when < _HOT_SECONDS}
        return {path for path in self._hot if os.path.exists(path)}

"""Reports which files may have changed, from the operating system's notifications or else by polling.

`ChangeWatcher.wait` returns the paths to look at, or `FULL_SCAN`. A full scan also runs from time to time
when notifications work, because some get lost (links to other places, network folders, full queues). It is
spaced so that scanning takes less than 0.25 percent of one core.
"""

import os
import threading
import time
from collections.abc import Callable, Generator, Iterable
from pathlib import Path

import watchfiles

_STEP_MS = 20  # a burst of changes that pauses this long is reported at once
_DEBOUNCE_MS = 40  # a burst that lasts longer is reported anyway
_TICK_SECONDS = 0.5
_POLL_SECONDS = 0.04
_SCAN_SHARE = 400  # a full scan may take 1/400 of the time
_MIN_SCAN_SECONDS = 1.0  # between two full scans
_RECENT_SECONDS = 600.0  # while polling, a file is recent for this long after it grew
_MAX_RECENT = 64

FULL_SCAN = None
"""What `ChangeWatcher.wait` returns when all files must be looked at."""


class ChangeWatcher:
    """Waits for changes under folders, which need not exist yet.

    Args:
        roots: Folders or files.
        stop: Ends the waiting.
        warn: Called once when notifications are not available and polling takes their place.
        polling: Never use notifications.
    """

    def __init__(
        self,
        roots: Iterable[Path],
        stop: threading.Event,
        warn: Callable[[str], None],
        *,
        polling: bool = False,
    ) -> None:
        self._roots = list(roots)
        self._stop = stop
        self._warn = warn
        self._polling = polling
        self._watcher: Generator[set[tuple[watchfiles.Change, str]], None, None] | None = None
        self._watched: list[tuple[str, int, int]] = []
        self._recent: dict[Path, float] = {}  # when each file grew; only these are polled between full scans
        self._scan_due = 0.0

    def wait(self) -> set[Path] | None:
        """Wait a short time for changes.

        Returns:
            Paths of files and folders that changed, possibly none; `FULL_SCAN` when a full scan is due.
        """
        if not self._polling:
            self._watch()
        if not self._scan_due:
            return FULL_SCAN
        changed = self._poll() if self._watcher is None else self._notified()
        return FULL_SCAN if time.monotonic() >= self._scan_due else changed

    def note_scan(self, seconds: float) -> None:
        """Record that a full scan is done and how much CPU time it took; schedule the next one."""
        self._scan_due = time.monotonic() + max(_MIN_SCAN_SECONDS, seconds * _SCAN_SHARE)

    def note_growth(self, path: Path) -> None:
        """Record that a file has grown: while polling, it is recent and checked often from now on."""
        self._recent.pop(path, None)
        self._recent[path] = time.monotonic()
        if len(self._recent) > _MAX_RECENT:
            del self._recent[next(iter(self._recent))]

    def close(self) -> None:
        """Stop watching."""
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None

    def _watch(self) -> None:
        """Watch the folders that exist; start again when one is created or replaced."""
        existing = []
        for root in self._roots:
            try:
                status = root.stat()
            except OSError:
                continue
            existing.append((str(root), status.st_dev, status.st_ino))
        if existing == self._watched:
            return
        self.close()
        self._watched = existing
        if existing:
            self._watcher = watchfiles.watch(
                *(path for path, _, _ in existing),
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
            self._warn(
                f"files are polled for changes, because the system refused notifications ({error}): "
                "raise its limit on watched files to get them sooner"
            )
            return FULL_SCAN
        if changes is None:  # stopped
            self._watcher = None
            return set()
        return {Path(path) for _, path in changes}

    def _poll(self) -> set[Path]:
        self._stop.wait(_POLL_SECONDS)
        now = time.monotonic()
        self._recent = {path: grown for path, grown in self._recent.items() if now - grown < _RECENT_SECONDS}
        return {path for path in self._recent if os.path.exists(path)}

"""Detects when a session has ended: after a long silence, or because its Claude Code process is gone.

Claude Code writes one file for each running process into `sessions/<pid>.json`, next to its projects folder.
The file holds the process id, its start time as in /proc, and the session that it runs. A session that had
such a file and no longer has one with a living process has ended.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from sttx_ccsniff.cursor import set_latest
from sttx_ccsniff.feeds import Delivery, Shared
from sttx_core.traces import Meta, SessionEnd, Trace

IDLE_SECONDS = 1800.0
"""Silence after which a session counts as ended, unless the end of its process shows it sooner."""

_CHECK_SECONDS = 2.0
_SETTLE_SECONDS = 1.0  # time to read the last lines of a process


class EndDetector:
    """Keeps the open documents and reports which of them have ended.

    Args:
        registry: Claude Code's folder of running processes; None where another agent's sessions are read.
        idle: Seconds of silence that end a document.
    """

    def __init__(self, registry: Path | None = None, idle: float = IDLE_SECONDS) -> None:
        self._registry = registry
        self._idle = idle
        self._open: dict[str, tuple[Meta, float]] = {}
        self._running: set[str] = set()
        self._exited: set[str] = set()
        self._checked = -_CHECK_SECONDS

    def resume(self, last_metas: Iterable[Meta], roots: Iterable[Path]) -> None:
        """Continue with the documents under some folders that were open when an earlier run ended."""
        folders = list(roots)
        for meta in last_metas:
            if not any(Path(meta.origin.partition("#")[0]).is_relative_to(folder) for folder in folders):
                continue
            active = max(meta.time, _modified(meta.origin)) or time.time()
            self._open[SessionEnd(meta=meta).document] = (meta, active)

    def observe(self, traces: list[Trace], when: float) -> None:
        """Record that the documents of these traces were active at `when` (Unix seconds)."""
        for trace in traces:
            set_latest(self._open, trace.document, (trace.meta, when))

    def deliveries(self, shared: Shared) -> Iterator[Delivery]:
        """Yield the end of each document that has ended, also of one whose file was deleted.

        The place does not move: it is the origin's saved one, or None where the file is gone.
        """
        for end in self.ended():
            yield Delivery(end.meta.origin, [end], shared.places.get(end.meta.origin))

    def ended(self, now: float | None = None) -> list[SessionEnd]:
        """Return the documents that have ended since the last call."""
        now = time.time() if now is None else now
        if self._checked <= now < self._checked + _CHECK_SECONDS:  # check at once if the clock was set back
            return []
        self._checked = now
        self._check_processes()
        over = [
            (name, meta)
            for name, (meta, active) in self._open.items()
            if now - active >= (_SETTLE_SECONDS if meta.session in self._exited else self._idle)
        ]
        for name, _ in over:
            del self._open[name]
        # If such a session is active again, another process has resumed it.
        self._exited -= {meta.session for _, meta in over} - {meta.session for meta, _ in self._open.values()}
        return [SessionEnd(meta=_end_meta(meta)) for _, meta in over]

    def _check_processes(self) -> None:
        """Record the sessions whose process ran at the last check and does not run now."""
        if self._registry is not None:
            before, self._running = self._running, running_sessions(self._registry)
            self._exited = (self._exited | (before - self._running)) - self._running


def running_sessions(registry: Path) -> set[str]:
    """Return the sessions that have a living process."""
    running = set()
    try:
        files = [path for path in registry.iterdir() if path.suffix == ".json"]
    except OSError:
        return running
    for path in files:
        try:
            entry = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            continue
        session = entry.get("sessionId") if isinstance(entry, dict) else None
        if isinstance(session, str) and _is_alive(entry.get("pid"), entry.get("procStart")):
            running.add(session)
    return running


def _is_alive(pid: object, started: object) -> bool:
    """Return whether a process is alive and, where a start time is given, is the one that started then."""
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return not Path("/proc/self/stat").exists() and _exists(pid)
    return started is None or str(started) == fields[19]


def _exists(pid: int) -> bool:
    """Return whether a process exists, on systems without /proc."""
    if os.name != "posix":
        return True  # on Windows `os.kill` would end the process, so assume that it runs
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _modified(path: str) -> float:
    """Return a file's modification time in Unix seconds, 0 if the file is gone."""
    try:
        return os.stat(path).st_mtime
    except (OSError, ValueError):
        return 0.0


def _end_meta(meta: Meta) -> Meta:
    return Meta(
        session=meta.session,
        project=meta.project,
        time=meta.time,
        uid=f"{meta.uid.partition('#')[0]}:end",
        origin=meta.origin,
        subagent=meta.subagent,
        parent=meta.parent,
        segment=meta.segment,
    )

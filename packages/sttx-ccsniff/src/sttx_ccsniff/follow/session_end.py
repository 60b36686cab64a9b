"""When a session is over: it was silent for long, or Claude Code says that its process is gone.

Claude Code keeps a file a running process beside its projects: `sessions/<pid>.json`, with the process's id,
its start time as /proc gives it, and the session it is in. A session that had one and has none with a living
process any more has ended.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from sttx_ccsniff.cursor import keep_open
from sttx_ccsniff.feeds import Delivery, Shared
from sttx_core.traces import Meta, SessionEnd, Trace

IDLE_SECONDS = 1800.0
"""Silence after which a session is taken for ended, where nothing else tells."""

_LOOK_SECONDS = 2.0
_SETTLE_SECONDS = 1.0  # what a process wrote last has been read by then


class Ends:
    """The documents that are open, and which of them have ended.

    Args:
        registry: Claude Code's folder of running processes; None where another program's sessions are read.
        idle: Seconds of silence that end a document.
    """

    def __init__(self, registry: Path | None = None, idle: float = IDLE_SECONDS) -> None:
        self._registry = registry
        self._idle = idle
        self._open: dict[str, tuple[Meta, float]] = {}
        self._running: set[str] = set()
        self._gone: set[str] = set()
        self._looked = -_LOOK_SECONDS

    def resume(self, last_words: Iterable[Meta], roots: Iterable[Path]) -> None:
        """Take up the documents under some folders that were open when an earlier run ended."""
        folders = list(roots)
        for meta in last_words:
            if not any(Path(meta.origin.partition("#")[0]).is_relative_to(folder) for folder in folders):
                continue
            heard = max(meta.time, _written(meta.origin)) or time.time()
            self._open[SessionEnd(meta=meta).document] = (meta, heard)

    def deliveries(self, shared: Shared) -> Iterator[Delivery]:
        """Yield the end of each document that has ended."""
        for end in self.ended():  # the place stays where it is: nowhere, if its file is no more
            yield Delivery(end.meta.origin, [end], shared.places.get(end.meta.origin))

    def heard(self, traces: list[Trace], when: float) -> None:
        """Note who spoke, and when (Unix seconds)."""
        for trace in traces:
            keep_open(self._open, trace.document, (trace.meta, when))

    def ended(self, now: float | None = None) -> list[SessionEnd]:
        """Return the documents that have ended since the last time."""
        now = time.time() if now is None else now
        if self._looked <= now < self._looked + _LOOK_SECONDS:  # not so where the clock was set back
            return []
        self._looked = now
        self._look()
        over = [
            (name, meta)
            for name, (meta, heard) in self._open.items()
            if now - heard >= (_SETTLE_SECONDS if meta.session in self._gone else self._idle)
        ]
        for name, _ in over:
            del self._open[name]
        # Should such a session speak again, another process has taken it up.
        self._gone -= {meta.session for _, meta in over} - {meta.session for meta, _ in self._open.values()}
        return [SessionEnd(meta=_closing(meta)) for _, meta in over]

    def _look(self) -> None:
        """Note the sessions that were running when last looked, and are not now."""
        if self._registry is not None:
            before, self._running = self._running, running_sessions(self._registry)
            self._gone = (self._gone | (before - self._running)) - self._running


def running_sessions(registry: Path) -> set[str]:
    """Return the sessions that a living process is in."""
    found = set()
    try:
        files = [path for path in registry.iterdir() if path.suffix == ".json"]
    except OSError:
        return found
    for path in files:
        try:
            entry = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            continue
        session = entry.get("sessionId") if isinstance(entry, dict) else None
        if isinstance(session, str) and _lives(entry.get("pid"), entry.get("procStart")):
            found.add(session)
    return found


def _lives(pid: object, started: object) -> bool:
    """Whether a process lives, and is the one meant where its start time is known."""
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return not Path("/proc/self/stat").exists() and _answers(pid)
    return started is None or str(started) == fields[19]


def _answers(pid: int) -> bool:
    """Whether a process is there, where no /proc tells of it."""
    if os.name != "posix":
        return True  # a signal would end it there
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _written(path: str) -> float:
    """When a file was written last, in Unix seconds; 0 if it is no more."""
    try:
        return os.stat(path).st_mtime
    except (OSError, ValueError):
        return 0.0


def _closing(meta: Meta) -> Meta:
    return Meta(
        session=meta.session,
        project=meta.project,
        time=meta.time,
        uid=f"{meta.uid.partition('#')[0]}:end",
        origin=meta.origin,
        agent=meta.agent,
        parent=meta.parent,
        segment=meta.segment,
    )

"""`live`: the real ccsniff's watcher, in a Node process of ours that prints what it sees.

ccsniff's command line is never run: its `--json` loses two tool calls in three, and every start copies the
whole history to another folder. Its watcher as a library loses nothing; `shim.mjs` runs it. The process is
looked after here: started again where it dies or falls silent, from where reading stands, and given up when
that does not help. It ends when its standard input closes, so it cannot outlive us.
"""

import contextlib
import io
import json
import os
import select
import subprocess
import tempfile
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import IO, Any

from sttx_ccsniff.environment import claude_projects
from sttx_ccsniff.feeds import Delivery, Shared
from sttx_ccsniff.follow.session_end import Ends
from sttx_ccsniff.live.frames import Frame, Incoming, OutOfStep, frames, history
from sttx_ccsniff.live.install import INSTEAD, VERSION, end_group, shim_command
from sttx_ccsniff.read.splitter import MAX_LINE
from sttx_core.errors import SourceError

_BEAT_SECONDS = 2.0
_SILENCE_SECONDS = 20.0  # ten heartbeats
_GRACE_SECONDS = 2.0
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 30.0
_HEALTHY_SECONDS = 60.0
_MOST_FAILURES = 6
_LAST_WORDS = 500


class LiveFeed:
    """Follows Claude Code's session files through ccsniff: all history first, then what is written.

    Args:
        folder: The projects folder; Claude Code's own by default.
        follow: Go on after the history; else end there.
        command: How to start the shim, up to its options; found (and ccsniff installed) by default when
            reading starts.
        ends: Says when a session has ended; silence and Claude Code's own files do by default.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        follow: bool = True,
        command: list[str] | None = None,
        ends: Ends | None = None,
    ) -> None:
        registry = claude_projects().parent / "sessions" if folder is None else None
        self._folder = Path(os.path.abspath(claude_projects() if folder is None else folder))
        self._follow = follow
        self._command = command
        self._ends = ends or Ends(registry)
        self._lock = threading.Lock()
        self._closed = False
        self._child: _Child | None = None
        self.description = f"live: ccsniff {VERSION} watching {self._folder}"

    def batches(self, shared: Shared) -> Generator[Delivery, None, None]:
        """Yield what is read of each file, as it is seen."""
        if not self._folder.is_dir():
            shared.report.warn(f"{str(self._folder)!r} is not there yet: waiting for it")
        self._ends.resume(shared.open, [self._folder])
        command = self._command or shim_command(self._folder, shared.report.warn, shared.stop)
        failures = 0
        while not shared.stop.is_set():
            started = time.monotonic()
            try:
                yield from self._watch(command, shared)
                return
            except (_Failed, OutOfStep) as failure:
                failures = 1 if time.monotonic() - started >= _HEALTHY_SECONDS else failures + 1
                self._pause(failures, failure, shared)

    def close(self) -> None:
        """End the Node process and everything that it started."""
        with self._lock:
            self._closed = True
            child = self._child
        if child is not None:
            child.end()

    def _watch(self, command: list[str], shared: Shared) -> Generator[Delivery, None, None]:
        """Yield what one process sees, until it fails or nothing more is wanted."""
        options = {
            "limit": MAX_LINE,
            "since": shared.since,
            "once": not self._follow,
            "beat": _BEAT_SECONDS,
        }
        told = history(self._folder, shared)
        with tempfile.TemporaryFile() as complaints:
            with self._lock:
                if self._closed:
                    return
                child = self._child = _Child([*command, json.dumps(options)], told, complaints)
            try:
                complete = yield from self._read(child, shared)
                if not complete and not shared.stop.is_set():
                    raise _Failed(child.last_words())
            finally:
                child.end()

    def _read(self, child: "_Child", shared: Shared) -> Generator[Delivery, None, bool]:
        """Yield what its frames hold; return whether that was all that is wanted."""
        incoming = Incoming(shared, self._ends, follow=self._follow)
        for letter, offset, payload in child.frames():
            if shared.stop.is_set() or (letter == b"I" and not self._follow):
                return True
            if letter == b"Z":
                raise SourceError(f"ccsniff: {payload.decode(errors='replace')}; {INSTEAD}")
            if letter == b"W":
                _warn_of_trouble(payload.decode(errors="replace"), shared)
            yield from incoming.take(letter, offset, payload)
        return False

    def _pause(self, failures: int, failure: Exception, shared: Shared) -> None:
        """Wait before the next start, longer each time; give up after several failures in a row."""
        if shared.stop.is_set():
            return
        if failures >= _MOST_FAILURES:
            raise SourceError(
                f"ccsniff's watcher failed {failures} times in a row, the last time with {failure}; {INSTEAD}"
            )
        pause = min(_FIRST_PAUSE * 2 ** (failures - 1), _LONGEST_PAUSE)
        shared.report.note("ccsniff's watcher started again")
        number = shared.report.noted["ccsniff's watcher started again"]
        shared.report.warn(
            f"ccsniff's watcher failed with {failure}: started again in {pause:g} s, where reading stands "
            f"(restart {number})"
        )
        shared.stop.wait(pause)


class _Failed(Exception):
    """The process died or fell silent."""


class _Child:
    """One Node process: its frames, its life and its last words."""

    def __init__(self, command: list[str], told: bytes, complaints: IO[bytes]) -> None:
        self._complaints = complaints
        try:
            self.process = subprocess.Popen(
                command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                start_new_session=True,
            )
        except OSError as error:
            raise SourceError(f"cannot run {command[0]!r} ({error}); {INSTEAD}") from error
        self._ending = threading.Lock()
        self._telling = threading.Thread(target=self._tell, args=(told,), name="sttx-live", daemon=True)
        self._telling.start()

    def frames(self) -> Generator[Frame, None, None]:
        """Yield what it prints; raise `_Failed` where it is silent for long."""
        assert self.process.stdout is not None
        with io.BufferedReader(_Patient(self.process.stdout), 2**16) as stdout:
            yield from frames(stdout)

    def last_words(self) -> str:
        """Wait for its end, and say what it was."""
        self.end()
        self._complaints.seek(0, os.SEEK_END)
        self._complaints.seek(max(0, self._complaints.tell() - 4 * _LAST_WORDS))
        said = " ".join(self._complaints.read().decode(errors="replace").split())[-_LAST_WORDS:]
        return f"status {self.process.returncode}: {said!r}"

    def end(self) -> None:
        """Let it end, make it end where it does not, and take its group along. May be called twice."""
        with self._ending:
            if self.process.returncode is not None:
                return
            if not self._telling.is_alive() and self.process.stdin is not None:
                self.process.stdin.close()
                _wait_unreaped(self.process, _GRACE_SECONDS)
            end_group(self.process)
        self._telling.join(_GRACE_SECONDS)
        if self.process.stdin is not None:
            self.process.stdin.close()

    def _tell(self, told: bytes) -> None:
        """Write what the process is told first; in a thread, because one that hangs does not read it."""
        assert self.process.stdin is not None
        rest = memoryview(told)
        with contextlib.suppress(OSError):
            while rest:
                rest = rest[self.process.stdin.write(rest) :]


class _Patient(io.RawIOBase):
    """The process's output, on which nobody waits longer than for ten heartbeats."""

    def __init__(self, stdout: IO[bytes]) -> None:
        self._stdout = stdout

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if os.name == "posix" and not select.select([self._stdout], [], [], _SILENCE_SECONDS)[0]:
            raise _Failed(f"silence for {_SILENCE_SECONDS:g} s")
        return self._stdout.readinto(buffer)  # type: ignore[attr-defined]

    def close(self) -> None:
        self._stdout.close()
        super().close()


def _wait_unreaped(process: "subprocess.Popen[bytes]", seconds: float) -> None:
    """Wait for an end without taking note of it where that can be, so that its group can still be named."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if hasattr(os, "waitid"):
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
            if os.waitid(os.P_PID, process.pid, flags) is not None:
                return
        elif process.poll() is not None:
            return
        time.sleep(0.005)


def _warn_of_trouble(said: str, shared: Shared) -> None:
    shared.report.warn(
        f"ccsniff's watcher is not told of changes ({said}): it looks for them every few seconds; "
        f"raise the system's limit, {INSTEAD}"
    )

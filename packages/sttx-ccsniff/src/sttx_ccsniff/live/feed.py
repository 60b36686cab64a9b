"""The source `live`: ccsniff's own watcher in a Node process, supervised from here.

ccsniff's command line is never run: its `--json` loses two tool calls in three, and every start copies the
whole history to another folder. Its watcher, used as a library, loses nothing; `shim.mjs` runs it. If the
process dies or falls silent, it is restarted where reading stopped; after several failures in a row the
source gives up. The process exits when its standard input closes, so it cannot outlive us.
"""

import contextlib
import io
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import IO, Any

from sttx_ccsniff.environment import claude_projects
from sttx_ccsniff.feeds import Delivery, Shared
from sttx_ccsniff.follow.session_end import EndDetector
from sttx_ccsniff.live.content import VERSION
from sttx_ccsniff.live.frames import Frame, FrameReader, OffsetMismatch, places_line, read_frames
from sttx_ccsniff.live.install import ALTERNATIVE, kill_group, shim_command
from sttx_ccsniff.read.splitter import MAX_LINE
from sttx_core.errors import SourceError
from sttx_core.os_errors import explain

_BEAT_SECONDS = 2.0
_SILENCE_SECONDS = 20.0  # ten heartbeats
_GRACE_SECONDS = 2.0
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 30.0
_HEALTHY_SECONDS = 60.0  # a process that ran this long clears the count of failures
_MAX_FAILURES = 6
_MAX_STDERR = 500  # characters quoted in a message


class LiveFeed:
    """Follows Claude Code's session files through ccsniff: the history first, then new lines.

    Args:
        folder: The projects folder; Claude Code's own by default.
        follow: Continue after the history.
        command: How to start the shim, without its options. By default Node is looked up, and ccsniff
            installed, when reading starts.
        ends: Detects when a session has ended; by silence and Claude Code's own files by default.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        follow: bool = True,
        command: list[str] | None = None,
        ends: EndDetector | None = None,
    ) -> None:
        registry = claude_projects().parent / "sessions" if folder is None else None
        self._folder = Path(os.path.abspath(claude_projects() if folder is None else folder))
        self._follow = follow
        self._command = command
        self._ends = ends or EndDetector(registry)
        self._lock = threading.Lock()
        self._closed = False
        self._child: _ShimProcess | None = None
        self.description = f"live: ccsniff {VERSION} watching {self._folder}"

    def batches(self, shared: Shared) -> Generator[Delivery, None, None]:
        """Yield deliveries as the watcher reads the files."""
        if not os.path.isdir(self._folder):
            shared.report.warn(f"{str(self._folder)!r} does not exist yet: waiting for it")
        self._ends.resume(shared.open, [self._folder])
        command = self._command or shim_command(self._folder, shared.report.warn, shared.stop)
        failures = 0
        while not shared.stop.is_set():
            started = time.monotonic()
            try:
                yield from self._watch(command, shared)
                return
            except (_ShimFailed, OffsetMismatch) as failure:
                failures = 1 if time.monotonic() - started >= _HEALTHY_SECONDS else failures + 1
                self._pause(failures, failure, shared)

    def close(self) -> None:
        """Stop the Node process and everything that it started."""
        with self._lock:
            self._closed = True
            child = self._child
        if child is not None:
            child.stop()

    def _watch(self, command: list[str], shared: Shared) -> Generator[Delivery, None, None]:
        """Yield the deliveries of one process, until it fails or reading should stop."""
        options = {
            "limit": MAX_LINE,
            "since": shared.since,
            "once": not self._follow,
            "beat": _BEAT_SECONDS,
        }
        first_line = places_line(self._folder, shared)
        with _temporary_file() as stderr:
            with self._lock:
                if self._closed:
                    return
                child = self._child = _ShimProcess([*command, json.dumps(options)], first_line, stderr)
            try:
                complete = yield from self._read(child, shared)
                if not complete and not shared.stop.is_set():
                    raise _ShimFailed(child.exit_message())
            finally:
                child.stop()

    def _read(self, child: "_ShimProcess", shared: Shared) -> Generator[Delivery, None, bool]:
        """Yield the deliveries in the process's frames; return whether reading is complete."""
        reader = FrameReader(shared, self._ends, follow=self._follow)
        for letter, offset, payload in child.frames():
            if shared.stop.is_set() or (letter == b"I" and not self._follow):
                return True
            if letter == b"Z":
                raise SourceError(f"ccsniff: {payload.decode(errors='replace')}; {ALTERNATIVE}")
            if letter == b"W":
                _warn_not_watching(payload.decode(errors="replace"), shared)
            yield from reader.deliveries(letter, offset, payload)
        return False

    def _pause(self, failures: int, failure: Exception, shared: Shared) -> None:
        """Wait before the next start, longer each time; give up after several failures in a row."""
        if shared.stop.is_set():
            return
        if failures >= _MAX_FAILURES:
            raise SourceError(
                f"ccsniff's watcher failed {failures} times in a row, the last time with {failure}; "
                f"{ALTERNATIVE}"
            )
        pause = min(_FIRST_PAUSE * 2 ** (failures - 1), _LONGEST_PAUSE)
        shared.report.note("ccsniff's watcher started again")
        number = shared.report.noted["ccsniff's watcher started again"]
        shared.report.warn(
            f"ccsniff's watcher failed with {failure}: restarting in {pause:g} s, where reading stopped "
            f"(restart {number})"
        )
        shared.stop.wait(pause)


class _ShimFailed(Exception):
    """The process died or fell silent."""


class _ShimProcess:
    """One Node process: starts it, reads its frames and stops it."""

    def __init__(self, command: list[str], first_line: bytes, stderr: IO[bytes]) -> None:
        self._stderr = stderr
        try:
            self.process = subprocess.Popen(
                command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        except OSError as error:
            raise SourceError(f"cannot run {command[0]!r}: {explain(error)}; {ALTERNATIVE}") from error
        self._stopping = threading.Lock()
        self._writer = threading.Thread(target=self._write, args=(first_line,), name="sttx-live", daemon=True)
        self._writer.start()

    def frames(self) -> Generator[Frame, None, None]:
        """Yield what it prints; raise `_ShimFailed` after a long silence."""
        assert self.process.stdout is not None
        with io.BufferedReader(_OutputWithTimeout(self.process.stdout), 2**16) as stdout:
            yield from read_frames(stdout)

    def exit_message(self) -> str:
        """Wait for its end; return its exit status and the end of its standard error."""
        self.stop()
        self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, self._stderr.tell() - 4 * _MAX_STDERR))
        printed = " ".join(self._stderr.read().decode(errors="replace").split())[-_MAX_STDERR:]
        return f"status {self.process.returncode}: {printed!r}"

    def stop(self) -> None:
        """Let it exit, kill it if it does not, and kill its process group. May be called twice."""
        with self._stopping:
            if self.process.returncode is not None:
                return
            if not self._writer.is_alive() and self.process.stdin is not None:
                self.process.stdin.close()
                _wait_unreaped(self.process, _GRACE_SECONDS)
            kill_group(self.process)
        self._writer.join(_GRACE_SECONDS)
        if self.process.stdin is not None:
            self.process.stdin.close()

    def _write(self, first_line: bytes) -> None:
        """Write the first line; in a thread of its own, because a process that hangs does not read it."""
        assert self.process.stdin is not None
        rest = memoryview(first_line)
        with contextlib.suppress(OSError):
            while rest:
                rest = rest[self.process.stdin.write(rest) :]


class _OutputWithTimeout(io.RawIOBase):
    """The process's output; a read fails after ten missed heartbeats (on Windows it waits)."""

    def __init__(self, stdout: IO[bytes]) -> None:
        self._stdout = stdout

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if os.name == "posix" and not select.select([self._stdout], [], [], _SILENCE_SECONDS)[0]:
            raise _ShimFailed(f"silence for {_SILENCE_SECONDS:g} s")
        return self._stdout.readinto(buffer)  # type: ignore[attr-defined]

    def close(self) -> None:
        self._stdout.close()
        super().close()


def _temporary_file() -> IO[bytes]:
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        raise SourceError(
            f"cannot make a temporary file for `live`: {explain(error)}, or set TMPDIR to another "
            f"folder, {ALTERNATIVE}"
        ) from error


def _wait_unreaped(process: "subprocess.Popen[bytes]", seconds: float) -> None:
    """Wait for the process to exit, if possible without reaping it, so that its group id stays valid."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if sys.platform != "win32" and hasattr(os, "waitid"):
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
            if os.waitid(os.P_PID, process.pid, flags) is not None:
                return
        elif process.poll() is not None:
            return
        time.sleep(0.005)


def _warn_not_watching(reason: str, shared: Shared) -> None:
    shared.report.warn(
        f"ccsniff's watcher gets no notifications ({reason}) and polls every few seconds instead; "
        f"raise the system's limit, {ALTERNATIVE}"
    )

"""Runs several commands as one: they end together, and their logs are bounded. Knows no system's services.

It ends when one command ends, when all of them take too much memory, and when sttx itself was upgraded. The
system starts it again then.
"""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO

from sttx_core.errors import SttxError
from sttx_core.own_files import make_private_folder, open_own

_TICK = 1.0  # seconds between two looks at the commands
_MEMORY_EVERY, _VERSION_EVERY = 10.0, 60.0  # seconds
_GRACE = 100.0  # seconds in which a command may end by itself
LOG_BYTES, LOG_FILES = 1_000_000, 4
"""Size of a log, and how many of them are kept for each command, the one in use included."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """Why the commands have ended.

    Attributes:
        reason: in a sentence.
        name: the command that ended by itself; None if none did.
        code: its exit code, negative for a signal.
    """

    reason: str
    name: str | None = None
    code: int = 0


class RotatingLog:
    """A log in a few files of bounded size: ``NAME.log`` in use, ``NAME.log.1`` before it, and so on.

    Args:
        path: of the file in use.
        limit: bytes of a file.
        files: how many there may be.
    """

    def __init__(self, path: Path, limit: int = LOG_BYTES, files: int = LOG_FILES) -> None:
        self._path, self._limit, self._files = path, limit, files

    def write(self, line: bytes) -> None:
        """Add a line; a longer one than the limit is cut.

        Raises:
            OSError: it cannot be written.
        """
        line = line[: self._limit]
        if self._path.exists() and self._path.stat().st_size + len(line) > self._limit:
            self._rotate()
        with os.fdopen(open_own(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab") as file:
            file.write(line)

    def _rotate(self) -> None:
        for number in range(self._files - 2, -1, -1):
            older = self._numbered(number)
            if older.exists():
                older.replace(self._numbered(number + 1))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path


class Supervisor:
    """Commands that run beside each other.

    Args:
        commands: by name.
        logs: folder of their logs; made if it is missing.
        memory: most bytes of all of them.
        say: is called with what happens.
        installed: returns the version of sttx that is installed now.
    """

    def __init__(
        self,
        commands: Mapping[str, Sequence[str]],
        logs: Path,
        *,
        memory: int,
        say: Callable[[str], None],
        installed: Callable[[], str | None] | None = None,
    ) -> None:
        self._commands, self._logs, self._memory, self._say = commands, logs, memory, say
        self._installed = installed or installed_version
        self._stopping = threading.Event()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._readers: list[threading.Thread] = []

    def stop(self) -> None:
        """End all commands; may be called from a signal's handler."""
        self._stopping.set()

    def run(self) -> Ended:
        """Run the commands until they end; return why.

        Raises:
            OSError: a command cannot be started, or the logs cannot be written.
        """
        make_private_folder(self._logs)
        try:
            for name, command in self._commands.items():
                self._start(name, command)
            return self._watch()
        finally:
            self._end_all()

    def _start(self, name: str, command: Sequence[str]) -> None:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(command, **pipes)  # type: ignore[call-overload]
        self._running[name] = process
        log = RotatingLog(self._logs / f"{name}.log")
        reader = threading.Thread(target=_copy, args=(process.stdout, log), daemon=True)
        self._readers.append(reader)
        reader.start()
        self._say(f"{name}: process {process.pid}, log {str(self._logs / f'{name}.log')!r}")

    def _watch(self) -> Ended:
        before, started = self._installed(), time.monotonic()
        memory_at, version_at = started + _MEMORY_EVERY, started + _VERSION_EVERY
        while not self._stopping.wait(_TICK):
            for name, process in self._running.items():
                if (code := process.poll()) is not None:
                    return Ended(reason=f"{name} has ended with exit code {code}", name=name, code=code)
            now = time.monotonic()
            if now >= memory_at:
                memory_at = now + _MEMORY_EVERY
                if (
                    used := sum(_memory_of(process.pid) for process in self._running.values())
                ) > self._memory:
                    return Ended(reason=f"{used:,} bytes of memory are used, more than {self._memory:,}")
            if now >= version_at:
                version_at = now + _VERSION_EVERY
                after = self._installed()
                if after is not None and after != before:
                    return Ended(reason=f"sttx was upgraded from {before} to {after}")
        return Ended(reason="stopped")

    def _end_all(self) -> None:
        """Ask all commands to end, all at once, and kill those that do not."""
        for process in self._running.values():
            if process.poll() is None:
                process.terminate()
        end = time.monotonic() + _GRACE
        for name, process in self._running.items():
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._say(f"{name} does not end: it is killed")
                process.kill()
                process.wait()
        for reader in self._readers:
            reader.join(_TICK)


def installed_version() -> str | None:
    """Return the version of sttx that is installed now; None while it is replaced."""
    try:
        return version("sttx-cli")
    except PackageNotFoundError:
        return None


def _memory_of(process: int) -> int:
    """Return the resident bytes of a process and of those that it has started; 0 if it has ended."""
    import psutil  # not at the head of the file: help must not load it

    try:
        parent = psutil.Process(process)
        family = [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return 0
    total = 0
    for one in family:
        try:
            total += one.memory_info().rss
        except psutil.Error:
            continue
    return total


def _copy(source: IO[bytes], log: RotatingLog) -> None:
    """Copy lines to a log; if that fails, go on reading, so that the command is not held up."""
    with source:
        for line in iter(lambda: source.readline(LOG_BYTES), b""):
            try:
                log.write(line)
            except (OSError, SttxError):  # a full disk, or a link in the log's place
                continue

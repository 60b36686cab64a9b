"""Runs a person's command for each alarm, beside the work: no shell, one at a time, its failures are notes.

The command gets the alarm as one line of JSON on its standard input. Nothing of a session is in its command
line or its environment.
"""

import contextlib
import json
import math
import os
import queue
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from typing import IO, Any

from sttx_cli.output import note
from sttx_cli.plain import one_line
from sttx_core.errors import UsageError
from sttx_core.os_errors import explain

TIMEOUT = 60.0  # seconds until a command is ended
_MOST_WAITING = 16
_SHOWN = 200  # characters of what a failed command printed


def parsed_command(text: str, option: str = "--exec") -> list[str]:
    """Split a command line as a POSIX shell splits it, without running one.

    Raises:
        UsageError: It is empty, has a quote that is not closed, or names a program that is not there.

    >>> parsed_command("env NAME='two words'")
    ['env', 'NAME=two words']
    """
    try:
        words = shlex.split(text, posix=os.name != "nt")
    except ValueError as error:
        raise UsageError(f"{option} {text!r} cannot be split into words: {error}") from error
    if not words:
        raise UsageError(f"{option} is empty: name a program and its arguments")
    if shutil.which(words[0]) is None:
        raise UsageError(
            f"{option}: there is no program {words[0]!r}; no shell runs the command, so for a pipe or a "
            "variable write sh -c '…'"
        )
    return words


class Hook:
    """Runs a command for each alarm, in a thread of its own.

    Args:
        words: The program and its arguments; None to run nothing.
        timeout: Seconds until a command is ended. The end of the block waits at most so long for all of them.
        say: Called with each failure.

    Attributes:
        runs: How many commands were started.
        failures: How many of them failed, or could not be started.
    """

    def __init__(
        self, words: list[str] | None, *, timeout: float = TIMEOUT, say: Callable[[str], None] = note
    ) -> None:
        self._words, self._timeout, self._say = words, timeout, say
        self._alarms: queue.Queue[bytes | None] = queue.Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="sttx-hook", daemon=True)
        self._deadline = math.inf
        self.runs, self.failures = 0, 0

    def __enter__(self) -> "Hook":
        if self._words is not None:
            self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._words is not None:
            self._deadline = time.monotonic() + self._timeout
            self._alarms.put(None)
            self._thread.join()

    def alarm(self, facts: Mapping[str, Any]) -> None:
        """Run the command for an alarm, soon; never waits."""
        if self._words is None:
            return
        try:
            self._alarms.put_nowait(json.dumps(facts, allow_nan=False).encode() + b"\n")
        except queue.Full:
            self._failed(f"was not run: {_MOST_WAITING} alarms wait for it already")

    def _run(self) -> None:
        while (line := self._alarms.get()) is not None:
            timeout = min(self._timeout, self._deadline - time.monotonic())
            if timeout > 0:
                self._run_once(line, timeout)
            else:
                self._failed("was not run: those before it took too long at the end")

    def _run_once(self, line: bytes, timeout: float) -> None:
        assert self._words is not None
        self.runs += 1
        with tempfile.TemporaryFile() as output:  # a pipe would stay open as long as what the command started
            try:
                process = subprocess.Popen(
                    self._words,
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            except OSError as error:
                self._failed(f"could not be started: {explain(error)}")
                return
            try:
                process.communicate(line, timeout)
            except subprocess.TimeoutExpired:
                _end(process)
                self._failed(f"was ended after {timeout:.2g} s")
                return
            if process.returncode:
                said = _last_line(output)
                self._failed(f"failed with exit code {process.returncode}{': ' if said else ''}{said}")

    def _failed(self, what: str) -> None:
        self.failures += 1
        self._say(f"--exec {self._words[0] if self._words else ''!r} {what}")


def _last_line(output: IO[bytes]) -> str:
    output.seek(max(output.seek(0, os.SEEK_END) - 4096, 0))
    lines = output.read().decode("utf-8", "replace").strip().splitlines()
    return one_line(lines[-1], _SHOWN) if lines else ""


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a command and what it started."""
    with contextlib.suppress(OSError):
        if os.name == "nt":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    process.communicate()

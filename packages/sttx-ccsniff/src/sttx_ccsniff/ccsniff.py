"""`live`: the real ccsniff's watcher, in a Node process of ours that prints raw lines.

ccsniff's command line is never run: its `--json` loses two tool calls in three, and every start copies the
whole history to another folder. Its watcher as a library loses nothing; `shim.mjs` runs it and prints what it
sees. The package is installed on first use into a cache folder of ours, said aloud, at a pinned version whose
content hash is known. The process ends when its standard input closes, so it cannot outlive us.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from importlib import resources
from pathlib import Path
from typing import IO, Any

from sttx_ccsniff.claude_code import SessionParser
from sttx_ccsniff.environment import cache_folder, claude_projects
from sttx_ccsniff.feeds import Delivery, Shared
from sttx_core.errors import SourceError

VERSION = "1.1.38"
"""The one version of ccsniff whose private names the shim overrides."""

INTEGRITY = "sha512-8sMUAS5pezDAhRTPUHsud730EGSU2b27R5T43J0p8jTHf6HxgyxYHVD8vfceBFlYHuqAxd0R/PwY/EdZxtGprQ=="
"""What npm's registry says that version's content hashes to."""

OLDEST_NODE = 20
"""Older ones cannot watch a tree of folders on Linux."""

_INSTEAD = "or use `claude`, which reads the same files without Node"
_INSTALL_SECONDS = 180
_GRACE_SECONDS = 2.0
_FRAME = re.compile(rb"([A-Z]) (\d+) (\d+)\n")


class LiveFeed:
    """Follows Claude Code's session files through ccsniff: all history first, then what is written.

    Args:
        folder: The projects folder; Claude Code's own by default.
        follow: Go on after the history; else end there.
        command: How to start the shim; found (and ccsniff installed) by default when reading starts.
    """

    def __init__(
        self, folder: Path | None = None, *, follow: bool = True, command: list[str] | None = None
    ) -> None:
        self._folder = claude_projects() if folder is None else folder
        self._follow = follow
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self.description = f"live: ccsniff {VERSION} watching {self._folder}"

    def batches(self, shared: Shared) -> Generator[Delivery, None, None]:
        """Yield the traces of each line as it is seen."""
        if not self._folder.is_dir():
            shared.report.warn(f"{str(self._folder)!r} is not there yet: waiting for it")
        command = self._command or shim_command(self._folder, shared.report.warn)
        with tempfile.TemporaryFile() as complaints:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                start_new_session=True,
            )
            try:
                assert self._process.stdout is not None
                yield from self._read(self._process.stdout, shared)
                if not shared.stop.is_set():
                    self._died(self._process, complaints)
            finally:
                self.close()

    def close(self) -> None:
        """End the Node process and everything that it started."""
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            _kill(process)
            process.wait()

    def _read(self, stdout: IO[bytes], shared: Shared) -> Generator[Delivery, None, None]:
        parsers: dict[int, SessionParser] = {}
        origins: dict[int, str] = {}
        lines: Counter[int] = Counter()
        report = shared.report
        with stdout:
            for letter, number, payload in frames(stdout):
                if shared.stop.is_set():
                    return
                match letter:
                    case b"L":
                        report.bytes_read += len(payload) + 1
                        if number not in parsers:
                            raise SourceError(f"ccsniff's watcher sent a line of file {number}, never named")
                        lines[number] += 1
                        had = shared.places.get(origins[number])
                        if had is not None and lines[number] <= had[0]:
                            if lines[number] == had[0]:
                                parsers[number].restore(had[1])
                            continue
                        if traces := parsers[number].feed(payload):
                            yield Delivery(origins[number], traces, [lines[number], parsers[number].state()])
                    case b"F":
                        report.formats[SessionParser.name] += 1
                        origins[number] = os.fsdecode(payload)
                        parsers[number] = SessionParser(origins[number], report, shared.seen)
                    case b"X":
                        report.damaged("line over the limit")
                    case b"E":
                        raise SourceError(f"ccsniff: {payload.decode(errors='replace')}; {_INSTEAD}")
                    case b"I" if not self._follow:
                        shared.stop.set()
                        return
                    case _:
                        pass

    def _died(self, process: subprocess.Popen[bytes], complaints: IO[bytes]) -> None:
        status = process.wait()
        complaints.seek(0)
        said = " ".join(complaints.read().decode(errors="replace").split())[-500:]
        raise SourceError(f"ccsniff's watcher ended by itself (status {status}: {said!r}); {_INSTEAD}")


def frames(stream: IO[bytes]) -> Iterator[tuple[bytes, int, bytes]]:
    r"""Read the shim's frames: letter, number, payload.

    >>> import io
    >>> list(frames(io.BytesIO(b'L 2 5\n{"a"}\n')))
    [(b'L', 2, b'{"a"}')]
    """
    while head := stream.readline():
        found = _FRAME.fullmatch(head)
        if not found:
            raise SourceError(f"ccsniff's watcher printed {head[:80]!r}, which is no frame; {_INSTEAD}")
        length = int(found[3])
        payload = stream.read(length + 1)
        if len(payload) <= length:
            return
        yield found[1], int(found[2]), payload[:-1]


def shim_command(folder: Path, say: Callable[[str], None]) -> list[str]:
    """The command line that runs the shim; installs ccsniff into the cache folder if it is not there."""
    node = _node()
    library = _installed(say) / "node_modules" / "ccsniff" / "src" / "index.js"
    shim = resources.files("sttx_ccsniff") / "shim.mjs"
    return [node, str(shim), str(library), str(folder)]


def is_installed() -> bool:
    """Whether the pinned ccsniff, and no other, lies in the cache folder."""
    return _is_pinned(_prefix())


def _prefix() -> Path:
    return cache_folder() / f"ccsniff-{VERSION}"


def _node() -> str:
    node = shutil.which("node")
    if node is None:
        raise SourceError(
            f"`live` needs Node {OLDEST_NODE} or newer, and there is no `node`: install it {_INSTEAD}"
        )
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    found = re.match(r"v(\d+)\.", said)
    if not found or int(found[1]) < OLDEST_NODE:
        raise SourceError(
            f"`live` needs Node {OLDEST_NODE} or newer, and `node` is {said!r}: update it {_INSTEAD}"
        )
    return node


def _installed(say: Callable[[str], None]) -> Path:
    """The folder that holds the pinned ccsniff, installed now if it was not."""
    prefix = _prefix()
    if _is_pinned(prefix):
        return prefix
    npm = shutil.which("npm")
    if npm is None:
        raise SourceError(
            f"`live` needs npm to install ccsniff {VERSION}, and there is none: install it {_INSTEAD}"
        )
    say(f"installing ccsniff {VERSION} from npm into {str(prefix)!r} (once; without running its scripts)")
    prefix.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=prefix.parent, prefix=".installing-") as aside:
        fresh = Path(aside) / "ccsniff"
        fresh.mkdir()
        _npm_install(npm, fresh)
        if not _is_pinned(fresh):
            raise SourceError(f"npm gave something else than ccsniff {VERSION} as published; {_INSTEAD}")
        if prefix.exists() and not _is_pinned(prefix):
            shutil.rmtree(prefix)
        try:
            fresh.rename(prefix)
        except OSError:
            if not _is_pinned(prefix):  # else another process was faster
                raise
    return prefix


def _npm_install(npm: str, prefix: Path) -> None:
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--omit=peer", "--loglevel=error"]
    try:
        done = subprocess.run(
            [npm, "install", "--prefix", str(prefix), *options, f"ccsniff@{VERSION}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SourceError(
            f"npm did not install ccsniff in {_INSTALL_SECONDS} s: is it online? {_INSTEAD}"
        ) from error
    if done.returncode:
        said = " ".join(done.stderr.split())[-500:]
        raise SourceError(f"npm could not install ccsniff {VERSION} ({said!r}): go online {_INSTEAD}")


def _is_pinned(prefix: Path) -> bool:
    modules = prefix / "node_modules"
    try:
        lock: Any = json.loads((modules / ".package-lock.json").read_text())
        entry = lock["packages"]["node_modules/ccsniff"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    there = (modules / "ccsniff" / "src" / "index.js").is_file()
    return there and entry.get("version") == VERSION and entry.get("integrity") == INTEGRITY


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process that did not end by itself, with its whole group where there are groups."""
    if sys.platform == "win32":
        process.kill()
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)

"""What `live` needs to run: Node, and ccsniff at a pinned version in a cache folder of ours.

ccsniff is installed on first use, said aloud, without running any script of it, and only what npm's registry
is known to have published under that version is ever run. Knows nothing of what ccsniff does.
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
import threading
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from sttx_ccsniff.environment import cache_folder
from sttx_core.errors import SourceError

VERSION = "1.1.38"
"""The one version of ccsniff whose private names the shim overrides."""

INTEGRITY = "sha512-8sMUAS5pezDAhRTPUHsud730EGSU2b27R5T43J0p8jTHf6HxgyxYHVD8vfceBFlYHuqAxd0R/PwY/EdZxtGprQ=="
"""What npm's registry says that version's content hashes to."""

OLDEST_NODE = 20
"""Older ones cannot watch a tree of folders on Linux."""

INSTEAD = "or use `claude`, which reads the same files without Node"
"""The way out that every error names."""

_ANSWER_SECONDS = 20.0
_INSTALL_SECONDS = 180.0
_STALE_SECONDS = 3600.0
_ASIDE = ".installing-"


def shim_command(folder: Path, say: Callable[[str], None], stop: threading.Event | None = None) -> list[str]:
    """Return the command line that runs the shim; install ccsniff into the cache folder if it is not there.

    Args:
        folder: The projects folder.
        say: Called with what a person should know.
        stop: Ends an installation.

    Raises:
        SourceError: Something is missing; the message says what, and the way without it.
    """
    node = _node()
    library = _installed(say, stop or threading.Event()) / "node_modules" / "ccsniff" / "src" / "index.js"
    shim = resources.files("sttx_ccsniff.live") / "shim.mjs"
    return [node, str(shim), str(library), str(folder)]


def is_installed() -> bool:
    """Whether the pinned ccsniff, and no other, lies in the cache folder."""
    return _is_pinned(_prefix())


def end_group(process: "subprocess.Popen[bytes]") -> None:
    """End a process at once, with everything that it started where there are process groups."""
    if sys.platform == "win32":
        process.kill()
    elif process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _prefix() -> Path:
    return cache_folder() / f"ccsniff-{VERSION}"


def _node() -> str:
    node = shutil.which("node")
    if node is None:
        raise SourceError(
            f"`live` needs Node {OLDEST_NODE} or newer, and there is no `node`: install it {INSTEAD}"
        )
    said = _version(node)
    found = re.match(r"v(\d+)\.", said)
    if not found or int(found[1]) < OLDEST_NODE:
        raise SourceError(
            f"`live` needs Node {OLDEST_NODE} or newer, and `node` is {said!r}: update it {INSTEAD}"
        )
    return node


def _version(node: str) -> str:
    """What `node --version` says, or why it says nothing."""
    try:
        return subprocess.run(
            [node, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ANSWER_SECONDS,
            check=False,
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)


def _installed(say: Callable[[str], None], stop: threading.Event) -> Path:
    """The folder that holds the pinned ccsniff, installed now if it was not."""
    prefix = _prefix()
    if _is_pinned(prefix):
        return prefix
    npm = shutil.which("npm")
    if npm is None:
        raise SourceError(
            f"`live` needs npm to install ccsniff {VERSION}, and there is none: install it {INSTEAD}"
        )
    say(f"installing ccsniff {VERSION} from npm into {str(prefix)!r} (once; without running its scripts)")
    try:
        prefix.parent.mkdir(parents=True, exist_ok=True)
        _clear_stale(prefix.parent)
        with tempfile.TemporaryDirectory(dir=prefix.parent, prefix=_ASIDE) as aside:
            _install(npm, Path(aside) / "ccsniff", prefix, stop)
    except OSError as error:
        raise SourceError(f"cannot install ccsniff into {str(prefix)!r} ({error}); {INSTEAD}") from error
    return prefix


def _install(npm: str, fresh: Path, prefix: Path, stop: threading.Event) -> None:
    """Install into a folder aside, and put it in place whole."""
    fresh.mkdir()
    _npm_install(npm, fresh, stop)
    if not _is_pinned(fresh):
        raise SourceError(f"npm gave something else than ccsniff {VERSION} as published; {INSTEAD}")
    if prefix.exists() and not _is_pinned(prefix):
        shutil.rmtree(prefix)
    try:
        fresh.rename(prefix)
    except OSError:
        if not _is_pinned(prefix):  # else another process was faster
            raise


def _npm_install(npm: str, prefix: Path, stop: threading.Event) -> None:
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--omit=peer", "--loglevel=error"]
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            [npm, "install", "--prefix", str(prefix), *options, f"ccsniff@{VERSION}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            start_new_session=True,
        )
        try:
            end = time.monotonic() + _INSTALL_SECONDS
            while process.poll() is None and not stop.wait(0.05):
                if time.monotonic() > end:
                    raise SourceError(
                        f"npm did not install ccsniff in {_INSTALL_SECONDS:.0f} s: is it online? {INSTEAD}"
                    )
        finally:
            end_group(process)
        complaints.seek(0)
        said = " ".join(complaints.read().decode(errors="replace").split())[-500:]
    if process.returncode:
        raise SourceError(f"npm could not install ccsniff {VERSION} ({said!r}): go online {INSTEAD}")


def _clear_stale(cache: Path) -> None:
    """Remove what an installation left behind that was killed."""
    for aside in cache.glob(f"{_ASIDE}*"):
        if time.time() - aside.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(aside, ignore_errors=True)


def _is_pinned(prefix: Path) -> bool:
    modules = prefix / "node_modules"
    try:
        lock: Any = json.loads((modules / ".package-lock.json").read_text())
        entry = lock["packages"]["node_modules/ccsniff"]
        there = (modules / "ccsniff" / "src" / "index.js").is_file()
        return there and entry["version"] == VERSION and entry["integrity"] == INTEGRITY
    except (OSError, ValueError, KeyError, TypeError):
        return False


class Tool(NamedTuple):
    """One thing that `live` needs, whether it is ready, and what is known of it."""

    name: str
    ready: bool
    detail: str


def live_tools() -> list[Tool]:
    """Look for each thing that `live` needs; every other source does without them."""
    return [_node_tool(), _npm_tool(), _ccsniff_tool()]


def _node_tool() -> Tool:
    version = _tool_version("node")
    if version is None:
        return Tool("node", False, f"not found: only `live` needs it (version {OLDEST_NODE} or newer)")
    major = version.removeprefix("v").split(".")[0]
    if not major.isdigit() or int(major) < OLDEST_NODE:
        return Tool("node", False, f"{version}, but `live` needs {OLDEST_NODE} or newer")
    return Tool("node", True, version)


def _npm_tool() -> Tool:
    version = _tool_version("npm")
    if version is None:
        return Tool("npm", False, "not found: only `live` needs it, once, to install ccsniff")
    return Tool("npm", True, version)


def _ccsniff_tool() -> Tool:
    folder = cache_folder()
    if is_installed():
        return Tool("ccsniff", True, f"{VERSION} in {str(folder)!r}")
    return Tool("ccsniff", True, f"{VERSION} is installed into {str(folder)!r} when `live` first runs")


def _tool_version(program: str) -> str | None:
    """Return what `PROGRAM --version` says, None if it is not there or does not answer."""
    path = shutil.which(program)
    if path is None:
        return None
    try:
        done = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ANSWER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None

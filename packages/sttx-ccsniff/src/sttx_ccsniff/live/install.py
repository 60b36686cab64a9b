"""What `live` needs: Node, npm, and ccsniff at a pinned version in our cache folder. Reports what is missing.

ccsniff is installed on first use, with a message, and without running any of its scripts. Only the content
that npm's registry published under that version is ever run, from a folder that nobody else may write. This
file does not know what ccsniff does.
"""

import contextlib
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
from typing import NamedTuple

from sttx_ccsniff.environment import cache_folder
from sttx_ccsniff.live.content import VERSION, is_published
from sttx_ccsniff.private_cache import make_private_folders, others_may_write
from sttx_core.errors import SourceError
from sttx_core.os_errors import error_in_output, explain, reason_and_advice

OLDEST_NODE = 20
"""Older versions of Node cannot watch a tree of folders on Linux."""

ALTERNATIVE = "or use `claude`, which reads the same files without Node"
"""How every error message about `live` ends."""

_ANSWER_SECONDS = 20.0
_INSTALL_SECONDS = 180.0
_STALE_SECONDS = 3600.0
_TEMPORARY_PREFIX = ".installing-"


def shim_command(folder: Path, say: Callable[[str], None], stop: threading.Event | None = None) -> list[str]:
    """Return the command line that runs the shim; install ccsniff into the cache folder if it is missing.

    Args:
        folder: The projects folder.
        say: Called with messages for the user.
        stop: Ends an installation.

    Raises:
        SourceError: Something is missing or cannot be installed; the message says what, and what to do.
    """
    node = _node()
    library = _installed(say, stop or threading.Event()) / "node_modules" / "ccsniff" / "src" / "index.js"
    shim = resources.files("sttx_ccsniff.live") / "shim.mjs"
    return [node, str(shim), str(library), str(folder)]


class Tool(NamedTuple):
    """One thing that `live` needs: its name, whether it is ready, and its version or what is wrong."""

    name: str
    ready: bool
    detail: str


def live_tools() -> list[Tool]:
    """Look for each thing that `live` needs, and install nothing; no other source needs them."""
    return [_node_tool(), _npm_tool(), _ccsniff_tool()]


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and, on systems with process groups, everything that it started."""
    if sys.platform == "win32":
        process.kill()
    elif process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class _Program(NamedTuple):
    """A program on the PATH: its version, or what happened when it was asked for it."""

    path: str
    works: bool
    detail: str


def _program(name: str) -> _Program | None:
    """Ask a program for its version; None if it is not on the PATH."""
    path = shutil.which(name)
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
    except subprocess.TimeoutExpired:
        return _Program(path, False, f"`{name} --version` does not answer within {_ANSWER_SECONDS:g} s")
    except OSError as error:
        return _Program(path, False, f"{path!r} cannot be run ({reason_and_advice(error)[0]})")
    if done.returncode:
        return _Program(path, False, f"`{name} --version` failed with status {done.returncode}")
    return _Program(path, True, done.stdout.strip())


def _node_problem(node: _Program) -> str:
    """Return why this Node cannot run the shim, "" if it can."""
    if not node.works:
        return node.detail
    match = re.match(r"v(\d+)\.", node.detail)
    if not match:
        return f"`node --version` prints {node.detail!r}"
    return f"`node` is {node.detail}" if int(match[1]) < OLDEST_NODE else ""


def _node() -> str:
    """Return Node's path; raise if it is missing, too old or broken."""
    node = _program("node")
    if node is None:
        raise SourceError(
            f"`live` needs Node {OLDEST_NODE} or newer, and there is no `node`: install it {ALTERNATIVE}"
        )
    problem = _node_problem(node)
    if problem:
        raise SourceError(f"`live` needs Node {OLDEST_NODE} or newer, and {problem}: update it {ALTERNATIVE}")
    return node.path


def _node_tool() -> Tool:
    node = _program("node")
    if node is None:
        return Tool("node", False, f"not found: only `live` needs it (version {OLDEST_NODE} or newer)")
    problem = _node_problem(node)
    if problem:
        return Tool("node", False, f"{problem}, but `live` needs version {OLDEST_NODE} or newer")
    return Tool("node", True, node.detail)


def _npm_tool() -> Tool:
    npm = _program("npm")
    if npm is None:
        return Tool("npm", False, "not found: only `live` needs it, once, to install ccsniff")
    return Tool("npm", npm.works, npm.detail)


def _ccsniff_tool() -> Tool:
    folder = cache_folder()
    if problem := others_may_write(folder):
        return Tool("ccsniff", False, f"{problem}; only `live` needs it")
    if is_published(_install_folder()):
        return Tool("ccsniff", True, f"{VERSION} in {str(folder)!r}")
    return Tool("ccsniff", True, f"{VERSION} is installed into {str(folder)!r} when `live` first runs")


def _install_folder() -> Path:
    return cache_folder() / f"ccsniff-{VERSION}"


def _installed(say: Callable[[str], None], stop: threading.Event) -> Path:
    """Return the folder that holds the pinned ccsniff; install it first if it is missing or changed."""
    folder = _install_folder()
    if problem := others_may_write(folder.parent):
        raise SourceError(
            f"`live` runs no program from a folder that is not yours alone: {problem}, {ALTERNATIVE}"
        )
    if is_published(folder):
        return folder
    npm = shutil.which("npm")
    if npm is None:
        raise SourceError(
            f"`live` needs npm to install ccsniff {VERSION}, and there is no `npm`: install it {ALTERNATIVE}"
        )
    if os.path.lexists(folder):
        say(f"{str(folder)!r} is not ccsniff {VERSION} as published, or others may write it: it is replaced")
    say(f"installing ccsniff {VERSION} from npm into {str(folder)!r} (once; without running its scripts)")
    try:
        make_private_folders(folder.parent)
        _remove_stale(folder.parent)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=_TEMPORARY_PREFIX) as temporary:
            _install(npm, Path(temporary) / "ccsniff", folder, stop)
    except OSError as error:
        raise SourceError(
            f"cannot install ccsniff {VERSION} into {str(folder)!r}: {explain(error)}, or set "
            f"STTX_CACHE_DIR to another folder, {ALTERNATIVE}"
        ) from error
    return folder


def _install(npm: str, temporary: Path, folder: Path, stop: threading.Event) -> None:
    """Install into a temporary folder, check the result, and rename it: a partial install is never used."""
    temporary.mkdir(mode=0o700)
    _npm_install(npm, temporary, stop)
    if not is_published(temporary):
        raise SourceError(
            f"what npm installed is not ccsniff {VERSION} as published: check npm's registry "
            f"setting {ALTERNATIVE}"
        )
    if os.path.lexists(folder) and not is_published(folder):
        _remove(folder)
    try:
        temporary.rename(folder)
    except OSError:
        if not is_published(folder):  # otherwise another process installed it first
            raise


def _remove(path: Path) -> None:
    """Remove a folder with all that is in it; of a link or a file, remove only that."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _npm_install(npm: str, folder: Path, stop: threading.Event) -> None:
    """Run `npm install`; raise `SourceError` with the reason if it fails."""
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--omit=peer", "--loglevel=error"]
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            [npm, "install", "--prefix", str(folder), *options, f"ccsniff@{VERSION}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
            umask=0o077 if os.name == "posix" else -1,
        )
        try:
            deadline = time.monotonic() + _INSTALL_SECONDS
            while process.poll() is None and not stop.wait(0.05):
                if time.monotonic() > deadline:
                    raise SourceError(
                        f"npm did not install ccsniff within {_INSTALL_SECONDS:.0f} s: check the network "
                        f"connection {ALTERNATIVE}"
                    )
        finally:
            kill_group(process)
        stderr.seek(0)
        printed = " ".join(stderr.read().decode(errors="replace").split())
    if process.returncode:
        if (error := error_in_output(printed)) is not None:
            raise SourceError(
                f"npm could not install ccsniff {VERSION} into {str(folder.parent.parent)!r}: "
                f"{explain(error)}, or set STTX_CACHE_DIR to another folder, {ALTERNATIVE} "
                f"(npm printed {printed[-500:]!r})"
            )
        raise SourceError(
            f"npm could not install ccsniff {VERSION} ({printed[-500:]!r}): check the network connection "
            f"{ALTERNATIVE}"
        )


def _remove_stale(cache: Path) -> None:
    """Remove the temporary folders of installations that were killed."""
    for temporary in cache.glob(f"{_TEMPORARY_PREFIX}*"):
        if time.time() - temporary.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(temporary, ignore_errors=True)

"""Whether the source `live` can run here: Node, npm, ccsniff. Looks, and installs nothing."""

import shutil
import subprocess
from typing import NamedTuple

from sttx_ccsniff.ccsniff_install import OLDEST_NODE, VERSION, is_installed
from sttx_ccsniff.environment import cache_folder

_ANSWER_SECONDS = 20


class Tool(NamedTuple):
    """One thing that `live` needs, whether it is ready, and what is known of it."""

    name: str
    ready: bool
    detail: str


def live_tools() -> list[Tool]:
    """Look for each thing that `live` needs; every other source does without them."""
    return [_node(), _npm(), _ccsniff()]


def _node() -> Tool:
    version = _version("node")
    if version is None:
        return Tool("node", False, f"not found: only `live` needs it (version {OLDEST_NODE} or newer)")
    major = version.removeprefix("v").split(".")[0]
    if not major.isdigit() or int(major) < OLDEST_NODE:
        return Tool("node", False, f"{version}, but `live` needs {OLDEST_NODE} or newer")
    return Tool("node", True, version)


def _npm() -> Tool:
    version = _version("npm")
    if version is None:
        return Tool("npm", False, "not found: only `live` needs it, once, to install ccsniff")
    return Tool("npm", True, version)


def _ccsniff() -> Tool:
    folder = cache_folder()
    if is_installed():
        return Tool("ccsniff", True, f"{VERSION} in {str(folder)!r}")
    return Tool("ccsniff", True, f"{VERSION} is installed into {str(folder)!r} when `live` first runs")


def _version(program: str) -> str | None:
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

"""Large results that Claude Code keeps in files of their own, beside the session's file.

In the session stands a stub: `<persisted-output>`, the path of a file in `<session>/tool-results/`, and a
preview. Of that path only the last name is believed: what is read is a plain file of that name in that very
folder of the session at hand, and no more of it than `MOST_BYTES`. Nothing else on the disk can be named.
"""

import os
import re
import stat
from pathlib import Path, PurePath

MOST_BYTES = 2**20
"""Longest part of a persisted output that is read."""

STUB = "<persisted-output>"
_PATH = re.compile(r"saved to: *([^\r\n]{1,4096})")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}\.txt")
_ONLY_PLAIN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def persisted_output(stub: str, folder: PurePath | None) -> tuple[str, int] | None:
    """Read what a stub stands for.

    Args:
        stub: The text of a tool's result that begins with `STUB`.
        folder: The session's folder.

    Returns:
        The output and how many of its bytes were left out; None if it is not there.
    """
    found = _PATH.search(stub)
    if found is None or folder is None:
        return None
    name = re.split(r"[\\/]", found[1].strip())[-1]
    if not _NAME.fullmatch(name):
        return None
    return _read(Path(folder) / "tool-results", name)


def _read(folder: Path, name: str) -> tuple[str, int] | None:
    try:
        if folder.is_symlink():
            return None
        descriptor = os.open(folder / name, os.O_RDONLY | _ONLY_PLAIN)
    except (OSError, ValueError):
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        data = _first_bytes(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return data.decode("utf-8", "replace"), max(status.st_size - len(data), 0)


def _first_bytes(descriptor: int) -> bytes:
    data = b""
    while len(data) < MOST_BYTES and (piece := os.read(descriptor, MOST_BYTES - len(data))):
        data += piece
    return data

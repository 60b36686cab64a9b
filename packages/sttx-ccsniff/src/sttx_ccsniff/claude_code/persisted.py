"""Reads large tool results, which Claude Code writes to separate files.

The session then has a stub: `<persisted-output>`, the path of a file in `<session>/tool-results/`, and a
preview. Of that path only the file name is used. The file must be a regular file in that folder of the same
session, and at most `MOST_BYTES` of it are read. So a stub cannot name any other file on the disk.
"""

import os
import re
import stat
from pathlib import Path, PurePath

MOST_BYTES = 2**20
"""Most bytes of a persisted output that are read."""

STUB = "<persisted-output>"
_PATH = re.compile(r"saved to: *([^\r\n]{1,4096})")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}\.txt")
_ONLY_PLAIN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def persisted_output(stub: str, folder: PurePath | None) -> tuple[str, int] | None:
    """Read the output that a stub refers to.

    Args:
        stub: The text of a tool's result that starts with `STUB`.
        folder: The session's folder.

    Returns:
        The output, and the number of its bytes that were not read; None if the file cannot be read.
    """
    match = _PATH.search(stub)
    if match is None or folder is None:
        return None
    name = re.split(r"[\\/]", match[1].strip())[-1]
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

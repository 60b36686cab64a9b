"""Finds the session files of a folder and sorts them by time.

Symbolic links are followed. A folder is walked once, identified by device and inode, so loops end. The sort
key of a file is the first timestamp in its head (or its modification time where there is none), so a resumed
session sorts after the session it copies. Pipes and devices are skipped. Nothing is parsed here.
"""

import os
import re
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from sttx_ccsniff.read.open import first_bytes

_NAMES = re.compile(r".+\.(?:jsonl|ndjson)(?:\.gz|\.zst)?|opencode[^/]*\.db")
_HEAD_BYTES = 2**16
_TIMESTAMP = re.compile(rb'"(?:timestamp|iso)":\s?"([^"]{10,40})"')
_MAX_DEPTH = 32


def is_session_file(path: Path) -> bool:
    """Return whether a file is named like a session file.

    >>> is_session_file(Path("a/agent-1.jsonl.gz")), is_session_file(Path("a/notes.txt"))
    (True, False)
    """
    return _NAMES.fullmatch(path.name) is not None


def session_files(folder: Path) -> list[Path]:
    """Return the files under a folder that are named like session files; a file returns itself.

    A folder that cannot be listed is returned as if it were a file: reading it then reports the error.
    """
    return [folder] if folder.is_file() else list(_walk(folder, set(), _MAX_DEPTH))


def in_time_order(files: list[Path]) -> list[Path]:
    """Sort files by the first timestamp in each."""
    return sorted(files, key=lambda path: (first_timestamp(path), str(path)))


def first_timestamp(path: Path) -> float:
    """Return the first timestamp in a file's head, or else its modification time, in Unix seconds."""
    for stamp in _TIMESTAMP.findall(first_bytes(path, _HEAD_BYTES)):
        try:
            time = datetime.fromisoformat(stamp.decode("ascii", "replace"))
        except ValueError:
            continue
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _walk(folder: Path, visited: set[tuple[int, int]], depth: int) -> Iterator[Path]:
    try:
        status = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    except OSError:
        yield folder
        return
    identity = (status.st_dev, status.st_ino)
    if identity in visited or depth == 0:
        return
    visited.add(identity)
    for entry in entries:
        if _is_folder(entry):
            yield from _walk(Path(entry.path), visited, depth - 1)
        elif _NAMES.fullmatch(entry.name) and not _is_special(entry):
            yield Path(entry.path)


def _is_special(entry: os.DirEntry[str]) -> bool:
    """Return whether it is a pipe, a socket or a device: reading one may block for ever."""
    try:
        return not entry.is_file() and not stat.S_ISREG(entry.stat().st_mode)
    except OSError:  # a dangling link: reading it reports the error
        return False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # for example a link to itself
        return False

"""The session files of a folder, found once and put in the order of time.

Links are followed, loops and second ways to a file end by device and inode. A file's place is given by the
first timestamp in its head (its time of change where there is none), so that a resumed session comes after
the one it copies. Pipes and devices are passed over. Nothing is parsed here.
"""

import os
import re
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from sttx_ccsniff.read.open import first_bytes

_NAMES = re.compile(r".+\.(?:jsonl|ndjson)(?:\.gz|\.zst)?|opencode[^/]*\.db")
_HEAD = 2**16
_STAMP = re.compile(rb'"(?:timestamp|iso)":\s?"([^"]{10,40})"')
_MOST_FOLDERS_DEEP = 32


def is_session_file(path: Path) -> bool:
    """Whether a file is named like one of sessions.

    >>> is_session_file(Path("a/agent-1.jsonl.gz")), is_session_file(Path("a/notes.txt"))
    (True, False)
    """
    return _NAMES.fullmatch(path.name) is not None


def session_files(folder: Path) -> list[Path]:
    """Find the files under a folder that are named like session files; a file stands for itself.

    A folder that cannot be looked into stands for its files, so that whoever reads it says so.
    """
    return [folder] if folder.is_file() else list(_walk(folder, set(), _MOST_FOLDERS_DEEP))


def in_time_order(files: list[Path]) -> list[Path]:
    """Sort files by the first time that each names."""
    return sorted(files, key=lambda path: (first_time(path), str(path)))


def first_time(path: Path) -> float:
    """Unix seconds of the first timestamp in a file's head, or of its last change."""
    for stamp in _STAMP.findall(first_bytes(path, _HEAD)):
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
    """Whether it is a pipe, a socket or a device: opened by a stranger, it may never end."""
    try:
        return not entry.is_file() and not stat.S_ISREG(entry.stat().st_mode)
    except OSError:  # a link to nowhere: whoever reads it says so
        return False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, say
        return False

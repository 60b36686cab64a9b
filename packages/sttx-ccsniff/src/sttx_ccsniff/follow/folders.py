"""Finds the session files of a folder and sorts them by time.

Symbolic links are followed. A folder is walked once, identified by device and inode, so loops end. Files are
sorted by the first timestamp in their head (or their modification time where there is none), so a resumed
session sorts after the session it copies. A fork or background copy starts with the same records and so with
the same timestamp: it sorts after its original, which keeps its records. Pipes and devices are skipped.
Nothing is parsed here.
"""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from sttx_ccsniff.opencode.export import begins
from sttx_ccsniff.parse.project import session_folder_of_subagent
from sttx_ccsniff.parse.times import unix_seconds
from sttx_ccsniff.read.open import first_bytes

_NAMES = re.compile(r".+\.(?:jsonl|ndjson)(?:\.gz|\.zst)?|opencode[^/]*\.db")
_HEAD_BYTES = 2**16
_EXPORT_BYTES = 2**12
_TIMESTAMP = re.compile(
    rb'(?:"(?:timestamp|iso|_audit_timestamp)"|"time"\s*:\s*\{\s*"created")\s*:\s*'
    rb'(?:"([^"]{10,40})"|(\d{9,19}(?:\.\d{1,9})?)(?=[\s,}]))'
)
_COPY = re.compile(
    rb'"(?:forkedFrom|forked_from_id|parent_thread_id|sessionKind)"\s*:\s*(?!null|false|""|"interactive"|[^"{])'
)
_SESSION = re.compile(rb'"(?:sessionId|session_id)"\s*:\s*"([^"]{1,200})"')
_MAX_DEPTH = 32


def is_session_file(path: Path) -> bool:
    """Return whether a file is named like a session file, or is a `.json` file with an export of OpenCode.

    >>> is_session_file(Path("a/agent-1.jsonl.gz")), is_session_file(Path("a/notes.txt"))
    (True, False)
    """
    return _NAMES.fullmatch(path.name) is not None or _is_export(path)


def session_files(folder: Path) -> list[Path]:
    """Return the session files under a folder; a file returns itself.

    A folder that cannot be listed is returned as if it were a file: reading it then reports the error.
    """
    return [folder] if folder.is_file() else list(_walk(folder, set(), _MAX_DEPTH))


def in_time_order(files: list[Path]) -> list[Path]:
    """Sort files by the first timestamp in each, and copies after their originals."""
    return sorted(files, key=_sort_key)


def _sort_key(path: Path) -> tuple[float, int, int, str]:
    """Return what files are sorted by: their first timestamp, signs that they are a copy, size, and name.

    Where no sign tells an original from its copies, it is the shorter file: a copy goes on after its end.
    """
    head = first_bytes(path, _HEAD_BYTES)
    signs = 0
    if _COPY.search(head):
        signs += 4
    if session_folder_of_subagent(path) is not None:
        signs += 2
    elif (named := _SESSION.search(head)) and named[1].decode("utf-8", "replace") != path.name.split(".")[0]:
        signs += 1  # it starts with records of another session
    return _time_in(head, path), signs, _size(path), str(path)


def first_timestamp(path: Path) -> float:
    """Return the first timestamp in a file's head, or else its modification time, in Unix seconds."""
    return _time_in(first_bytes(path, _HEAD_BYTES), path)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _time_in(head: bytes, path: Path) -> float:
    for text, number in _TIMESTAMP.findall(head):
        try:
            return unix_seconds(float(number) if number else text.decode("ascii", "replace"))
        except (ValueError, OverflowError):
            continue
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
        elif not _is_special(entry) and is_session_file(Path(entry.path)):
            yield Path(entry.path)


def _is_export(path: Path) -> bool:
    return path.suffix == ".json" and begins(first_bytes(path, _EXPORT_BYTES))


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

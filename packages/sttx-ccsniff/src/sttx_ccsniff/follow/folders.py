"""Finds the session files of a folder.

Symbolic links are followed. A folder is walked once, identified by device and inode, so loops end. Pipes and
devices are skipped. Nothing is parsed here.
"""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from sttx_ccsniff.opencode.export import begins
from sttx_ccsniff.read.open import first_bytes

_NAMES = re.compile(r".+\.(?i:jsonl|ndjson)(?:\.gz|\.zst)?|opencode[^/]*\.db")
_DOCUMENT_BYTES = 2**12
_ARRAY = re.compile(rb"(?:\xef\xbb\xbf)?\s*\[\s*\{")
_RECORD = re.compile(rb'"(?:sessionId|session_id)"\s*:\s*"|"type"\s*:\s*"session_meta"')
_EARLY_ROLLOUT = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*"session"\s*:\s*\{')
_MAX_DEPTH = 32


def is_session_file(path: Path) -> bool:
    """Return whether a file is named like a session file, or is a `.json` file that holds a session.

    >>> is_session_file(Path("a/agent-1.jsonl.gz")), is_session_file(Path("a/notes.txt"))
    (True, False)
    """
    return _NAMES.fullmatch(path.name) is not None or _is_document(path)


def session_files(folder: Path) -> list[Path]:
    """Return the session files under a folder; a file returns itself.

    A folder that cannot be listed is returned as if it were a file: reading it then reports the error.
    """
    return [folder] if os.path.isfile(folder) else list(_walk(folder, set(), _MAX_DEPTH))


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


def _is_document(path: Path) -> bool:
    """Return whether a `.json` file holds an export of OpenCode, an array of records, or an early rollout."""
    if path.suffix != ".json":
        return False
    head = first_bytes(path, _DOCUMENT_BYTES)
    return begins(head) or bool(_ARRAY.match(head) and _RECORD.search(head) or _EARLY_ROLLOUT.match(head))


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

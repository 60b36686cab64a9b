"""The session files of a folder, found once and put in the order of time.

Links are followed, loops and second ways to a file end by device and inode. A file's place is given by the
first timestamp in its head (its time of change where there is none), so that a resumed session comes after
the one it copies. Nothing is parsed here.
"""

import gzip
import os
import re
import zlib
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path

from sttx_ccsniff.feeds import FileFeed, Shared
from sttx_core.errors import SourceError
from sttx_core.traces import Trace

_NAMES = re.compile(r".+\.(?:jsonl|ndjson)(?:\.gz|\.zst)?")
_HEAD = 2**16
_STAMP = re.compile(rb'"(?:timestamp|iso)":\s?"([^"]{10,40})"')
_MOST_FOLDERS_DEEP = 32


class FolderFeed:
    """Every session file under a folder, the oldest first.

    Raises:
        SourceError: There is none.
    """

    def __init__(self, folder: Path, what: str = "folder") -> None:
        self._files = in_time_order(session_files(folder))
        if not self._files:
            raise SourceError(f"no session files (*.jsonl or *.ndjson, also .gz or .zst) in {str(folder)!r}")
        count = len(self._files)
        self.description = f"{what} {folder}: {count} session file{'s' if count > 1 else ''}"

    def batches(self, shared: Shared) -> Generator[list[Trace], None, None]:
        """Yield the traces of one file after the other."""
        for path in self._files:
            yield from FileFeed(path, lenient=True).batches(shared)
            if shared.stop.is_set():
                return

    def close(self) -> None:
        """Nothing is held."""


def session_files(folder: Path) -> list[Path]:
    """Find the files under a folder that are named like session files.

    A folder that cannot be looked into stands for its files, so that whoever reads it says so.
    """
    return list(_walk(folder, set(), _MOST_FOLDERS_DEEP))


def in_time_order(files: list[Path]) -> list[Path]:
    """Sort files by the first time that each names."""
    return sorted(files, key=lambda path: (first_time(path), str(path)))


def first_time(path: Path) -> float:
    """Unix seconds of the first timestamp in a file's head, or of its last change."""
    for stamp in _STAMP.findall(_head(path)):
        try:
            time = datetime.fromisoformat(stamp.decode("ascii", "replace"))
        except ValueError:
            continue
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _head(path: Path) -> bytes:
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rb") as file:
            return file.read(_HEAD)
    except (OSError, EOFError, zlib.error):
        return b""


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
        elif _NAMES.fullmatch(entry.name):
            yield Path(entry.path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, say
        return False

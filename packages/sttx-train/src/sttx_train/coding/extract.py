"""Where files of an archive go: a folder, one file, a stream, or nowhere. Nothing is overwritten."""

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

from sttx_core.errors import DataError, UsageError
from sttx_core.own_files import replacing_file
from sttx_train.coding.archive import Archive, Damage, Sink
from sttx_train.coding.container import Entry


class Nowhere:
    """Takes bytes and keeps none: for a test of an archive."""

    def write(self, data: bytes, /) -> None:
        """Forget the bytes."""

    def keep(self) -> None:
        """Do nothing."""

    def drop(self) -> None:
        """Do nothing."""


class ToStream(Nowhere):
    """Writes a file's bytes to a stream as they are decoded, before the whole file is checked.

    Args:
        stream: where they go.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, data: bytes, /) -> None:
        """Write the bytes."""
        self._stream.write(data)


class ToFile:
    """Writes a new file, which has its name only when it is whole.

    Args:
        path: the file.
        entry: what the archive says of it: who may read it and when it was changed.
    """

    def __init__(self, path: Path, entry: Entry) -> None:
        self._path, self._entry = path, entry
        self._stack = ExitStack()
        aside = self._stack.enter_context(replacing_file(path, private=True))
        self._aside = aside
        self._file = self._stack.enter_context(aside.open("wb"))

    def write(self, data: bytes, /) -> None:
        """Write the bytes."""
        self._file.write(data)

    def keep(self) -> None:
        """Give the file its name, mode and time."""
        self._file.close()
        self._stack.close()
        self._path.chmod(self._entry.mode & 0o777)
        with suppress(OSError, OverflowError, ValueError):  # a time that this system cannot store
            os.utime(self._path, (self._entry.modified, self._entry.modified))

    def drop(self) -> None:
        """Remove what was written."""
        with suppress(_Dropped), self._stack:
            raise _Dropped


class _Dropped(Exception):
    """Leaves `replacing_file` without replacing anything."""


def extract(
    archive: Archive,
    entries: Sequence[Entry],
    out: Path,
    *,
    one_file: bool,
    advance: Callable[[int], object] = lambda _: None,
) -> Damage:
    """Write files of an archive; those that are damaged are left out.

    Args:
        archive: the archive.
        entries: which files.
        out: the folder to write them to.
        one_file: ``out`` is not a folder but the name of the only file.
        advance: called with the number of bytes as they are decoded.

    Raises:
        UsageError: a file exists, or a link leads out of the folder. Nothing is written.
        DataError: this installation cannot decode the archive, or its files do not fit on the disk.
        OSError: a file cannot be written.
    """
    paths = {entry.number: out if one_file else out.joinpath(*entry.path.split("/")) for entry in entries}
    for path in paths.values():
        if os.path.lexists(path):
            raise UsageError(f"{str(path)!r} exists: move it away, or name another folder")
    for folder in {folder for path in paths.values() for folder in path.parents if out in folder.parents}:
        if folder.is_symlink():
            raise UsageError(f"{str(folder)!r} is a link: move it away, or name another folder")
    _check_room(entries, out)

    def open_sink(entry: Entry) -> Sink:
        return ToFile(paths[entry.number], entry)

    return archive.read(entries, open_sink, advance)


def _check_room(entries: Sequence[Entry], out: Path) -> None:
    """Check that the disk has room for files: repeated lines can become very many from a small archive.

    Raises:
        DataError: it has not.
    """
    size = sum(entry.size for entry in entries)
    folder = next(folder for folder in out.absolute().parents if folder.exists())
    if size > (free := shutil.disk_usage(folder).free):
        raise DataError(
            f"the files would be {size:,} bytes, and {str(folder)!r} has room for {free:,}: make room, or "
            "name some of the files"
        )

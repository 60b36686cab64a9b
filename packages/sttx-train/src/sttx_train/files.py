"""Files that are either wholly there or not at all. Knows nothing of what is in them.

Everything is written beside its place, flushed to the disk, and then renamed into it, so that a crash or a
kill at any moment leaves the old content or the new one, never half of either.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sttx_core.errors import UsageError

_BLOCK = 1 << 20


def sha256_of(paths: Iterable[Path]) -> str:
    """Hash the bytes of files, one after another: of a single file, what ``sha256sum`` prints."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Flush a file or a folder's list of names to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Give an empty file to fill; on success it takes the place of ``path``, on an error it goes away.

    Raises:
        UsageError: a folder, a device or a pipe is at ``path``; a rename would do away with it.
    """
    if path.exists() and not path.is_file():
        raise UsageError(f"{str(path)!r} is no file that could be replaced: give another path")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(path)
    aside.touch()
    mode = aside.stat().st_mode  # some writers replace the file and forget the user's umask
    try:
        yield aside
        aside.chmod(mode)
        sync(aside)
        aside.replace(path)
        sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path, *, ours: Collection[str]) -> Iterator[Path]:
    """Give an empty folder to fill; on success it takes the place of ``path``, on an error it goes away.

    Args:
        path: where it shall be.
        ours: names of files that an older folder of the same kind holds and that may be replaced.

    Raises:
        UsageError: something else than such a folder is at ``path``.
    """
    refuse_foreign(path, ours)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside, old = _aside(path), _aside(path, "old")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    mode = aside.stat().st_mode & 0o666
    try:
        yield aside
        for file in aside.iterdir():
            file.chmod(mode)
            sync(file)
        sync(aside)
        _swap(path, aside, old)
        sync(path.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _swap(path: Path, new: Path, old: Path) -> None:
    """Put a folder in another's place; killed between the renames, the older one is at ``old``."""
    if not path.exists():
        new.rename(path)
        return
    shutil.rmtree(old, ignore_errors=True)
    path.rename(old)
    try:
        new.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _aside(path: Path, word: str = "new") -> Path:
    return path.with_name(f".{path.name}.{word}-{os.getpid()}")


def refuse_foreign(path: Path, ours: Collection[str]) -> None:
    """Raise UsageError if something is at ``path`` that :func:`replacing_folder` would not replace."""
    if not path.exists():
        return
    if not path.is_dir():
        raise UsageError(f"{str(path)!r} is a file, where a folder shall be written: give another path")
    foreign = sorted(entry.name for entry in path.iterdir() if entry.name not in ours)
    if foreign:
        raise UsageError(
            f"{str(path)!r} holds {foreign[0]!r}, no part of a saved model: give a new or empty folder"
        )

"""Folders that are replaced as a whole, and the hash of files. Knows nothing of what is in them.

A folder is written beside its target under a name that none had, flushed to the disk and renamed, so that a
crash or a kill at any moment leaves either the old content or the new one, never half of either. Links are
refused. `sttx_core.own_files` does the same for single files.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sttx_core.errors import UsageError
from sttx_core.own_files import aside_of, leftovers, sync

_BLOCK = 1 << 20


def sha256_of(paths: Iterable[Path]) -> str:
    """Return the SHA-256 of the bytes of files, one after another; of one file, what ``sha256sum`` prints."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def probe_writable(folder: Path) -> None:
    """Write and remove a small file in a folder, or in the nearest parent that exists.

    Raises:
        OSError: it cannot be written; names the parent, unless it is ``folder`` itself.
    """
    nearest = folder.absolute()
    while not os.path.lexists(nearest):
        nearest = nearest.parent
    try:
        handle, probe = tempfile.mkstemp(dir=nearest, prefix=".sttx-writable-")
        try:
            os.write(handle, b"\0" * 4096)
        finally:
            os.close(handle)
            os.unlink(probe)
    except OSError as error:
        name = () if nearest == folder.absolute() else (str(nearest),)
        raise OSError(error.errno, error.strerror, *name) from error


@contextmanager
def replacing_folder(path: Path, *, ours: Collection[str]) -> Iterator[Path]:
    """Yield an empty folder to fill; on success it replaces ``path``, on an error it is removed.

    Args:
        path: the folder to replace or make.
        ours: names of the files that the old folder may hold.

    Raises:
        UsageError: ``path`` is not such a folder.
    """
    refuse_foreign(path, ours)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in leftovers(path):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
    aside = aside_of(path)
    aside.mkdir()
    mode = aside.stat().st_mode & 0o666
    try:
        yield aside
        for file in aside.iterdir():
            file.chmod(mode)
            sync(file)
        sync(aside)
        _swap(path, aside, path.with_name(aside.name.replace(".new-", ".old-")))
        sync(path.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _swap(path: Path, new: Path, old: Path) -> None:
    """Replace a folder by another; after a kill between the two renames, the old one is at ``old``."""
    if not path.exists():
        new.rename(path)
        return
    path.rename(old)
    try:
        new.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def refuse_foreign(path: Path, ours: Collection[str]) -> None:
    """Raise UsageError unless :func:`replacing_folder` may replace what is at ``path``, if anything."""
    if path.is_symlink():
        raise UsageError(f"{str(path)!r} is a link: give the folder that it points to, or remove it")
    if not path.exists():
        return
    if not path.is_dir():
        raise UsageError(f"{str(path)!r} is a file, not a folder: give another path")
    foreign = sorted(entry.name for entry in path.iterdir() if entry.name not in ours)
    if foreign:
        raise UsageError(
            f"{str(path)!r} holds {foreign[0]!r}, not a part of a saved model: give a new or empty folder"
        )

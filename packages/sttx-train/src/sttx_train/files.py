"""Files that are replaced as a whole. Knows nothing of what is in them.

A file is written beside its target under a name that no file had, flushed to the disk and renamed, so that a
crash or a kill at any moment leaves either the old content or the new one, never half of either. Links are
refused: nothing is written or removed but what is at the path itself. `sttx_core.own_files` says what may be
replaced, and opens files that are written in place.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sttx_core.errors import UsageError
from sttx_core.own_files import PRIVATE_FILE, refuse_to_replace

_BLOCK = 1 << 20
_ON_WINDOWS = os.name == "nt"


def sha256_of(paths: Iterable[Path]) -> str:
    """Return the SHA-256 of the bytes of files, one after another; of one file, what ``sha256sum`` prints."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Flush a file or a folder's list of names to the disk; Windows flushes the latter itself."""
    if _ON_WINDOWS and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if _ON_WINDOWS else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def probe_writable(folder: Path) -> None:
    """Write and remove a small file in a folder, or in the nearest parent that exists.

    Raises:
        OSError: it cannot be written; names the parent, unless it is ``folder`` itself.
    """
    nearest = folder.absolute()
    while not os.path.lexists(nearest):
        nearest = nearest.parent
    try:
        with tempfile.NamedTemporaryFile(dir=nearest, prefix=".sttx-writable-") as file:
            file.write(b"\0" * 4096)
            file.flush()
    except OSError as error:
        name = () if nearest == folder.absolute() else (str(nearest),)
        raise OSError(error.errno, error.strerror, *name) from error


@contextmanager
def replacing_file(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Yield an empty file to fill; on success it replaces ``path``, on an error it is removed.

    Args:
        path: the file to replace or make.
        private: let nobody but the owner read it; otherwise the umask decides.

    Raises:
        UsageError: ``path`` is a link, a folder, a device or a pipe, which a rename would remove.
    """
    refuse_to_replace(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(path)
    aside.touch(PRIVATE_FILE if private else 0o666, exist_ok=False)
    mode = aside.stat().st_mode  # some writers replace the file and ignore the user's umask
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
    """Yield an empty folder to fill; on success it replaces ``path``, on an error it is removed.

    Args:
        path: the folder to replace or make.
        ours: names of the files that the old folder may hold.

    Raises:
        UsageError: ``path`` is not such a folder.
    """
    refuse_foreign(path, ours)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside, old = _aside(path), _aside(path, "old")
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


def _aside(path: Path, word: str = "new") -> Path:
    return path.with_name(f".{path.name}.{word}-{secrets.token_hex(4)}")


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

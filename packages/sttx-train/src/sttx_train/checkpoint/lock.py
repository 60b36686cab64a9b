"""A lock on a file, shared or exclusive, that the system releases when the process ends, however it ends."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sttx_core.own_files import open_own

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_PAUSE = 0.05  # seconds between two tries on Windows


@contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Wait for the lock and hold it.

    Args:
        path: the file, made if it is missing and the lock is exclusive.
        shared: allow other shared holders. Windows has no such lock here: its readers wait for each other.

    Raises:
        FileNotFoundError: the file is missing and the lock is shared.
        UsageError: it is a link, a pipe or a device, which would be written elsewhere or wait forever.
    """
    handle = open_own(path, os.O_RDONLY if shared else os.O_RDWR | os.O_CREAT)
    try:
        if fcntl is None:
            with _locked_on_windows(handle):
                yield
        else:
            fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            yield
    finally:
        os.close(handle)


@contextmanager
def _locked_on_windows(handle: int) -> Iterator[None]:
    import msvcrt  # pyright: ignore[reportMissingImports, reportUnusedImport]

    while True:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
            break
        except OSError:  # somebody else holds it
            time.sleep(_PAUSE)
    try:
        yield
    finally:
        os.lseek(handle, 0, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]

"""A store in a folder: one file an entry, replaced as a whole; a lock orders the writers.

```
DIR/
├── kept/3f/…       entries that are never dropped
├── dropped/a0/…    entries of other kinds; a file's time is its last use
├── .lock           locked while an entry is written
└── .total          bytes of all entries and the last version; not a number while an entry is written
```

An entry is complete on the disk before it has its name, so a kill at any moment leaves the old one or the new
one. A writer that finds `.total` unfinished counts the files again.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sttx_core.foreign_files import open_regular, read_at_most
from sttx_core.os_errors import explain
from sttx_core.own_files import make_private_folder, open_own, replacing_file
from sttx_train.checkpoint.lock import locked
from sttx_train.files import probe_writable
from sttx_train.stores.protocol import StoreConflict, Stored, StoreDown, StoreFull, damaged_entry, is_kept
from sttx_train.stores.sealed import LONGEST_LINE, seal, unseal, version_of

_KEPT, _DROPPED, _LOCK, _TOTAL = "kept", "dropped", ".lock", ".total"
_FORGOTTEN = 3600  # seconds after which an unfinished file is that of a killed writer


class FolderStore:
    """Entries as files, shared by all processes that open the same folder.

    Args:
        folder: is made if it is missing.
        limit: most bytes of all files.

    Raises:
        StoreDown: the folder cannot be made or written.
    """

    shared = True

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = Path(folder), limit
        self._counted = False
        with self._described():
            make_private_folder(self._folder)
            probe_writable(self._folder)

    def read(self, key: str) -> Stored | None:
        """Return an entry."""
        path = self._path(key)
        with self._described():
            try:
                sealed = read_at_most(path, self._limit)
            except FileNotFoundError:
                return None
        try:
            version, data = unseal(key, sealed)
        except ValueError as error:
            raise damaged_entry(key, str(error), repr(str(path))) from error
        with suppress(OSError):
            _touch(path)
        return Stored(version=version, data=data)

    def version(self, key: str) -> int:
        """Return the version of an entry."""
        path = self._path(key)
        with self._described():
            try:
                with open_regular(path) as file:
                    start = file.read(LONGEST_LINE)
            except FileNotFoundError:
                return 0
        try:
            return version_of(key, start)
        except ValueError as error:
            raise damaged_entry(key, str(error), repr(str(path))) from error

    def write(self, key: str, data: bytes, *, expected: int) -> int:
        """Replace an entry."""
        path = self._path(key)
        with self._described(), locked(self._folder / _LOCK):
            if (found := self.version(key)) != expected:
                raise StoreConflict(key, expected, found)
            total, last = self._total()
            version = max(time.time_ns(), last + 1)
            sealed = seal(key, version, data)
            total += len(sealed) - _size(path)
            dropped = self._to_drop(path, total)
            total -= sum(dropped.values())
            if total > self._limit:
                raise StoreFull(key, len(sealed), self._limit)
            self._set_total(f"writing {version}")
            for old in dropped:
                old.unlink(missing_ok=True)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with replacing_file(path, private=True) as aside:
                aside.write_bytes(sealed)
            _touch(path)
            self._set_total(f"{total} {version}")
            return version

    @property
    def nbytes(self) -> int:
        """Bytes of all entries."""
        with self._described(), locked(self._folder / _LOCK):
            return self._total()[0]

    def close(self) -> None:
        """Do nothing: no file stays open."""

    # -- files ---------------------------------------------------------------------------------------------

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()[:40]
        return self._folder / (_KEPT if is_kept(key) else _DROPPED) / name[:2] / name

    @contextmanager
    def _described(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreDown(f"the state store {str(self._folder)!r} fails: {explain(error)}") from error

    def _files(self, which: str) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield the entries that are kept, or may be dropped; remove what killed writers left."""
        for path in (self._folder / which).glob("*/*"):
            with suppress(FileNotFoundError):
                found = path.stat(follow_symlinks=False)
                if not path.name.startswith("."):
                    yield path, found
                elif time.time() - found.st_mtime > _FORGOTTEN:
                    path.unlink()

    # -- under the lock ------------------------------------------------------------------------------------

    def _total(self) -> tuple[int, int]:
        """Return the bytes of all entries, and the last version, 0 if there is none."""
        last = 0
        with suppress(FileNotFoundError, ValueError):
            text, last_text = read_at_most(self._folder / _TOTAL, 100).split()
            last = int(last_text)
            if self._counted:
                return int(text), last
        self._counted = True
        return sum(found.st_size for which in (_KEPT, _DROPPED) for _, found in self._files(which)), last

    def _set_total(self, text: str) -> None:
        handle = open_own(self._folder / _TOTAL, os.O_WRONLY | os.O_CREAT)
        try:
            os.ftruncate(handle, 0)
            os.write(handle, text.encode())
        finally:
            os.close(handle)

    def _to_drop(self, path: Path, total: int) -> dict[Path, int]:
        """Return the files used least and their bytes, so that a tenth gets free; none if there is room.

        Args:
            path: the entry that comes; it is not among them.
            total: bytes of all entries with it.
        """
        if total <= self._limit:
            return {}
        files = [
            (found.st_mtime_ns, one, found.st_size) for one, found in self._files(_DROPPED) if one != path
        ]
        found: dict[Path, int] = {}
        for _, one, size in sorted(files):
            if total <= self._limit - self._limit // 10:
                break
            found[one] = size
            total -= size
        return found


def _size(path: Path) -> int:
    try:
        return path.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def _touch(path: Path) -> None:
    now = time.time_ns()
    os.utime(path, ns=(now, now))

"""A store in the memory of one process; it ends with it."""

from __future__ import annotations

import threading
from collections import OrderedDict

from sttx_train.stores.protocol import StoreConflict, Stored, StoreFull, is_kept


class MemoryStore:
    """Entries in memory.

    Args:
        limit: most bytes of all entries.
        droppable: most bytes of those that may be dropped; by default all that is left.
    """

    shared = False

    def __init__(self, limit: int, droppable: int | None = None) -> None:
        self._limit, self._last = limit, 0
        self._droppable = limit if droppable is None else droppable
        self._lock = threading.Lock()
        self._entries: dict[str, Stored] = {}
        self._used: OrderedDict[str, None] = OrderedDict()  # those that may be dropped, oldest use first
        self._nbytes = self._nbytes_droppable = 0

    def read(self, key: str) -> Stored | None:
        """Return an entry."""
        with self._lock:
            if key in self._used:
                self._used.move_to_end(key)
            return self._entries.get(key)

    def version(self, key: str) -> int:
        """Return the version of an entry."""
        with self._lock:
            return self._version(key)

    def write(self, key: str, data: bytes, *, expected: int) -> int:
        """Replace an entry."""
        with self._lock:
            if (found := self._version(key)) != expected:
                raise StoreConflict(key, expected, found)
            before = len(self._entries[key].data) if key in self._entries else 0
            self._make_room(key, len(data), before)
            self._last += 1
            self._entries[key] = Stored(version=self._last, data=data)
            self._nbytes += len(data) - before
            if not is_kept(key):
                self._nbytes_droppable += len(data) - before
                self._used[key] = None
                self._used.move_to_end(key)
            return self._last

    @property
    def nbytes(self) -> int:
        """Bytes of all entries."""
        return self._nbytes

    def close(self) -> None:
        """Do nothing: the entries stay while somebody has the store."""

    def _version(self, key: str) -> int:
        entry = self._entries.get(key)
        return 0 if entry is None else entry.version

    def _make_room(self, key: str, size: int, before: int) -> None:
        """Drop entries until there is room, all that is needed or none.

        Args:
            key: of the entry that comes; it is not dropped.
            size: its bytes.
            before: bytes of the entry that it replaces.
        """
        more = size - before
        over = self._nbytes + more - self._limit
        if not is_kept(key):
            over = max(over, self._nbytes_droppable + more - self._droppable)
        dropped, freed = [], 0
        for old in self._used:
            if freed >= over:
                break
            if old != key:
                dropped.append(old)
                freed += len(self._entries[old].data)
        if freed < over:
            raise StoreFull(key, size, self._limit)
        for old in dropped:
            del self._entries[old], self._used[old]
        self._nbytes -= freed
        self._nbytes_droppable -= freed

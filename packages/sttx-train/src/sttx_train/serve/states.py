"""States of texts that were read, found again by the ids that led to them, in bounded memory.

A state belongs to one digest of everything that was learned: nothing learned later, or under the same name,
can reuse it. Knows readers; not requests.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from sttx_train.serve.readers import AnyReader

Ids: TypeAlias = Sequence[int] | np.ndarray


@dataclass(frozen=True, kw_only=True)
class _Entry:
    digest: str
    reader: AnyReader
    count: int
    nbytes: int


class StateCache:
    """Readers at the end of prefixes; the least recently used ones are dropped.

    Args:
        limit: most bytes of all states.

    Attributes:
        nbytes: bytes of all states now.
        share: is called with each new state, which nobody changes afterwards, to keep it elsewhere too.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.share: Callable[[str, Ids, AnyReader], None] | None = None
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._lengths: Counter[int] = Counter()
        self._of: dict[str, set[bytes]] = {}
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, digest: str, ids: Ids) -> tuple[int, AnyReader | None]:
        """Return the longest prefix that is known, as its length and a reader of its own at its end.

        Args:
            digest: of what reads the ids.
            ids: the text.
        """
        if (key := self._longest(digest, ids)) is None:
            return 0, None
        self._entries.move_to_end(key)
        entry = self._entries[key]
        return entry.count, entry.reader.copy()

    def known(self, digest: str, ids: Ids) -> int:
        """Return the length of the longest prefix that is known."""
        key = self._longest(digest, ids)
        return 0 if key is None else self._entries[key].count

    def _longest(self, digest: str, ids: Ids) -> bytes | None:
        """Return the key of the longest prefix that is known."""
        key, hashed, data = None, _hash(digest), _bytes(ids)
        before = 0
        for length in sorted(length for length in self._lengths if length <= len(ids)):
            hashed.update(data[4 * before : 4 * length])
            before = length
            if (found := hashed.copy().digest()) in self._entries:
                key = found
        return key

    def put(self, digest: str, ids: Ids, reader: AnyReader, key: bytes | None = None) -> None:
        """Keep where a reader stands after a text; a state larger than the limit is not kept.

        Args:
            digest: of what has read the text.
            ids: the text.
            reader: where it stands.
            key: what `GrowingKey.after` returned for the text; by default it is hashed again.
        """
        key = GrowingKey(digest).after(ids) if key is None else key
        if key in self._entries:
            self._entries.move_to_end(key)
            return
        kept = reader.copy()
        if self.share is not None:
            self.share(digest, ids, kept)
        entry = _Entry(digest=digest, reader=kept, count=len(ids), nbytes=kept.nbytes)
        if entry.nbytes > self._limit or not len(ids):
            return
        self._entries[key] = entry
        self._of.setdefault(digest, set()).add(key)
        self._lengths[entry.count] += 1
        self.nbytes += entry.nbytes
        while self.nbytes > self._limit:
            self._drop(next(iter(self._entries)))

    def forget(self, digest: str) -> None:
        """Forget the states of what nobody asks for any more; each holds what has read it in memory."""
        for key in list(self._of.get(digest, ())):
            self._drop(key)

    def clear(self) -> None:
        """Forget all states."""
        for key in list(self._entries):
            self._drop(key)

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key)
        self.nbytes -= entry.nbytes
        self._of[entry.digest].discard(key)
        if not self._of[entry.digest]:
            del self._of[entry.digest]
        self._lengths[entry.count] -= 1
        if not self._lengths[entry.count]:
            del self._lengths[entry.count]


class GrowingKey:
    """The keys of a text's starts, each longer than the one before: every id is hashed once.

    Args:
        digest: of what reads the text.
    """

    def __init__(self, digest: str) -> None:
        self._hashed, self._count = _hash(digest), 0

    def after(self, ids: Ids) -> bytes:
        """Return the key of a text that starts with the one before."""
        self._hashed.update(_bytes(ids[self._count :]))
        self._count = len(ids)
        return self._hashed.copy().digest()


def _hash(digest: str):
    return hashlib.blake2b(digest.encode() + b"\0", digest_size=20)


def _bytes(ids: Ids) -> bytes:
    return np.asarray(ids, np.uint32).tobytes()

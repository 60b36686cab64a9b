"""What every store of states keeps: entries of bytes by a key, each with a version, in bounded space.

Knows neither what the bytes mean nor where they are. `checks.check_state_store` holds each store to it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from sttx_core.errors import CheckpointError, DataError

KEPT = frozenset({"tenant"})
"""Kinds of entries that are never dropped; entries of other kinds are, the least recently used first."""

_KEY = re.compile(r"([a-z]{1,20})/[A-Za-z0-9_.-]{1,100}")


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An entry.

    Attributes:
        version: of this write; no other write of the same store has it.
        data: the bytes.
    """

    version: int
    data: bytes


class StoreConflict(DataError):
    """Somebody else has written the entry meanwhile, so that this write would be late.

    Attributes:
        found: the version of the entry now; 0 if it is gone.
    """

    def __init__(self, key: str, expected: int, found: int) -> None:
        super().__init__(f"entry {key!r} has the version {found}, not {expected}: read it again")
        self.found = found


class StoreFull(DataError):
    """The entry does not fit into the space that the store may take."""

    def __init__(self, key: str, size: int, limit: int) -> None:
        super().__init__(
            f"the state store has no room for the {size:,} bytes of {key!r}: raise --state-bytes, which is "
            f"{limit:,}"
        )


class StoreDown(DataError):
    """The store does not answer, or cannot be read or written."""


class StateStore(Protocol):
    """Entries by key, shared by all processes that open the same place.

    A key is a kind, a slash and a name: ``tenant/3fa9``. Methods may be called from any thread.

    Attributes:
        shared: whether other processes can see the entries.
    """

    shared: bool

    def read(self, key: str) -> Stored | None:
        """Return an entry; None if there is none. It counts as used.

        Raises:
            CheckpointError: the entry is damaged.
            StoreDown: the store cannot be read.
        """
        ...

    def version(self, key: str) -> int:
        """Return the version of an entry; 0 if there is none. It does not count as used.

        Raises:
            CheckpointError: the entry is damaged.
            StoreDown: the store cannot be read.
        """
        ...

    def write(self, key: str, data: bytes, *, expected: int) -> int:
        """Replace an entry as a whole, if its version is the expected one; return the new version.

        When it returns, a kill loses nothing of it. To stay within its space the store drops entries whose
        kinds are not in `KEPT`.

        Args:
            key: of the entry.
            data: its bytes.
            expected: the version that it is to replace; 0 if there must be none.

        Raises:
            StoreConflict: the entry has another version; nothing changes.
            StoreFull: there is no room; nothing changes.
            StoreDown: the store cannot be written.
        """
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of all entries, never more than the store may take."""
        ...

    def close(self) -> None:
        """Let go of files and connections; the entries stay."""
        ...


def kind_of(key: str) -> str:
    """Return the kind of a key.

    >>> kind_of("tenant/3fa9")
    'tenant'
    """
    match = _KEY.fullmatch(key)
    assert match is not None, f"{key!r} is not a key"
    return match[1]


def is_kept(key: str) -> bool:
    """Return whether an entry is never dropped."""
    return kind_of(key) in KEPT


def damaged_entry(key: str, reason: str, where: str) -> CheckpointError:
    """Return the error for an entry that cannot be used.

    Args:
        key: of the entry.
        reason: what is wrong.
        where: where it is.
    """
    return CheckpointError(
        f"{key!r} in the state store is damaged: {reason}; remove {where}, or restore it from a copy"
    )

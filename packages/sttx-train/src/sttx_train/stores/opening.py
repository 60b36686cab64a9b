"""A store by its name on the command line: ``memory``, a folder, or an address of Redis."""

from __future__ import annotations

from pathlib import Path

from sttx_core.errors import UsageError
from sttx_train.stores.folder import FolderStore
from sttx_train.stores.memory import MemoryStore
from sttx_train.stores.protocol import StateStore
from sttx_train.stores.redis_store import SCHEMES, RedisStore

_DROPPABLE = 64_000_000  # bytes of the entries in memory that may be dropped: what no other process can use


def open_store(name: str, limit: int) -> StateStore:
    """Open a store.

    Args:
        name: ``memory``, ``redis://…``, ``rediss://…``, ``unix://…``, or a folder, made if it is missing.
        limit: most bytes of all its entries.

    Raises:
        UsageError: the name is not one.
        StoreDown: the store does not answer, or cannot be written.
    """
    if not name:
        raise UsageError("--state-store is empty: give memory, a folder, or redis://HOST")
    if name == "memory":
        return MemoryStore(limit, min(limit, _DROPPABLE))
    scheme, sign, _ = name.partition("://")
    if not sign:
        return FolderStore(Path(name), limit)
    if scheme not in SCHEMES:
        known = ", ".join(f"{one}://" for one in SCHEMES)
        raise UsageError(f"--state-store {scheme + sign!r} is not known: give memory, a folder, or {known}")
    return RedisStore(name, limit)

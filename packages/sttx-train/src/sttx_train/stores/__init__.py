"""Stores of states that several processes share: in memory, in a folder, or in Redis."""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names

if TYPE_CHECKING:
    from sttx_train.stores.checks import check_state_store
    from sttx_train.stores.folder import FolderStore
    from sttx_train.stores.memory import MemoryStore
    from sttx_train.stores.opening import open_store
    from sttx_train.stores.packing import pack, unpack
    from sttx_train.stores.protocol import (
        StateStore,
        StoreConflict,
        Stored,
        StoreDown,
        StoreFull,
    )
    from sttx_train.stores.redis_store import RedisStore

__all__ = [
    "FolderStore",
    "MemoryStore",
    "RedisStore",
    "StateStore",
    "StoreConflict",
    "StoreDown",
    "StoreFull",
    "Stored",
    "check_state_store",
    "open_store",
    "pack",
    "unpack",
]

__getattr__ = lazy_names(
    __name__,
    {
        "checks": ["check_state_store"],
        "folder": ["FolderStore"],
        "memory": ["MemoryStore"],
        "opening": ["open_store"],
        "packing": ["pack", "unpack"],
        "protocol": ["StateStore", "StoreConflict", "StoreDown", "StoreFull", "Stored"],
        "redis_store": ["RedisStore"],
    },
)

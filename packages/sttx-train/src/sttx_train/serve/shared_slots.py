"""Slots in a store: a request leaves its state on one server, and another one saves or restores it.

Each slot has a version: a request that another has overtaken leaves the slot as it is. Knows slots; no HTTP.
"""

from __future__ import annotations

from typing import Literal

from sttx_core.errors import CheckpointError
from sttx_core.saved_state import State, checked
from sttx_train.serve.catalog import Catalog
from sttx_train.serve.failures import RequestError, bad
from sttx_train.serve.kept_responses import store_is_down
from sttx_train.serve.slots import Slot, SlotName, slot_from_tensors, slot_tensors
from sttx_train.stores import StateStore, StoreConflict, StoreDown, StoreFull, pack, unpack


class _About(State):
    holds: Literal["state", "learning", "nothing"]


class SharedSlots:
    """The slots of all servers over a store.

    Args:
        store: keeps them; those used least may be dropped.
    """

    def __init__(self, store: StateStore) -> None:
        self._store = store

    def version(self, name: SlotName) -> int:
        """Return the version of a slot, which a later `put` replaces.

        Raises:
            RequestError: the store does not answer.
        """
        try:
            return self._store.version(_key(name))
        except StoreDown as error:
            raise store_is_down(error) from error
        except CheckpointError as error:
            raise bad(f"slot {name}: {error}", "id_slot") from error

    def put(self, name: SlotName, slot: Slot | None, version: int) -> None:
        """Fill or empty a slot, unless somebody has done so since that version.

        Of a model that goes on learning only that is kept: its state cannot be restored.

        Raises:
            RequestError: the store does not answer, or has no room.
        """
        if slot is None:
            data = pack({"holds": "nothing"}, {})
        elif slot.served.base is not None:
            data = pack({"holds": "learning"}, {})
        else:
            data = pack({"holds": "state"}, slot_tensors(slot))
        try:
            self._store.write(_key(name), data, expected=version)
        except StoreConflict:
            return
        except StoreDown as error:
            raise store_is_down(error) from error
        except StoreFull as error:
            raise RequestError(507, str(error), code="store_full") from error

    def find(self, name: SlotName, catalog: Catalog) -> Slot | None:
        """Return what is in a slot; None if it is empty.

        Raises:
            RequestError: it is of a model that goes on learning, or is not served here, or it is damaged; or
                the store does not answer.
        """
        try:
            if (entry := self._store.read(_key(name))) is None:
                return None
            meta, tensors = unpack(entry.data, f"slot {name}")
            holds = checked(_About, meta, "slot").holds
            if holds == "learning":
                raise is_learning(name)
            return slot_from_tensors(catalog, tensors) if holds == "state" else None
        except StoreDown as error:
            raise store_is_down(error) from error
        except (CheckpointError, KeyError, ValueError, TypeError) as error:
            raise bad(f"slot {name} is damaged in the state store: {error}", "id_slot") from error


def is_learning(name: SlotName) -> RequestError:
    """Return the error for a slot that cannot be saved."""
    return bad(f"slot {name} is of a model that goes on learning: its state cannot be restored", "id_slot")


def _key(name: SlotName) -> str:
    return f"slot/{name.owner}-{name.number}"

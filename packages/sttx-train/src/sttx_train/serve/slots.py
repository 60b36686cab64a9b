"""States that a request leaves at a number, and that are saved to a file by its name, and restored.

A file belongs to one digest of everything that was learned. Knows files and readers; no HTTP.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from sttx_core.errors import DataError
from sttx_core.own_files import make_private_folder, replacing_file
from sttx_train.formats.tensorfiles import read_tensors, write_tensors
from sttx_train.serve.catalog import Catalog, Served
from sttx_train.serve.failures import bad
from sttx_train.serve.readers import AnyReader

_IDS, _ABOUT, _READER = "ids", "about", "reader."
_MOST_BYTES = 2**31


class SlotName(NamedTuple):
    """Which slot: each key has slots of its own.

    Attributes:
        owner: says whose they are, and nothing of the key; empty if nobody needs a key.
        number: the slot's number.
    """

    owner: str
    number: int

    def __str__(self) -> str:
        return str(self.number)

    @classmethod
    def of(cls, key: str, number: int) -> SlotName:
        """Return the name of a slot of a key."""
        return cls(hashlib.sha256(key.encode()).hexdigest()[:32] if key else "", number)


@dataclass(frozen=True, kw_only=True)
class Slot:
    """Where a request stood at its end.

    Attributes:
        served: the model.
        ids: what was read.
        reader: where it stands.
    """

    served: Served
    ids: tuple[int, ...]
    reader: AnyReader


def save_slot(slot: Slot, folder: Path, name: str) -> int:
    """Write a slot into a folder; return the bytes of the file.

    Raises:
        OSError: it cannot be written.
    """
    make_private_folder(folder)
    with replacing_file(folder / name, private=True) as aside:
        write_tensors(slot_tensors(slot), aside, {})
    return (folder / name).stat().st_size


def slot_tensors(slot: Slot) -> dict[str, torch.Tensor]:
    """Return everything in a slot as tensors."""
    state = slot.reader.state_dict()
    about = json.dumps({"digest": slot.served.digest, "reader": state["meta"]}).encode()
    tensors = {f"{_READER}{key}": tensor for key, tensor in state["tensors"].items()}
    tensors[_IDS] = torch.from_numpy(np.array(slot.ids, np.int64))
    tensors[_ABOUT] = torch.from_numpy(np.frombuffer(about, np.uint8).copy())
    return tensors


def restore_slot(catalog: Catalog, folder: Path, name: str) -> tuple[Slot, int]:
    """Read a slot from a folder; return it with the bytes of the file.

    Raises:
        RequestError: there is no such file, it is damaged, or of a model that is not served.
    """
    path = folder / name
    if not path.is_file() or path.is_symlink():
        raise bad(f"no saved slot {name!r}", "filename")
    if (size := path.stat().st_size) > _MOST_BYTES:
        raise bad(f"{name!r} is too large for a saved slot", "filename")
    try:
        return slot_from_tensors(catalog, read_tensors(path)), size
    except (DataError, KeyError, ValueError, TypeError) as error:
        raise bad(f"{name!r} is damaged, or no saved slot", "filename") from error


def slot_from_tensors(catalog: Catalog, tensors: dict[str, Any]) -> Slot:
    """Return the slot that `slot_tensors` was given.

    Raises:
        RequestError: it is of a model that is not served.
        CheckpointError, KeyError, ValueError, TypeError: it is damaged.
    """
    about = json.loads(tensors.pop(_ABOUT).numpy().tobytes())
    ids = tuple(tensors.pop(_IDS).tolist())
    served = next((one for one in catalog if one.digest == about["digest"]), None)
    if served is None:
        raise bad("the slot was saved by a model, or by a state of it, that is not served now", "filename")
    reader = served.predictor.read()
    named = {key.removeprefix(_READER): tensor.clone() for key, tensor in tensors.items()}
    reader.load_state_dict({"tensors": named, "meta": about["reader"]})
    return Slot(served=served, ids=ids, reader=reader)

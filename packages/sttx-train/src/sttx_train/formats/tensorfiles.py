"""Safetensors on disk, one file or many with an index. Knows nothing of what the tensors mean."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from sttx_core.errors import ModelError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ModelError: unreadable, damaged, or no object.
    """
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(f"{str(path)!r} is not valid JSON ({error}): fetch it again") from error
    if not isinstance(value, dict):
        raise ModelError(f"{str(path)!r} holds a {type(value).__name__}, where an object is needed")
    return value


def is_safetensors(path: Path) -> bool:
    """Tell by the content: a length in eight bytes and then a brace, which no ``.pth`` opens with.

    Raises:
        ModelError: unreadable.
    """
    try:
        with path.open("rb") as file:
            return file.read(9)[8:] == b"{"
    except OSError as error:
        raise ModelError(f"cannot read {str(path)!r}: {error.strerror}") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read one safetensors file; its data is mapped into memory, and read when it is used.

    Raises:
        ModelError: unreadable or damaged.
    """
    try:
        return load_file(path)
    except OSError as error:
        raise ModelError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    except (SafetensorError, ValueError) as error:
        raise ModelError(f"{str(path)!r} is damaged, or no safetensors ({error}): fetch it again") from error


def read_metadata(path: Path) -> dict[str, str]:
    """Read the strings kept beside the tensors of a file that :func:`read_tensors` reads."""
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write one safetensors file in place: let the caller give a path that is aside."""
    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, path, dict(metadata))


def folder_files(folder: Path) -> tuple[Path, ...]:
    """Name the weight files of a model folder, sorted: those of the index, or the single file.

    Raises:
        ModelError: there are none, or the index names a file that is not there.
    """
    if (folder / INDEX).is_file():
        names = sorted(set(weight_map(folder / INDEX).values()))
        for name in names:
            if not (folder / name).is_file():
                raise ModelError(f"{str(folder)!r} lacks {name!r}, which its index names: fetch it again")
        return tuple(folder / name for name in names)
    if (folder / SINGLE).is_file():
        return (folder / SINGLE,)
    raise ModelError(f"{str(folder)!r} is no model folder: it has neither {SINGLE!r} nor {INDEX!r}")


def read_folder(folder: Path) -> tuple[dict[str, Tensor], tuple[Path, ...]]:
    """Read a model folder's tensors, and say which files they came from.

    Raises:
        ModelError: a file is missing or damaged, or the files hold other tensors than the index says.
    """
    files = folder_files(folder)
    tensors: dict[str, Tensor] = {}
    for path in files:
        tensors |= read_tensors(path)
    if (folder / INDEX).is_file() and (differing := weight_map(folder / INDEX).keys() ^ tensors.keys()):
        raise ModelError(
            f"the index of {str(folder)!r} and its files disagree about {min(differing)!r}: fetch them again"
        )
    return tensors, files


def weight_map(index: Path) -> dict[str, str]:
    """Read which file beside an index holds which tensor.

    Raises:
        ModelError: damaged, or it points elsewhere.
    """
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not all(
        isinstance(name, str) and Path(name).name == name for name in names.values()
    ):
        raise ModelError(f"{str(index)!r} has no 'weight_map' from tensors to files beside it")
    return names

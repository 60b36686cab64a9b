"""Safetensors on disk: one file, or several with an index. Does not know what the tensors mean."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from sttx_core.errors import ModelError
from sttx_core.os_errors import explain

if TYPE_CHECKING:
    from torch import Tensor

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ModelError: the file is unreadable, damaged, or not a JSON object.
    """
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(f"cannot read {str(path)!r}: {explain(error)}") from error
    except ValueError as error:
        raise ModelError(f"{str(path)!r} is not valid JSON ({error}): download it again") from error
    if not isinstance(value, dict):
        raise ModelError(f"{str(path)!r} holds a {type(value).__name__}, not an object")
    return value


def is_safetensors(path: Path) -> bool:
    """Return whether a file is safetensors: eight bytes of length and then a brace, unlike any ``.pth``.

    Raises:
        ModelError: the file is unreadable.
    """
    try:
        with path.open("rb") as file:
            return file.read(9)[8:] == b"{"
    except OSError as error:
        raise ModelError(f"cannot read {str(path)!r}: {explain(error)}") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read one safetensors file. Its data is mapped into memory and read on first use.

    Raises:
        ModelError: the file is unreadable or damaged.
    """
    from safetensors.torch import load_file

    with _damage_named(path):
        return load_file(path)


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the shape of each tensor of a safetensors file, but no values; as strict as `read_tensors`.

    Raises:
        ModelError: the file is unreadable or damaged.
    """
    with _damage_named(path), safe_open(path, framework="numpy") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelError(f"cannot read {str(path)!r}: {explain(error)}") from error
    except (SafetensorError, ValueError) as error:
        raise ModelError(
            f"{str(path)!r} is damaged or not safetensors ({error}): download it again"
        ) from error


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata strings of a safetensors file."""
    with safe_open(path, framework="numpy") as file:
        return file.metadata() or {}


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write one safetensors file in place, not atomically: callers pass a temporary path."""
    from safetensors.torch import save_file

    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, path, dict(metadata))


def folder_files(folder: Path) -> tuple[Path, ...]:
    """Return the sorted weight files of a model folder: those of the index, or the single file.

    Raises:
        ModelError: there are none, or the index names a file that does not exist.
    """
    if (folder / INDEX).is_file():
        names = sorted(set(weight_map(folder / INDEX).values()))
        for name in names:
            if not (folder / name).is_file():
                raise ModelError(f"{str(folder)!r} lacks {name!r}, which its index names: download it again")
        return tuple(folder / name for name in names)
    if (folder / SINGLE).is_file():
        return (folder / SINGLE,)
    raise ModelError(f"{str(folder)!r} is not a model folder: it has neither {SINGLE!r} nor {INDEX!r}")


def read_folder(folder: Path) -> tuple[dict[str, Tensor], tuple[Path, ...]]:
    """Return a model folder's tensors and the files they come from.

    Raises:
        ModelError: a file is missing or damaged, or the files hold other tensors than the index lists.
    """
    files = folder_files(folder)
    tensors: dict[str, Tensor] = {}
    for path in files:
        tensors |= read_tensors(path)
    if (folder / INDEX).is_file() and (differing := weight_map(folder / INDEX).keys() ^ tensors.keys()):
        raise ModelError(
            f"the index of {str(folder)!r} and its files differ in {min(differing)!r}: download them again"
        )
    return tensors, files


def weight_map(index: Path) -> dict[str, str]:
    """Read an index: the file of each tensor, in the same folder.

    Raises:
        ModelError: the index is damaged, or names a file in another folder.
    """
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not all(
        isinstance(name, str) and Path(name).name == name for name in names.values()
    ):
        raise ModelError(f"{str(index)!r} has no 'weight_map' from tensors to files in its folder")
    return names

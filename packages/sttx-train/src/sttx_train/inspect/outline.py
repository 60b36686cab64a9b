"""Reads the names, shapes and dtypes of the tensors in a file or folder, but not their values.

A damaged file is read as far as possible, and the damage is reported. Does not know what the tensors mean.
Loads no torch.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sttx_core.errors import ModelError
from sttx_core.foreign_files import shown
from sttx_train.formats.pth import read_damaged_pth, read_pth_infos
from sttx_train.formats.tensorfiles import (
    INDEX,
    SINGLE,
    check_inside,
    gaps,
    has_file,
    is_safetensors,
    read_header,
    weight_map,
    wrong_size,
)
from sttx_train.formats.tensorinfo import TensorInfo

Container = Literal["safetensors", "pth"]

_PICKLED = "pytorch_model.bin"  # Hugging Face's folders before safetensors
_PICKLED_INDEX = "pytorch_model.bin.index.json"


@dataclass(kw_only=True)
class Outline:
    """The content of a file or folder of tensors, without their values.

    Attributes:
        container: the file format.
        files: every file and its size in bytes.
        tensors: shape and dtype of each tensor, by name.
        metadata: strings saved with the tensors.
        problems: a sentence for each damaged or missing part.
        notes: what was left out of the files to get at the tensors.
    """

    container: Container
    files: dict[Path, int] = field(default_factory=dict)
    tensors: dict[str, TensorInfo] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: tuple[str, ...] = ()


def read_outline(path: Path) -> Outline:
    """Read the outline of a tensor file, or of a folder of them.

    Raises:
        ModelError: the file or folder cannot be identified.
    """
    if path.is_dir():
        return _read_folder(path)
    return _read_safetensors(path) if is_safetensors(path) else _read_pth(path)


def _read_folder(folder: Path) -> Outline:
    if has_file(folder / INDEX):
        return _read_shards(folder, INDEX, "safetensors")
    if has_file(folder / _PICKLED_INDEX):
        return _read_shards(folder, _PICKLED_INDEX, "pth")
    for name in (SINGLE, _PICKLED):
        if has_file(folder / name):
            return read_outline(folder / name)
    raise ModelError(
        f"{str(folder)!r} is not a model folder: it has neither {SINGLE!r} nor {INDEX!r}; "
        f"if it holds sessions, `sttx traces {shlex.quote(str(folder))}` shows them"
    )


def _read_shards(folder: Path, index: str, container: Container) -> Outline:
    where = weight_map(folder / index)
    outline, found = Outline(container=container), set[tuple[str, str]]()
    for name in sorted(set(where.values())):
        if not has_file(folder / name):
            count = sum(file == name for file in where.values())
            outline.problems.append(
                f"it lacks {shown(name)}, which has {count} tensors in the index: download it again"
            )
            continue
        check_inside(folder, name)
        part = read_outline(folder / name)
        outline.files |= part.files
        outline.tensors |= part.tensors
        outline.problems += part.problems
        found |= {(tensor, name) for tensor in part.tensors}
    if not outline.problems and (differing := found ^ set(where.items())):
        first = shown(min(differing)[0])
        outline.problems.append(f"its index and its files differ in {first}: download them again")
    if not outline.tensors:
        raise ModelError(f"{str(folder)!r} has an index but none of its files: download them")
    return outline


def _read_safetensors(path: Path) -> Outline:
    header = read_header(path)
    outline = Outline(container="safetensors", files={path: header.size}, tensors=header.tensors)
    outline.metadata = header.metadata
    if header.size != header.end:
        outline.problems.append(wrong_size(path, header))
    elif not header.gapless:
        outline.problems.append(gaps(path))
    return outline


def _read_pth(path: Path) -> Outline:
    outline = Outline(container="pth", files={path: path.stat().st_size})
    try:
        outline.tensors, outline.notes = read_pth_infos(path)
    except ModelError as error:
        outline.tensors = read_damaged_pth(path)
        if not outline.tensors:
            raise
        outline.problems.append(str(error))
    return outline

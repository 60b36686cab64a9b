"""Safetensors on disk: one file, or several with an index. Does not know what the tensors mean.

A header is checked before the library reads the file: its size, and that its tensors fill the file exactly.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from safetensors import SafetensorError

from sttx_core.errors import ModelError
from sttx_core.foreign_files import is_regular, open_regular, parse_json, read_at_most, shown
from sttx_core.os_errors import explain
from sttx_train.formats.mapped import Mapped, MappedFile
from sttx_train.formats.tensorinfo import AnyTensor, TensorInfo, checked_shape

if TYPE_CHECKING:
    from torch import Tensor

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")  # in what a library in Rust says
_MOST_JSON = 1 << 23  # bytes of a JSON file or a header; a model of 60 layers needs 0.3 MB
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "C64": "complex64",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}


_NAME = re.compile(r"[^\0/\\]{1,255}")


class Header(NamedTuple):
    """What the header of a safetensors file says.

    Attributes:
        tensors: shape and dtype of each tensor.
        metadata: strings saved with them.
        starts: where each tensor starts in the file.
        size: bytes of the file.
        end: bytes that the file should have.
        gapless: whether the tensors have the bytes that their shapes need, one after the other.
    """

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    starts: dict[str, int]
    size: int
    end: int
    gapless: bool


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ModelError: the file is unreadable, damaged, or not a JSON object.
    """
    try:
        value = parse_json(read_at_most(path, _MOST_JSON))
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
        with open_regular(path) as file:
            return file.read(9)[8:] == b"{"
    except OSError as error:
        raise ModelError(f"cannot read {str(path)!r}: {explain(error)}") from error


def read_header(path: Path) -> Header:
    """Read the header of a safetensors file, whose data may be damaged.

    Raises:
        ModelError: the file is unreadable, or has no such header.
    """
    try:
        with open_regular(path) as file:
            size = file.seek(0, 2)
            file.seek(0)
            length = int.from_bytes(file.read(8), "little")
            raw = file.read(length) if length <= min(size, _MOST_JSON) else b""
        header = parse_json(raw)
        metadata = header.pop("__metadata__", None) or {}
        places = sorted(tuple(map(int, entry["data_offsets"])) for entry in header.values())
        tensors = {
            name: TensorInfo(checked_shape(entry["shape"]), _DTYPES[entry["dtype"]])
            for name, entry in header.items()
        }
        sizes = [tensor.nbytes() for tensor in tensors.values()]
        lengths = [end - start for start, end in (entry["data_offsets"] for entry in header.values())]
        gapless = sizes == lengths and all(end == start for (_, end), (start, _) in _pairs(places))
        strings = {str(name): str(text) for name, text in dict(metadata).items()}
        starts = {name: 8 + length + entry["data_offsets"][0] for name, entry in header.items()}
        end = 8 + length + (places[-1][1] if places else 0)
        return Header(tensors, strings, starts, size, end, gapless)
    except OSError as error:
        raise ModelError(f"cannot read {str(path)!r}: {explain(error)}") from error
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ModelError(f"{str(path)!r} is damaged or not safetensors: download it again") from error


def _pairs(places: list[tuple[int, ...]]) -> Iterable[tuple[tuple[int, ...], tuple[int, ...]]]:
    return zip([(0, 0), *places], places, strict=False)


def read_infos(path: Path) -> dict[str, TensorInfo]:
    """Read shape and dtype of each tensor of a safetensors file, but no values; as strict as `read_tensors`.

    Raises:
        ModelError: the file is unreadable or damaged.
    """
    return _whole_header(path).tensors


def _whole_header(path: Path) -> Header:
    """Read the header of a safetensors file whose data is what the header says."""
    header = read_header(path)
    if header.size != header.end:
        raise ModelError(wrong_size(path, header))
    if not header.gapless:
        raise ModelError(gaps(path))
    return header


def gaps(path: Path) -> str:
    """Return the message about a file whose tensors overlap, or do not have the bytes of their shapes."""
    return f"{path.name!r} is damaged: its tensors do not follow one another in the file: download it again"


def wrong_size(path: Path, header: Header) -> str:
    """Return the message about a file that is longer or shorter than its header says."""
    return (
        f"{path.name!r} is damaged: it has {header.size:,} bytes instead of {header.end:,}: download it again"
    )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read one safetensors file. Its data is mapped into memory and read on first use.

    Raises:
        ModelError: the file is unreadable or damaged.
    """
    return map_tensors(path).tensors


def map_tensors(path: Path) -> Mapped[Tensor]:
    """Return the tensors of a safetensors file as views of the file, and the mapped file.

    Raises:
        ModelError: the file is unreadable or damaged.
    """
    import torch

    header, file = _whole_header(path), MappedFile(path)
    return Mapped(
        {
            name: file.view(header.starts[name], info.nbytes())
            .view(getattr(torch, info.dtype))
            .view(info.shape)
            for name, info in header.tensors.items()
        },
        (file,),
    )


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata strings of a safetensors file."""
    return read_header(path).metadata


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write one safetensors file in place, not atomically: callers pass a temporary path.

    Raises:
        OSError: it cannot be written; with the system's number, which the library only puts into words.
    """
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(plain, path, dict(metadata) or None)
    except SafetensorError as error:
        if (named := _SYSTEM_ERROR.search(str(error))) is None:
            raise
        number = int(named[1])
        raise OSError(number, os.strerror(number), str(path)) from error


def folder_files(folder: Path) -> tuple[Path, ...]:
    """Return the sorted weight files of a model folder: those of the index, or the single file.

    Raises:
        ModelError: there are none, the index names a file that does not exist, or one is elsewhere.
    """
    if has_file(folder / INDEX):
        names = sorted(set(weight_map(folder / INDEX).values()))
        for name in names:
            if not has_file(folder / name):
                raise ModelError(
                    f"{str(folder)!r} lacks {shown(name)}, which its index names: download it again"
                )
            check_inside(folder, name)
        return tuple(folder / name for name in names)
    if has_file(folder / SINGLE):
        return (folder / SINGLE,)
    raise ModelError(f"{str(folder)!r} is not a model folder: it has neither {SINGLE!r} nor {INDEX!r}")


def has_file(path: Path) -> bool:
    """Return whether there is a file at a path.

    Raises:
        ModelError: something else is there, such as a pipe.
    """
    try:
        return is_regular(path)
    except OSError as error:
        raise ModelError(f"cannot read {str(path)!r}: {explain(error)}") from error


def check_inside(folder: Path, name: str) -> None:
    """Check that a file that an index names is in its folder, or where Hugging Face's cache keeps content.

    Raises:
        ModelError: it is a link to somewhere else.
    """
    real, inside = (folder / name).resolve(), folder.resolve()
    cached = inside.parent.name == "snapshots" and real.is_relative_to(inside.parent.parent / "blobs")
    if not cached and not real.is_relative_to(inside):
        raise ModelError(
            f"{shown(name)} of {str(folder)!r} is a link to a file outside the folder: replace it by a copy"
        )


def map_folder(folder: Path) -> tuple[Mapped[Tensor], tuple[Path, ...]]:
    """Return a model folder's tensors as views of its files, and where the files are.

    Raises:
        ModelError: a file is missing or damaged, or the files hold other tensors than the index lists.
    """
    return _join(folder, map_tensors)


def read_folder_infos(folder: Path) -> tuple[dict[str, TensorInfo], tuple[Path, ...]]:
    """Return shape and dtype of a folder's tensors, and the files they are in; as strict as `map_folder`."""
    infos, files = _join(folder, lambda path: Mapped(read_infos(path)))
    return infos.tensors, files


def _join(
    folder: Path, read: Callable[[Path], Mapped[AnyTensor]]
) -> tuple[Mapped[AnyTensor], tuple[Path, ...]]:
    files = folder_files(folder)
    parts = {path.name: read(path) for path in files}
    tensors = {name: tensor for part in parts.values() for name, tensor in part.tensors.items()}
    if has_file(folder / INDEX):
        found = {(name, file) for file, part in parts.items() for name in part.tensors}
        if differing := found ^ set(weight_map(folder / INDEX).items()):
            raise ModelError(
                f"the index of {str(folder)!r} and its files differ in {shown(min(differing)[0])}: "
                "download them again"
            )
    return Mapped(tensors, tuple(file for part in parts.values() for file in part.files)), files


def weight_map(index: Path) -> dict[str, str]:
    """Read an index: the file of each tensor, in the same folder.

    Raises:
        ModelError: the index is damaged, or names a file in another folder.
    """
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not all(
        isinstance(name, str) and _NAME.fullmatch(name) and Path(name).name == name for name in names.values()
    ):
        raise ModelError(f"{str(index)!r} has no 'weight_map' from tensors to files in its folder")
    return names

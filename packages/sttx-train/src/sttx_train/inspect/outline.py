"""Reads the names, shapes and dtypes of the tensors in a file or folder, but not their values.

A damaged file is read as far as possible, and the damage is reported. Does not know what the tensors mean.
Only a ``.pth`` needs torch.
"""

from __future__ import annotations

import json
import math
import pickletools
import shlex
import struct
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from sttx_core.errors import ModelError
from sttx_train.formats.blinkdl import read_pth
from sttx_train.formats.tensorfiles import INDEX, SINGLE, is_safetensors, weight_map
from sttx_train.formats.tensorinfo import TensorInfo

Container = Literal["safetensors", "pth"]

_PICKLED = "pytorch_model.bin"  # Hugging Face's folders before safetensors
_PICKLED_INDEX = "pytorch_model.bin.index.json"
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
_MOST_VALUES = 2**63 - 1
_HEADER_LIMIT = 100_000_000  # bytes, the limit of the safetensors format
_LEGACY_PICKLES = 5  # torch before 1.6 wrote five; the fourth has the tensors' names


@dataclass(kw_only=True)
class Outline:
    """The content of a file or folder of tensors, without their values.

    Attributes:
        container: the file format.
        files: every file and its size in bytes.
        tensors: shape and dtype of each tensor, by name.
        metadata: strings saved with the tensors.
        problems: a sentence for each damaged or missing part.
    """

    container: Container
    files: dict[Path, int] = field(default_factory=dict)
    tensors: dict[str, TensorInfo] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read_outline(path: Path) -> Outline:
    """Read the outline of a tensor file, or of a folder of them.

    Raises:
        ModelError: the file or folder cannot be identified.
    """
    if path.is_dir():
        return _read_folder(path)
    return _read_safetensors(path) if is_safetensors(path) else _read_pth(path)


def _read_folder(folder: Path) -> Outline:
    if (folder / INDEX).is_file():
        return _read_shards(folder, INDEX, "safetensors")
    if (folder / _PICKLED_INDEX).is_file():
        return _read_shards(folder, _PICKLED_INDEX, "pth")
    for name in (SINGLE, _PICKLED):
        if (folder / name).is_file():
            return read_outline(folder / name)
    raise ModelError(
        f"{str(folder)!r} is not a model folder: it has neither {SINGLE!r} nor {INDEX!r}; "
        f"if it holds sessions, `sttx traces {shlex.quote(str(folder))}` shows them"
    )


def _read_shards(folder: Path, index: str, container: Container) -> Outline:
    where = weight_map(folder / index)
    outline = Outline(container=container)
    for name in sorted(set(where.values())):
        if not (folder / name).is_file():
            count = sum(file == name for file in where.values())
            outline.problems.append(
                f"it lacks {name!r}, which has {count} tensors in the index: download it again"
            )
            continue
        part = read_outline(folder / name)
        outline.files |= part.files
        outline.tensors |= part.tensors
        outline.problems += part.problems
    if not outline.problems and (differing := where.keys() ^ outline.tensors.keys()):
        outline.problems.append(f"its index and its files differ in {min(differing)!r}: download them again")
    if not outline.tensors:
        raise ModelError(f"{str(folder)!r} has an index but none of its files: download them")
    return outline


def _read_safetensors(path: Path) -> Outline:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        raw = file.read(length) if length <= min(size, _HEADER_LIMIT) else b""
    try:
        header = json.loads(raw)
        metadata = header.pop("__metadata__", {})
        tensors = {
            name: TensorInfo(_checked(entry["shape"]), _DTYPES[entry["dtype"]])
            for name, entry in header.items()
        }
        end = 8 + length + max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ModelError(f"{str(path)!r} is damaged or not safetensors: download it again") from error
    outline = Outline(container="safetensors", files={path: size}, tensors=tensors)
    outline.metadata = {str(name): str(text) for name, text in dict(metadata or {}).items()}
    if size != end:
        outline.problems.append(
            f"{path.name!r} is damaged: it has {size:,} bytes instead of {end:,}: download it again"
        )
    return outline


def _checked(shape: Any) -> tuple[int, ...]:
    """Return a tensor's shape; raise a ValueError if torch, which counts in 64 bits, cannot have it."""
    if not all(type(size) is int and size >= 0 for size in shape) or math.prod(shape) > _MOST_VALUES:
        raise ValueError(f"shape {shape!r}")
    return tuple(shape)


def _read_pth(path: Path) -> Outline:
    outline = Outline(container="pth", files={path: path.stat().st_size})
    try:
        outline.tensors = {
            name: TensorInfo(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
            for name, tensor in read_pth(path).items()
        }
    except ModelError as error:
        outline.tensors = _tensors_named_in(path)
        if not outline.tensors:
            raise
        outline.problems.append(str(error))
    return outline


def _tensors_named_in(path: Path) -> dict[str, TensorInfo]:
    """Return the tensors that a damaged pickle names, as far as it can be read. None of its code is run."""
    tensors: dict[str, TensorInfo] = {}
    try:
        with path.open("rb") as file:
            for opcodes in _pickles(file):
                for name, shape, dtype in _tensor_records(opcodes):
                    tensors[name] = TensorInfo(_checked(shape), dtype)
    except Exception:  # noqa: BLE001  a damaged pickle can raise anything; keep what was read before
        return tensors
    return tensors


def _pickles(file: IO[bytes]) -> Iterator[Iterable[tuple[Any, Any, Any]]]:
    """Yield the opcodes of the first pickle in torch's zip archive, or of each pickle in an older file."""
    header = file.read(30)
    if header[:4] != b"PK\x03\x04":
        file.seek(0)
        for _ in range(_LEGACY_PICKLES):
            yield pickletools.genops(file)
        return
    method, name_length, extra_length = (struct.unpack_from("<H", header, at)[0] for at in (8, 26, 28))
    name = file.read(name_length)
    if method == zipfile.ZIP_STORED and name.endswith(b"data.pkl"):
        file.seek(extra_length, 1)
        yield pickletools.genops(file)


class _PickleStrings:
    """Follows the strings and class names on a pickle's stack, and those in its memo."""

    def __init__(self) -> None:
        self.memory: dict[int, str] = {}
        self.last, self.before = "", ""

    def read(self, code: str, argument: Any) -> bool:
        """Process an opcode; return whether it put a string on the stack."""
        if code in ("BINUNICODE", "SHORT_BINUNICODE", "UNICODE", "GLOBAL"):
            word = str(argument)
        elif code in ("BINGET", "LONG_BINGET", "GET"):
            word = self.memory.get(int(argument), "")
        else:
            if code in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
                self.memory[len(self.memory) if code == "MEMOIZE" else int(argument)] = self.last
            else:
                self.last, self.before = "", self.last or self.before
            return False
        self.last, self.before = word, self.last or self.before
        return True


def _tensor_records(opcodes: Iterable[tuple[Any, Any, Any]]) -> Iterator[tuple[str, list[int], str]]:
    """Yield name, shape and dtype of each tensor; a pickle builds it from storage, offset and shape."""
    strings, name, dtype = _PickleStrings(), "", "float32"
    numbers: list[int] | None = None  # after the storage: the offset, then the shape
    for opcode, argument, _ in opcodes:
        code = opcode.name
        if strings.read(code, argument):
            word = strings.last
            if word.startswith("torch._utils _rebuild_"):
                name = strings.before if not strings.before.startswith("torch") else name
            elif word.startswith("torch ") and word[6:] in _STORAGES:
                dtype = _STORAGES[word[6:]]
        elif code == "BINPERSID":
            numbers = []
        elif numbers is not None and code in ("BININT", "BININT1", "BININT2", "LONG1"):
            numbers.append(int(argument))
        elif numbers and code in ("EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "TUPLE"):
            yield name, numbers[1:], dtype
            numbers = None

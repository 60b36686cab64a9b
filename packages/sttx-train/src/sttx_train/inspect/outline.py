"""The names, shapes and number types of the tensors in a file or folder, read without reading the tensors.

What is cut short or otherwise damaged is read as far as it says what it is, and the damage is told. Knows
nothing of what the tensors mean. A tensor here is one on torch's device ``meta``: a shape without numbers.
"""

from __future__ import annotations

import json
import pickletools
import struct
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import torch
from torch import Tensor

from sttx_core.errors import ModelError
from sttx_train.formats.blinkdl import read_pth
from sttx_train.formats.tensorfiles import INDEX, SINGLE, is_safetensors, weight_map

Container = Literal["safetensors", "pth"]

_PICKLED = "pytorch_model.bin"  # Hugging Face's folders before safetensors
_PICKLED_INDEX = "pytorch_model.bin.index.json"
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_HEADER_LIMIT = 100_000_000  # bytes, the limit of the safetensors format
_LEGACY_PICKLES = 5  # the tensors' names are in the fourth of those that torch wrote before 1.6


@dataclass(kw_only=True)
class Outline:
    """What is in a file or folder of tensors.

    Attributes:
        container: what the files are.
        files: every file and its size in bytes.
        tensors: by name, without numbers.
        metadata: strings kept beside the tensors.
        problems: what is damaged or missing, a sentence each.
    """

    container: Container
    files: dict[Path, int] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read_outline(path: Path) -> Outline:
    """Read the outline of a tensor file, or of a folder of them.

    Raises:
        ModelError: there is nothing that says what it is.
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
    raise ModelError(f"{str(folder)!r} is no model folder: it has neither {SINGLE!r} nor {INDEX!r}")


def _read_shards(folder: Path, index: str, container: Container) -> Outline:
    where = weight_map(folder / index)
    whole = Outline(container=container)
    for name in sorted(set(where.values())):
        if not (folder / name).is_file():
            count = sum(file == name for file in where.values())
            whole.problems.append(f"it lacks {name!r}, where its index has {count} tensors: fetch it again")
            continue
        part = read_outline(folder / name)
        whole.files |= part.files
        whole.tensors |= part.tensors
        whole.problems += part.problems
    if not whole.problems and (differing := where.keys() ^ whole.tensors.keys()):
        whole.problems.append(f"its index and its files disagree about {min(differing)!r}: fetch them again")
    if not whole.tensors:
        raise ModelError(f"{str(folder)!r} has an index and none of its files: fetch them")
    return whole


def _read_safetensors(path: Path) -> Outline:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        raw = file.read(length) if length <= min(size, _HEADER_LIMIT) else b""
    try:
        header = json.loads(raw)
        told = header.pop("__metadata__", {})
        tensors = {
            name: torch.empty(entry["shape"], dtype=_DTYPES[entry["dtype"]], device="meta")
            for name, entry in header.items()
        }
        end = 8 + length + max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
    except (
        ValueError,
        RecursionError,
        LookupError,
        TypeError,
        AttributeError,
        RuntimeError,
        OverflowError,
    ) as error:
        raise ModelError(f"{str(path)!r} is damaged, or no safetensors: fetch it again") from error
    outline = Outline(container="safetensors", files={path: size}, tensors=tensors)
    outline.metadata = {str(name): str(text) for name, text in dict(told or {}).items()}
    if size != end:
        outline.problems.append(
            f"{path.name!r} is damaged: it has {size:,} bytes where {end:,} belong: fetch it again"
        )
    return outline


def _read_pth(path: Path) -> Outline:
    outline = Outline(container="pth", files={path: path.stat().st_size})
    try:
        outline.tensors = {name: tensor.to("meta") for name, tensor in read_pth(path).items()}
    except ModelError as error:
        outline.tensors = _spelled_out(path)
        if not outline.tensors:
            raise
        outline.problems.append(str(error))
    return outline


def _spelled_out(path: Path) -> dict[str, Tensor]:
    """Read the tensors that a pickle speaks of, as far as it goes. Nothing of it is run: it is spelled."""
    found: dict[str, Tensor] = {}
    try:
        with path.open("rb") as file:
            for opcodes in _pickles(file):
                for name, shape, dtype in _mentions(opcodes):
                    found[name] = torch.empty(shape, dtype=dtype, device="meta")
    except Exception:  # noqa: BLE001  a damaged pickle ends in any way; what came before the damage counts
        return found
    return found


def _pickles(file: IO[bytes]) -> Iterator[Iterable[tuple[Any, Any, Any]]]:
    """Yield the opcodes of the pickle that opens a zip of torch's, or of those that open an older file."""
    opening = file.read(30)
    if opening[:4] != b"PK\x03\x04":
        file.seek(0)
        for _ in range(_LEGACY_PICKLES):
            yield pickletools.genops(file)
        return
    method, name_length, extra_length = (struct.unpack_from("<H", opening, at)[0] for at in (8, 26, 28))
    name = file.read(name_length)
    if method == zipfile.ZIP_STORED and name.endswith(b"data.pkl"):
        file.seek(extra_length, 1)
        yield pickletools.genops(file)


class _Spelling:
    """Follows opcodes as far as needed: strings, classes by name, and what was remembered of both."""

    def __init__(self) -> None:
        self.memory: dict[int, str] = {}
        self.last, self.before = "", ""

    def take(self, code: str, argument: Any) -> bool:
        """Take an opcode in; True if it put a word on the stack."""
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


def _mentions(opcodes: Iterable[tuple[Any, Any, Any]]) -> Iterator[tuple[str, list[int], torch.dtype]]:
    """Yield name, shape and number type of each tensor: it is built of a storage, an offset and a shape."""
    spelling, name, dtype = _Spelling(), "", torch.float32
    numbers: list[int] | None = None  # since the storage: the offset, then the shape
    for opcode, argument, _ in opcodes:
        code = opcode.name
        if spelling.take(code, argument):
            word = spelling.last
            if word.startswith("torch._utils _rebuild_"):
                name = spelling.before if not spelling.before.startswith("torch") else name
            elif word.startswith("torch ") and word[6:] in _STORAGES:
                dtype = _STORAGES[word[6:]]
        elif code == "BINPERSID":
            numbers = []
        elif numbers is not None and code in ("BININT", "BININT1", "BININT2", "LONG1"):
            numbers.append(int(argument))
        elif numbers and code in ("EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "TUPLE"):
            yield name, numbers[1:], dtype
            numbers = None

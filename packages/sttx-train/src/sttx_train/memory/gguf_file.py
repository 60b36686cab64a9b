"""GGUF files of float32 tensors with named fields: written with the package `gguf`, read with bounds.

The reader is our own: a file that somebody else made may lie about every count and length in it. What it
allocates is bounded by the size of the file and by `MOST_BYTES`. Knows nothing of memories.

Little-endian, version 3: the magic, the counts of tensors and of fields; each field as its name, type and
value; each tensor as its name, its dimensions (the last one first), its type and the offset of its values;
then the values, each tensor at a multiple of the alignment.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sttx_core.errors import ModelError, UsageError
from sttx_core.foreign_files import open_regular, shown
from sttx_core.os_errors import explain
from sttx_core.own_files import replacing_file

Value: TypeAlias = str | bool | int | float | list[Any]
Arrays: TypeAlias = Mapping[str, NDArray[np.float32]]

MOST_BYTES = 1 << 30
"""Bytes of a file; an adapter of rank 8 for 30 layers has 5 MB."""

_MAGIC, _VERSION = b"GGUF", 3
_ALIGNMENT = 32
_MOST_FIELDS, _MOST_TENSORS, _MOST_ITEMS = 256, 65_536, 65_536
_MOST_TEXT, _MOST_DIMENSIONS = 65_536, 4
_FLOAT32 = 0
_STRING, _ARRAY, _BOOL = 8, 9, 7
_NUMBERS = dict(zip((0, 1, 2, 3, 4, 5, 6, 10, 11, 12), "BbHhIifQqd", strict=True))
_ALIGN_FIELD = "general.alignment"


class Gguf(NamedTuple):
    """What a file holds.

    Attributes:
        fields: by their names; an array is a list.
        tensors: by their names, float32, in memory of the file's own.
    """

    fields: dict[str, Value]
    tensors: dict[str, NDArray[np.float32]]


def require_gguf() -> None:
    """Refuse to write if the package `gguf` is not installed.

    Raises:
        UsageError: it is not.
    """
    if importlib.util.find_spec("gguf") is None:
        raise UsageError("writing a GGUF needs the package 'gguf': pip install 'sttx-train[memory]'")


def write_gguf_file(path: Path, architecture: str, fields: Mapping[str, Value], tensors: Arrays) -> None:
    """Write a file atomically.

    Args:
        path: the file.
        architecture: ``general.architecture``.
        fields: further fields; a number that is not negative becomes an unsigned one of 64 bits.
        tensors: float32.

    Raises:
        UsageError: the package is not installed, or something else than a file is at the path.
        OSError: it cannot be written.
    """
    require_gguf()
    gguf = importlib.import_module("gguf")
    with replacing_file(path) as aside:
        writer = gguf.GGUFWriter(aside, architecture)
        for name, value in fields.items():
            if isinstance(value, str):
                writer.add_string(name, value)
            elif isinstance(value, bool):
                writer.add_bool(name, value)
            elif isinstance(value, int):
                writer.add_uint64(name, value)
            elif isinstance(value, float):
                writer.add_float64(name, value)
            else:
                writer.add_array(name, value)
        for name, array in tensors.items():
            writer.add_tensor(name, np.ascontiguousarray(array, np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def read_gguf_file(path: Path) -> Gguf:
    """Read a file, from any program.

    Raises:
        ModelError: it is unreadable, larger than `MOST_BYTES`, not GGUF, damaged, or has tensors that are not
            float32.
    """
    try:
        with open_regular(path) as file:
            size = file.seek(0, 2)
            file.seek(0)
            data = file.read(size) if size <= MOST_BYTES else b""
    except OSError as error:
        raise ModelError(f"cannot read {str(path)!r}: {explain(error)}") from error
    try:
        if size > MOST_BYTES:
            raise _Damaged(f"it has {size:,} bytes, and {MOST_BYTES:,} are the most")
        return _parsed(data)
    except _Damaged as damage:
        raise ModelError(f"{str(path)!r} cannot be read as a GGUF file: {damage}") from damage


class _Damaged(Exception):
    """Why a file cannot be read."""


class _Bytes:
    """Reads a file's bytes from its start; never beyond its end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise _Damaged("it ends too early")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def count(self, most: int, what: str) -> int:
        number = self.number("<Q")
        if number > most:
            raise _Damaged(f"it has {number:,} {what}, and {most:,} are the most")
        return number

    def text(self) -> str:
        try:
            return self.take(self.count(_MOST_TEXT, "bytes of a text")).decode()
        except UnicodeDecodeError as error:
            raise _Damaged("a text in it is not UTF-8") from error

    def value(self, kind: int) -> Value:
        if kind == _STRING:
            return self.text()
        if kind == _BOOL:
            if (flag := self.number("<B")) > 1:
                raise _Damaged(f"a yes or no in it is {flag}")
            return bool(flag)
        if kind == _ARRAY:
            of = self.number("<I")
            if of == _ARRAY:
                raise _Damaged("it has an array of arrays")
            return [self.value(of) for _ in range(self.count(_MOST_ITEMS, "values in an array"))]
        if kind not in _NUMBERS:
            raise _Damaged(f"it has a field of the unknown type {kind}")
        return self.number(f"<{_NUMBERS[kind]}")


class _Place(NamedTuple):
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        return 4 * math.prod(self.shape)


def _parsed(data: bytes) -> Gguf:
    file = _Bytes(data)
    if file.take(4) != _MAGIC:
        raise _Damaged("it does not start with 'GGUF'")
    if (version := file.number("<I")) != _VERSION:
        raise _Damaged(f"its version is {version}, and {_VERSION} is read")
    tensors = file.count(_MOST_TENSORS, "tensors")
    fields: dict[str, Value] = {}
    for _ in range(file.count(_MOST_FIELDS, "fields")):
        name = file.text()
        if name in fields:
            raise _Damaged(f"the field {shown(name)} is there twice")
        fields[name] = file.value(file.number("<I"))
    places: dict[str, _Place] = {}
    for _ in range(tensors):
        name = file.text()
        if name in places:
            raise _Damaged(f"the tensor {shown(name)} is there twice")
        places[name] = _place(file, name)
    align = fields.get(_ALIGN_FIELD, _ALIGNMENT)
    if type(align) is not int or not 8 <= align <= 4096 or align & (align - 1):
        raise _Damaged(f"its alignment is {shown(align)}")
    start = _up(file.at, align)
    _check_places(places, align, len(data) - start)
    return Gguf(
        fields,
        {
            name: np.frombuffer(data, "<f4", math.prod(place.shape), start + place.offset)
            .reshape(place.shape)
            .astype(np.float32)
            for name, place in places.items()
        },
    )


def _place(file: _Bytes, name: str) -> _Place:
    dimensions = file.number("<I")
    if not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise _Damaged(f"the tensor {shown(name)} has {dimensions} dimensions")
    shape = tuple(file.count(MOST_BYTES, "values in a dimension") for _ in range(dimensions))[::-1]
    if not all(shape):
        raise _Damaged(f"the tensor {shown(name)} is empty")
    if (kind := file.number("<I")) != _FLOAT32:
        raise _Damaged(f"the tensor {shown(name)} has the type {kind}, and only float32 (0) is read")
    return _Place(shape, file.number("<Q"))


def _check_places(places: Mapping[str, _Place], align: int, size: int) -> None:
    """Refuse tensors that do not follow one another to the end of the file."""
    at = 0
    for name, place in places.items():
        if place.offset != at:
            raise _Damaged(f"the values of {shown(name)} are not where they must be")
        at = _up(at + place.size, align)
        if at > size:
            raise _Damaged("it ends too early")
    if at != size and places:
        raise _Damaged(f"{size - at:,} bytes follow after its end")


def _up(size: int, align: int) -> int:
    return -(-size // align) * align

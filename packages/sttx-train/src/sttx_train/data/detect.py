"""Detects the data format of a path: by the file's content first, by its suffix second.

Reads no more than the first 64 KB of a file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sttx_core.errors import DataError, UsageError
from sttx_train.data.json_lines import entry_of
from sttx_train.data.mmididx import BIN, IDX, MAGIC, pair_paths

DataFormat = Literal["array", "flat", "json lines", "pair", "text"]
"""A ``.npy`` file, a flat ``.bin``, JSON lines, a pair of ``.bin`` and ``.idx``, text files or a folder."""

ENCODED: tuple[DataFormat, ...] = ("json lines", "text")
"""Formats that must be encoded into a temporary file of ids; the values of an array are encoded as read."""

_HEAD = 1 << 16
_JSON_LINES = (".jsonl", ".ndjson")
_ARRAY = b"\x93NUMPY"
_PACKED = {
    b"PK\x03\x04": "a zip archive (.npz is one): save one array with numpy.save",
    b"\x1f\x8b": "compressed (gzip): unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed (zstd): unpack it first",
    b"\xfd7zXZ\0": "compressed (xz): unpack it first",
    b"BZh": "compressed (bzip2): unpack it first",
}


def detect_format(path: Path) -> DataFormat:
    """Return the data format of a path.

    A folder is text, whatever it contains. ``PREFIX`` means ``PREFIX.bin`` and ``PREFIX.idx`` if nothing has
    exactly that name.

    Raises:
        UsageError: the path does not exist.
        DataError: it is neither a file nor a folder, or must be unpacked first.
    """
    if path.is_dir():
        return "text"
    if not path.exists():
        if all(file.is_file() for file in pair_paths(path)):
            return "pair"
        raise UsageError(f"{str(path)!r} does not exist: name a file or a folder")
    if not path.is_file():
        raise DataError(
            f"{str(path)!r} can be read only once, because it is a pipe or a device: write it to a file first"
        )
    with path.open("rb") as file:
        head = file.read(_HEAD)
    for magic, what in _PACKED.items():
        if head.startswith(magic):
            raise DataError(f"{str(path)!r} is {what}")
    if head.startswith(_ARRAY) or path.suffix == ".npy":
        return "array"
    if head.startswith(MAGIC) or path.suffix == IDX:
        return "pair"
    if path.suffix == BIN:
        return "pair" if path.with_suffix(IDX).exists() else "flat"
    return "json lines" if path.suffix in _JSON_LINES or _is_json_lines(head) else "text"


def _is_json_lines(head: bytes) -> bool:
    """Return whether each complete line in the first part of a file is an entry.

    Without one complete line the answer is no.
    """
    lines = [line for line in head.split(b"\n")[: -1 if len(head) == _HEAD else None] if line.strip()]
    return bool(lines) and all(entry_of(line) is not None for line in lines)

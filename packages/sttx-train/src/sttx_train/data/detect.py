"""Detects the data format of a path: by the file's content first, by its suffix second.

Reads no more than the first 64 KB of a file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from sttx_core.errors import DataError, UsageError
from sttx_core.foreign_files import open_regular
from sttx_train.data.json_document import DocumentEntries, is_json, is_json_document
from sttx_train.data.json_lines import JsonEntries, entry_of
from sttx_train.data.mmididx import BIN, IDX, MAGIC, pair_paths

DataFormat = Literal["array", "flat", "json", "json lines", "pair", "text"]
"""A ``.npy`` file, a flat ``.bin``, a JSON document, JSON lines, a pair of ``.bin`` and ``.idx``, or text."""

ENCODED: tuple[DataFormat, ...] = ("json", "json lines", "text")
"""Formats that must be encoded into a temporary file of ids; the values of an array are encoded as read."""

_HEAD = 1 << 16
_JSON_LINES = (".jsonl", ".ndjson")
_ARRAY = b"\x93NUMPY"
_TO_LINES = "write its texts as JSON lines, for example with to_json(orient='records', lines=True) of pandas"
_TO_ARRAY = "save its ids or values with numpy.save"
_REFUSED = {
    b"PK\x03\x04": "a zip archive (.npz is one): save one array with numpy.save",
    b"\x1f\x8b": "compressed (gzip): unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed (zstd): unpack it first",
    b"\xfd7zXZ\0": "compressed (xz): unpack it first",
    b"BZh": "compressed (bzip2): unpack it first",
    b"\x04\x22\x4d\x18": "compressed (lz4): unpack it first",
    b"7z\xbc\xaf\x27\x1c": "compressed (7z): unpack it first",
    b"PAR1": f"a Parquet file: {_TO_LINES}",
    b"ARROW1": f"an Arrow file: {_TO_LINES}",
    b"FEA1": f"an Arrow file (Feather): {_TO_LINES}",
    b"\xff\xff\xff\xff": f"an Arrow stream, as Hugging Face's datasets save it: {_TO_LINES}",
    b"ORC": f"an ORC file: {_TO_LINES}",
    b"Obj\x01": f"an Avro file: {_TO_LINES}",
    b"SQLite format 3\0": f"an SQLite database: {_TO_LINES}",
    b"\x89HDF\r\n\x1a\n": f"an HDF5 file: {_TO_ARRAY}",
    b"GGUF": "a model in the format GGUF, not data",
    b"%PDF-": "a PDF document: extract its text first",
    b"\x98\xd8\x34\x01": "a file of ids with the header of llm.c: cut off its first 1,024 bytes",
}
"""What a file is, by its first bytes, and what to do."""
_IN_BINARY = {b"PAR1", b"ARROW1", b"FEA1", b"ORC", b"GGUF"}
"""Signatures that a text can start with too; such a file has NUL bytes."""
_IN_OTHERS = {b"\x1f\x8b", b"BZh", b"\xff\xff\xff\xff"}
"""Signatures that a flat file can start with too."""
_PICKLED = (".pkl", ".pickle", ".pt")


def detect_format(path: Path) -> DataFormat:
    """Return the data format of a path.

    A folder is text, whatever it contains: JSON lines in it are read as plain text. ``PREFIX`` means
    ``PREFIX.bin`` and ``PREFIX.idx`` if nothing has exactly that name.

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
    with open_regular(path) as file:
        head = file.read(_HEAD)
    _refuse_others(path, head)
    if head.startswith(_ARRAY) or path.suffix == ".npy":
        return "array"
    if head.startswith(MAGIC) or path.suffix == IDX:
        return "pair"
    if path.suffix == BIN:
        return "pair" if path.with_suffix(IDX).exists() else "flat"
    if _is_json_lines(head):
        return "json lines"
    if is_json_document(path, head, whole=len(head) < _HEAD):
        return "json"
    return "json lines" if path.suffix in _JSON_LINES else "text"


def open_entries(path: Path, progress: Callable[[int], None] | None = None) -> JsonEntries:
    """Return the entries of a file of the format ``json`` or ``json lines``."""
    return (DocumentEntries if detect_format(path) == "json" else JsonEntries)(path, progress)


def holds_numbers(path: Path) -> bool:
    """Return whether a path holds numbers that are values or ids, as the tokenizer decides.

    Raises:
        UsageError: the path does not exist.
        DataError: it cannot be read.
    """
    data_format = detect_format(path)
    if data_format not in ("json", "json lines"):
        return data_format == "array"
    return not isinstance(next(iter(open_entries(path)), (0, ""))[1], str)


def is_json_as_text(path: Path) -> bool:
    """Return whether a file that `detect_format` calls text is JSON, of keys that are not known."""
    with open_regular(path) as file:
        head = file.read(_HEAD)
    pretty = path.suffix == ".json" and head.lstrip()[:1] in (b"{", b"[")
    return pretty or is_json(head, whole=len(head) < _HEAD)


def _refuse_others(path: Path, head: bytes) -> None:
    """Raise a DataError for a format that is known, but not read."""
    for magic, what in _REFUSED.items():
        if not head.startswith(magic) or (magic in _IN_BINARY and b"\0" not in head):
            continue
        if path.suffix != BIN or magic not in _IN_OTHERS:
            raise DataError(f"{str(path)!r} is {what}")
    if path.suffix in _PICKLED:
        raise DataError(f"{str(path)!r} holds Python objects, which are not unpickled: {_TO_ARRAY}")


def _is_json_lines(head: bytes) -> bool:
    """Return whether each complete line in the first part of a file is an entry.

    Without one complete line the answer is no.
    """
    lines = [line for line in head.split(b"\n")[: -1 if len(head) == _HEAD else None] if line.strip()]
    return bool(lines) and all(entry_of(line) is not None for line in lines)

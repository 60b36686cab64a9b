"""The bytes of an archive: a header, then records that are only ever appended. Knows nothing of coders.

An archive starts with a magic number, its version and a header in JSON. Each record has a head of fixed size
with a checksum of its own, and a payload. There are four kinds:

- a block: part of a file, compressed. Blocks that were coded side by side stand together, as a batch; the
  batches of a segment are decoded one after another, and a segment needs no other.
- stored bytes of a file, which no coder makes smaller; the block whose text refers to them follows.
- a file: its name, size and checksum; written when all of its blocks are.
- an index: all files so far, and where segments start. Its place follows it, at the end of the archive.

An archive whose writing was interrupted has no index at its end; then its records are read one by one.
"""

import json
import math
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, BinaryIO

from sttx_core.errors import DataError
from sttx_train.coding.forms import FORMS, Form
from sttx_train.coding.packed import MOST_TIMES, pack, unpack

MAGIC = b"\x8bsttx\r\n\x1a"
VERSION = 4
BLOCK_BYTES = 1 << 18
"""Most bytes of text that a block holds."""

MOST_PAYLOAD = 80 * BLOCK_BYTES
MOST_STORED = 1 << 22
"""Most bytes in a record of stored bytes."""

MOST_BATCH = 1 << 14
"""Most blocks of a batch, each of a file or a part of one."""

_MOST_HEADER, _MOST_INDEX = 1 << 16, 1 << 28
_KEYS_OF_INDEX = 64
_MARK = b"\xc7\x9e"
_START = struct.Struct("<HH")
_CHECK = struct.Struct("<I")
_HEAD = struct.Struct("<2scIIHIIII8s")
_END = struct.Struct("<Q8s")
_END_MAGIC = b"sttx-end"
END_BYTES = _END.size
HEAD_BYTES = _HEAD.size + _CHECK.size
BLOCK, STORED, FILE, INDEX = b"B", b"S", b"F", b"I"


@dataclass(frozen=True, kw_only=True)
class Head:
    """The head of a record.

    Attributes:
        kind: `BLOCK`, `STORED`, `FILE` or `INDEX`.
        segment: number of the segment of a block, or of stored bytes.
        file: number of their file.
        more: number of blocks of the same batch that follow.
        plain: bytes of text that a block holds.
        tokens: tokens of a block.
        size: bytes of the payload.
        payload_check: CRC-32 of the payload.
        plain_check: BLAKE2b, of 8 bytes, of what a block holds.
    """

    kind: bytes
    segment: int = 0
    file: int = 0
    more: int = 0
    plain: int = 0
    tokens: int = 0
    size: int
    payload_check: int
    plain_check: bytes = bytes(8)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file in an archive.

    Attributes:
        path: its name, with / between folders.
        size: its bytes.
        sha256: of its content.
        mode: who may read it, as in `os.stat`.
        modified: when it was changed last, Unix seconds.
        number: of the file, in the order in which files are compressed.
        segments: first and last segment that hold it; equal for most files, and -1 for an empty one.
        form: how its bytes became text, as `sttx_train.coding.forms` has it.
        coded: bytes of that text.
    """

    path: str
    size: int
    sha256: str
    mode: int
    modified: float
    number: int
    segments: tuple[int, int]
    form: Form = "bytes"
    coded: int = 0


def write_header(header: Mapping[str, Any]) -> bytes:
    """Return the start of an archive."""
    text = pack(header)
    start = MAGIC + _START.pack(VERSION, len(text)) + text
    return start + _CHECK.pack(zlib.crc32(start))


def read_header(file: BinaryIO) -> dict[str, Any]:
    """Read the start of an archive; the file stands after it.

    Raises:
        DataError: it is not an archive of sttx, is of a later version, or its header is damaged.
    """
    start = file.read(len(MAGIC) + _START.size)
    if not start.startswith(MAGIC) or len(start) < len(MAGIC) + _START.size:
        raise DataError(f"it is not an archive of sttx{_other_program(start)}")
    version, size = _START.unpack(start[len(MAGIC) :])
    if version != VERSION:
        which = "a later" if version > VERSION else "an earlier"
        raise DataError(
            f"{which} sttx wrote it: its format is version {version}, and this sttx reads {VERSION}"
        )
    text = file.read(size)
    if len(text) < size or file.read(_CHECK.size) != _CHECK.pack(zlib.crc32(start + text)):
        raise DataError("the archive's header is damaged")
    try:
        header = unpack(text, _MOST_HEADER)
        json.dumps(header, allow_nan=False)  # refuses infinite numbers such as 1e999
    except (ValueError, RecursionError) as error:
        raise DataError("the archive's header is damaged") from error
    if not isinstance(header, dict):
        raise DataError("the archive's header is damaged")
    return header


def _other_program(start: bytes) -> str:
    """Return which program wrote a file with such a start, for a message."""
    if not start:
        return ": it is empty"
    for magic, name in _OTHERS.items():
        if start.startswith(magic):
            return f": {name} wrote it"
    return ""


_OTHERS = {
    b"GTPZ\x02": "rwkvzip (format 2)",
    b"7kSt": "zpaq",
    b"zPQ": "zpaq",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ": "xz",
    b"PK": "zip",
}


def write_record(
    kind: bytes,
    payload: bytes,
    plain: bytes = b"",
    *,
    segment: int = 0,
    file: int = 0,
    more: int = 0,
    tokens: int = 0,
) -> bytes:
    """Return a record."""
    checks = zlib.crc32(payload), blake2b(plain, digest_size=8).digest()
    head = _HEAD.pack(_MARK, kind, segment, file, more, len(plain), tokens, len(payload), *checks)
    return head + _CHECK.pack(zlib.crc32(head)) + payload


def read_head(data: bytes) -> Head | None:
    """Return a record's head; None if it is damaged or allows more than any record has."""
    if len(data) != HEAD_BYTES or not data.startswith(_MARK):
        return None
    packed = data[: _HEAD.size]
    if data[_HEAD.size :] != _CHECK.pack(zlib.crc32(packed)):
        return None
    _, kind, segment, file, more, plain, tokens, size, payload_check, plain_check = _HEAD.unpack(packed)
    most = {BLOCK: MOST_PAYLOAD, STORED: MOST_STORED, FILE: _MOST_HEADER, INDEX: _MOST_INDEX}.get(kind, -1)
    if size > most or plain > BLOCK_BYTES or tokens > plain or more >= MOST_BATCH:
        return None
    if kind == BLOCK and not tokens:
        return None
    return Head(
        kind=kind,
        segment=segment,
        file=file,
        more=more,
        plain=plain,
        tokens=tokens,
        size=size,
        payload_check=payload_check,
        plain_check=plain_check,
    )


def is_intact(head: Head, payload: bytes) -> bool:
    """Return whether a payload is the one that was written."""
    return len(payload) == head.size and zlib.crc32(payload) == head.payload_check


def is_plain(head: Head, plain: bytes) -> bool:
    """Return whether decoded bytes are those that were compressed."""
    return len(plain) == head.plain and blake2b(plain, digest_size=8).digest() == head.plain_check


def head_at(file: BinaryIO, position: int) -> Head | None:
    """Return the head of the record at a position; None if it is damaged."""
    file.seek(position)
    return read_head(file.read(HEAD_BYTES))


def walk(file: BinaryIO, start: int) -> Iterator[tuple[int, Head]]:
    """Yield the position and head of each record from a position on, past damaged ones.

    The file may be read between.
    """
    position: int | None = start
    while position is not None:
        if head := head_at(file, position):
            yield position, head
            position += HEAD_BYTES + head.size
        else:
            position = _next_mark(file, position + 1)


def _next_mark(file: BinaryIO, position: int) -> int | None:
    """Return the position of the next intact head."""
    overlap, step = HEAD_BYTES - 1, 1 << 20
    while True:
        file.seek(position)
        data = file.read(step + overlap)
        at = data.find(_MARK)
        while at >= 0:
            if read_head(data[at : at + HEAD_BYTES]) is not None:
                return position + at
            at = data.find(_MARK, at + 1)
        if len(data) < step + overlap:
            return None
        position += step


def read_payload(file: BinaryIO, position: int, head: Head) -> bytes | None:
    """Return the payload of a record; None if it is damaged."""
    file.seek(position + HEAD_BYTES)
    payload = file.read(head.size)
    return payload if is_intact(head, payload) else None


def write_entry(entry: Entry) -> bytes:
    """Return the payload of a file's record."""
    return pack(asdict(entry))


def read_file(payload: bytes) -> Entry:
    """Return the entry in the payload of a file's record.

    Raises:
        DataError: as in `read_entry`.
    """
    try:
        value = unpack(payload, MOST_TIMES * len(payload))
    except ValueError as error:
        raise DataError("a file's entry in the archive is damaged") from error
    return read_entry(value)


def read_entry(value: Any) -> Entry:
    """Return a file's entry from a value of JSON.

    Raises:
        DataError: it is not one, or its name leads out of a folder.
    """
    kinds = {"path": str, "size": int, "sha256": str, "mode": int, "modified": (int, float), "number": int}
    kinds |= {"form": str, "coded": int}
    if not isinstance(value, dict) or value.keys() != {*kinds, "segments"}:
        raise DataError("a file's entry in the archive is damaged")
    right = all(isinstance(value[name], kind) for name, kind in kinds.items())
    spans = value["segments"]
    right = right and value["form"] in FORMS and value["coded"] >= 0
    right = right and (value["form"] != "bytes" or value["coded"] == value["size"])
    right = right and abs(value["modified"]) < math.inf  # also False of NaN
    if not (right and isinstance(spans, list) and list(map(type, spans)) == [int, int]):
        raise DataError("a file's entry in the archive is damaged")
    if not (0 <= spans[0] <= spans[1] if value["size"] > 0 else value["size"] == 0 and spans == [-1, -1]):
        raise DataError("a file's entry in the archive is damaged")
    try:
        os.fsencode(value["path"])
    except UnicodeEncodeError as error:
        raise DataError(
            f"the archive names a file {value['path']!r}, which this system cannot store"
        ) from error
    if not is_inside(value["path"]):
        raise DataError(f"the archive names a file {value['path']!r}, which would be outside of the folder")
    return Entry(**{**value, "segments": (spans[0], spans[1])})


def is_inside(path: str) -> bool:
    """Return whether a name in an archive stays in the folder that it is written to."""
    parts = path.split("/")
    foreign = os.name == "nt" and any(sign in path for sign in "\\:")
    return not foreign and "\0" not in path and not any(part in ("", ".", "..") for part in parts)


def write_index(entries: list[Entry], segments: Mapping[int, int], position: int) -> bytes:
    """Return the index that is written at a position, and the end of the archive."""
    value = {"files": [asdict(entry) for entry in entries], "segments": sorted(segments.items())}
    return write_record(INDEX, pack(value, bounded=False)) + _END.pack(position, _END_MAGIC)


def read_index(file: BinaryIO, size: int) -> tuple[list[Entry], dict[int, int]] | None:
    """Return all entries and where segments start; None if there is no intact index at the end.

    Args:
        file: the archive.
        size: its bytes.
    """
    file.seek(max(size - _END.size, 0))
    end = file.read()
    if len(end) != _END.size or not end.endswith(_END_MAGIC):
        return None
    position, _ = _END.unpack(end)
    file.seek(min(position, size))
    head = read_head(file.read(HEAD_BYTES))
    if head is None or head.kind != INDEX or (payload := read_payload(file, position, head)) is None:
        return None
    try:
        # Each item here also has a record in the archive, which unpacks to more.
        value = unpack(payload, MOST_TIMES * position + _KEYS_OF_INDEX)
        if not all(type(one) is int and one >= 0 for pair in value["segments"] for one in pair):
            raise ValueError("a segment's number or position is impossible")
        segments = dict(value["segments"])
        return [read_entry(entry) for entry in value["files"]], segments
    except (ValueError, KeyError, TypeError) as error:
        raise DataError("the archive's index is damaged") from error

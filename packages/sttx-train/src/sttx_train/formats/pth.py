"""A ``.pth`` on disk, as `torch.save` writes it: a zip archive, or before torch 1.6 a row of pickles.

Nothing is unpickled or unpacked: the pickle is followed (`pickled`), every size is compared with the file's,
and the tensors are views of the file, mapped into memory. Does not know what the tensors mean.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Generic, NamedTuple

from sttx_core.errors import ModelError
from sttx_core.foreign_files import open_regular
from sttx_core.os_errors import explain
from sttx_core.own_files import replacing_file
from sttx_train.formats.mapped import MappedFile
from sttx_train.formats.pickled import PickleReader, StoredTensor
from sttx_train.formats.tensorinfo import AnyTensor, TensorInfo
from sttx_train.formats.unwrap import unwrap_content

if TYPE_CHECKING:
    from torch import Tensor

_MAGIC = b"PK\x03\x04"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_SIGNATURES = (b"PK", b"\x80")
_MOST_BYTES = 1 << 25  # of a pickle, and of the archive's directory; a model of 60 layers needs 0.3 MB
_LOCAL_HEADER = 30
_SHARED = 2  # times the file's size: an embedding may be the head too


class Contents(NamedTuple, Generic[AnyTensor]):
    """The tensors of a file by name, and a sentence on what was left out to get at them."""

    tensors: dict[str, AnyTensor]
    notes: tuple[str, ...] = ()


class _Span(NamedTuple):
    """Where the bytes of a storage are."""

    start: int
    bytes: int


def read_pth(path: Path) -> Contents[Tensor]:
    """Read the tensors of a ``.pth``, mapped into memory. No pickled code is run.

    Raises:
        ModelError: the file is unreadable, damaged, compressed, or not a dictionary of tensors.
    """
    return map_pth(path)[0]


def map_pth(path: Path) -> tuple[Contents[Tensor], MappedFile]:
    """Return the tensors of a ``.pth`` as views of the file, and the mapped file. No pickled code is run.

    Raises:
        ModelError: as `read_pth`.
    """
    import torch

    stored, spans, notes = _described(path)
    file = MappedFile(path)
    tensors: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        made = torch.empty(0, dtype=getattr(torch, tensor.info.dtype))
        if tensor.info.numel():
            part = file.view(*spans[tensor.storage.key]).untyped_storage()
            made = made.set_(part, tensor.offset, tensor.info.shape, tensor.stride)  # pyright: ignore[reportArgumentType]
        tensors[name] = made if tensor.info.numel() else made.new_empty(tensor.info.shape)
    return Contents(tensors, notes), file


def read_pth_infos(path: Path) -> Contents[TensorInfo]:
    """Read the shape and the dtype of each tensor of a ``.pth``, as strict as `read_pth`. Loads no torch.

    Raises:
        ModelError: as `read_pth`.
    """
    stored, _, notes = _described(path)
    return Contents({name: tensor.info for name, tensor in stored.items()}, notes)


def read_damaged_pth(path: Path) -> dict[str, TensorInfo]:
    """Return the tensors that a damaged ``.pth`` names, as far as it can be read."""
    reader = PickleReader()
    try:
        with open_regular(path) as file:
            header = file.read(_LOCAL_HEADER)
            if header.startswith(_MAGIC):
                file.seek(_after_header(header))
                reader.read(io.BytesIO(file.read(_MOST_BYTES)))
            else:
                file.seek(0)
                _read_pickles(reader, io.BytesIO(file.read(_MOST_BYTES)))
    except Exception:  # noqa: BLE001  a damaged pickle can raise anything; keep what was read before
        pass
    return {name: tensor.info for name, tensor in reader.seen.items()}


def write_pth(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as a ``.pth``, atomically."""
    import torch

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # Pass torch an open file: given a path, it would write the file's name into the file.
    with replacing_file(path) as aside, aside.open("wb") as file:
        torch.save(plain, file)


def _described(path: Path) -> tuple[dict[str, StoredTensor], dict[str, _Span], tuple[str, ...]]:
    """Return the tensors of a file, where the storages are, and what was left out."""
    try:
        with open_regular(path) as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            zipped = file.read(len(_MAGIC)) == _MAGIC
            file.seek(0)
            content, spans = _read_zip(file, str(path)) if zipped else _read_legacy(file)
            tensors, notes = unwrap_content(content, str(path))
            _check_spans(tensors, spans, size)
    except OSError as error:
        raise ModelError(f"cannot read {str(path)!r}: {explain(error)}") from error
    except ModelError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise ModelError(f"{str(path)!r} {_why_unread(path)}: download it again") from error
    claimed = sum(tensor.info.nbytes() for tensor in tensors.values())
    if claimed > _SHARED * size:
        raise ModelError(
            f"{str(path)!r} claims tensors of {claimed:,} bytes, but has only {size:,}: download it again"
        )
    return tensors, spans, notes


def _check_spans(tensors: Mapping[str, StoredTensor], spans: Mapping[str, _Span], size: int) -> None:
    """Raise an error unless the file has the bytes of each tensor's storage."""
    for tensor in tensors.values():
        if tensor.info.numel():
            span = spans[tensor.storage.key]
            if span.bytes < tensor.storage.bytes or span.start + span.bytes > size:
                raise ValueError(f"storage {tensor.storage.key!r} is incomplete")


class _BoundedReads:
    """A file for `zipfile`, which would otherwise read a directory of any size at once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(_MOST_BYTES + 1 if size < 0 else min(size, _MOST_BYTES + 1))
        if len(data) > _MOST_BYTES:
            raise ValueError("a part of the archive is too large")
        return data


def _read_zip(file: BinaryIO, source: str) -> tuple[object, dict[str, _Span]]:
    """Return what the archive's pickle describes, and where the storages are."""
    spans: dict[str, _Span] = {}
    with zipfile.ZipFile(_BoundedReads(file)) as archive:  # pyright: ignore[reportArgumentType]
        entries = archive.infolist()
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise ModelError(
                f"{source!r} is compressed, but sttx unpacks nothing: save it with torch.save, as it is"
            )
        if entry.filename in spans:
            raise ValueError(f"two entries are named {entry.filename!r}")
        file.seek(entry.header_offset)
        start = entry.header_offset + _after_header(file.read(_LOCAL_HEADER))
        spans[entry.filename] = _Span(start, entry.file_size)
    (pickle,) = [name for name in spans if name.endswith("/data.pkl") and name.count("/") == 1]
    folder = pickle.removesuffix("data.pkl")
    if f"{folder}byteorder" in spans and _bytes_at(file, spans[f"{folder}byteorder"]) != b"little":
        raise ModelError(
            f"{source!r} was saved on a big-endian machine: load it with torch, and save it again"
        )
    content = PickleReader().read(io.BytesIO(_bytes_at(file, spans[pickle])))
    data = f"{folder}data/"
    return content, {name.removeprefix(data): span for name, span in spans.items() if name.startswith(data)}


def _bytes_at(file: BinaryIO, span: _Span) -> bytes:
    file.seek(span.start)
    data = file.read(min(span.bytes, _MOST_BYTES + 1))
    if len(data) != span.bytes or len(data) > _MOST_BYTES:
        raise ValueError("an entry is incomplete or too large")
    return data


def _after_header(header: bytes) -> int:
    """Return the length of an archive's local header of an entry, from its fixed part."""
    if header[:4] != _MAGIC or len(header) < _LOCAL_HEADER:
        raise ValueError("an entry is not where the directory says")
    return _LOCAL_HEADER + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")


def _read_legacy(file: BinaryIO) -> tuple[object, dict[str, _Span]]:
    """Return what the pickles describe, and where the storages are: one after the other behind them."""
    reader, head = PickleReader(), io.BytesIO(file.read(_MOST_BYTES))
    content, keys = _read_pickles(reader, head)
    spans: dict[str, _Span] = {}
    at = head.tell()
    for key in keys:
        storage = reader.storages[key]
        file.seek(at)
        elements = int.from_bytes(file.read(8), "little")
        spans[key] = _Span(at + 8, elements * storage.item_bytes)
        at += 8 + spans[key].bytes
    return content, spans


def _read_pickles(reader: PickleReader, head: io.BytesIO) -> tuple[object, list[str]]:
    """Read the five pickles of the old format; return what was saved, and the storages' keys in order."""
    magic, _, system = (reader.read(head) for _ in range(3))
    if magic != _LEGACY_MAGIC or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("it is not a file of torch's")
    return reader.read(head), reader.read(head)


def _why_unread(path: Path) -> str:
    with open_regular(path) as file:
        start = file.read(8)
    if not start:
        return "is empty"
    if start.startswith(b"PK") and not zipfile.is_zipfile(path):
        return "is damaged: its end is missing, as after an interrupted download"
    if start.startswith(_SIGNATURES):
        return "is damaged, or holds more than tensors, which sttx does not load"
    return f"is damaged or not a .pth: it starts with {start!r}"

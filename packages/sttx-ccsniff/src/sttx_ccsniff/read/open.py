"""Opens files and standard input, and yields their content in pieces: decompressed, and as UTF-8.

Windows PowerShell writes UTF-16 (`>`, `Out-File`), usually after a byte order mark. Such content becomes
UTF-8 here; nothing later knows about it.
"""

import codecs
import gzip
import io
import os
import select
import stat
import sys
import threading
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from sttx_core.errors import SourceError, UsageError
from sttx_core.foreign_files import not_regular, open_regular

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
"""The first bytes of compressed files."""

_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_PIECE = 2**20
_ZSTD_PIECE = 2**8  # compressed bytes: one piece can expand up to 32,768 times, so to 8 MiB at most
_ZSTD_WINDOW = 2**27  # bytes a frame may ask for: the default limit of the `zstd` program
_POLL_SECONDS = 0.1


def first_bytes(path: Path, size: int) -> bytes:
    """Return the first bytes of a file, decompressed: fewer if reading fails, none if it is not a file."""
    head = b""
    try:
        with open_regular(path) as opened:
            for piece in pieces_of(opened):
                head += piece[: size - len(head)]
                if len(head) == size:
                    break
    except (OSError, EOFError, zlib.error, SourceError):
        pass
    return head


def pieces_from_top(opened: io.BufferedReader) -> Iterator[bytes]:
    """Yield the content from its first byte, decompressed."""
    opened.seek(0)
    return pieces_of(opened)


class _Pipe(io.FileIO):
    """A pipe or terminal whose `readinto` returns once `stop` is set, even if no data arrives."""

    def __init__(self, descriptor: int, stop: threading.Event) -> None:
        super().__init__(descriptor)
        self._stop = stop

    def readinto(self, buffer: Any) -> int | None:
        while not self._stop.is_set():
            if select.select([self], [], [], _POLL_SECONDS)[0]:
                return super().readinto(buffer)
        return 0


def standard_input(stop: threading.Event) -> io.BufferedReader:
    """Open standard input for reading; `stop` ends a read that waits.

    Raises:
        UsageError: Standard input is closed.
    """
    try:
        return open_buffered(io.FileIO(os.dup(sys.stdin.fileno())), stop)
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError("standard input ('-') is not open: pipe something into it") from error


def open_raw(path: Path, *, only_regular: bool) -> io.FileIO:
    """Open a file for reading.

    Args:
        path: The file.
        only_regular: Whether a pipe or a device is refused, which may never answer or never end.

    Raises:
        OSError: It cannot be opened, or is refused.
    """
    if not only_regular:
        return io.FileIO(path)
    raw = io.FileIO(path, opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))
    if not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
        raw.close()
        raise not_regular(path)
    return raw


def open_buffered(raw: io.FileIO, stop: threading.Event) -> io.BufferedReader:
    """Buffer a file; a pipe or terminal is polled, so that `stop` ends a read that waits."""
    if os.name == "posix" and not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
        with raw:
            raw = _Pipe(os.dup(raw.fileno()), stop)
    return io.BufferedReader(raw, _PIECE)


def pieces_of(opened: io.BufferedReader) -> Iterator[bytes]:
    """Yield the content as it arrives, decompressed and as UTF-8."""
    head = opened.peek(4)[:4]
    if head == ZSTD:
        return _as_utf8(_zstd_pieces(opened))
    return _as_utf8(plain_pieces(gzip.GzipFile(fileobj=opened) if head.startswith(GZIP) else opened))


def is_encoded(head: bytes) -> bool:
    """Return whether content that begins so is compressed or UTF-16: offsets in it are not the file's.

    >>> is_encoded(b'{"a"'), is_encoded('{"a"'.encode("utf-16-be")), is_encoded(GZIP)
    (False, True, True)
    """
    return head.startswith((GZIP, ZSTD)) or _encoding(head) is not None


def _encoding(head: bytes) -> str | None:
    """Return the encoding of content, by its first bytes: a byte order mark or `{` and another character."""
    head = head[:4]
    if head[:2] in _UTF16:
        return _UTF16[head[:2]]
    if len(head) < 4 or head.count(0) != 2:
        return None
    return {b"{\0": "utf-16-le", b"\0{": "utf-16-be"}.get(head[:2]) if head[2:4] != b"\0\0" else None


def _as_utf8(pieces: Iterator[bytes]) -> Iterator[bytes]:
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= 4:
            break
    encoding = _encoding(head)
    if encoding is None:
        return chain([head] if head else [], pieces)
    return _recoded(chain([head], pieces), codecs.getincrementaldecoder(encoding)("replace"))


def _recoded(pieces: Iterator[bytes], decoder: codecs.IncrementalDecoder) -> Iterator[bytes]:
    for piece in pieces:
        if text := decoder.decode(piece).removeprefix("\ufeff"):
            yield text.encode("utf-8", "replace")


def plain_pieces(reader: io.BufferedReader | gzip.GzipFile) -> Iterator[bytes]:
    """Yield the content as it arrives."""
    while piece := reader.read1(_PIECE):
        yield piece


def _zstd_pieces(opened: io.BufferedReader) -> Iterator[bytes]:
    """Decompress frame by frame, because the package's own reader does not notice a cut file."""
    try:
        import zstandard  # type: ignore[import-not-found]
    except ImportError as error:
        raise SourceError(
            "reading a zstandard file needs the package `zstandard`: install `sttx-ccsniff[zstd]`"
        ) from error
    frame: Any = None
    while compressed := opened.read1(_ZSTD_PIECE):
        while compressed:
            frame = frame or zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
            try:
                piece = frame.decompress(compressed)
            except zstandard.ZstdError as error:
                raise OSError(str(error)) from error
            if piece:
                yield piece
            compressed = frame.unused_data
            frame = None if frame.eof else frame
    if frame is not None:
        raise EOFError("Compressed file ended before the end of its last frame")

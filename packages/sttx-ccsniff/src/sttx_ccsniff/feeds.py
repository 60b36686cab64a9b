"""What a source reads from: a feed yields traces in small batches, and can be told to stop from outside.

`FileFeed` reads one file or stream through the parser that its content asks for. Plain, gzip and zstandard
are told apart by their first bytes. Folders are walked in `folders`; watching is in `ccsniff`.
"""

import gzip
import io
import os
import select
import stat
import sys
import threading
import zlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sttx_ccsniff.formats import AutoParser
from sttx_ccsniff.lines import LineSplitter
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.errors import SourceError, UsageError
from sttx_core.traces import Trace

_PIECE = 2**20
_ZSTD_PIECE = 2**16  # compressed: what becomes of it is held at once
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_POLL_SECONDS = 0.1


@dataclass(kw_only=True)
class Shared:
    """What all feeds of one source have in common."""

    report: SourceReport
    seen: Seen = field(default_factory=Seen)
    stop: threading.Event = field(default_factory=threading.Event)
    read: set[tuple[int, int]] = field(default_factory=set)
    """Device and inode of every file read, so that none is read twice by two ways to it."""


class Feed(Protocol):
    """One thing to read from."""

    description: str

    def batches(self, shared: Shared) -> Generator[list[Trace], None, None]:
        """Yield traces in order; return soon after `shared.stop` is set."""
        ...

    def close(self) -> None:
        """Wake a `batches` that waits in another thread, and let go of everything held."""
        ...


class FileFeed:
    """One file, or `-` for standard input.

    Args:
        path: The file; None is standard input.
        lenient: A file of a folder: what is wrong with it is a warning, not an error.
    """

    def __init__(self, path: Path | None, *, lenient: bool = False) -> None:
        self._path = path
        self._lenient = lenient
        self.origin = "-" if path is None else os.path.abspath(path)
        self.description = "standard input" if path is None else f"file {self.origin}"

    def batches(self, shared: Shared) -> Generator[list[Trace], None, None]:
        """Yield the traces of each line."""
        try:
            yield from self._read(shared)
        except (OSError, EOFError, zlib.error) as error:
            problem = f"cannot read {self.origin!r}: {error}"
            if not self._lenient:
                raise SourceError(problem) from error
            shared.report.damaged("unreadable file")
            shared.report.warn(problem)

    def close(self) -> None:
        """Nothing is held: reading polls `stop`."""

    def _read(self, shared: Shared) -> Generator[list[Trace], None, None]:
        with self._open(shared.stop) as opened:
            if self._path is not None and not _first_visit(opened.fileno(), shared):
                return
            parser = AutoParser(self.origin, shared.report, shared.seen)
            splitter = LineSplitter()
            for piece in _pieces(opened):
                shared.report.bytes_read += len(piece)
                for line in splitter.feed(piece):
                    if traces := parser.feed(line):
                        yield traces
                if shared.stop.is_set():
                    return
            if traces := parser.finish(splitter.finish()):
                yield traces
            for _ in range(splitter.overlong):
                shared.report.damaged(f"line over {splitter.limit} bytes")

    def _open(self, stop: threading.Event) -> io.BufferedReader:
        if self._path is not None:
            return _buffered(io.FileIO(self._path), stop)
        try:
            return _buffered(io.FileIO(os.dup(sys.stdin.fileno())), stop)
        except (OSError, ValueError, AttributeError) as error:
            raise UsageError("standard input ('-') is not open: pipe something into it") from error


class _Pipe(io.FileIO):
    """A pipe or terminal that can be left while nobody writes to it."""

    def __init__(self, descriptor: int, stop: threading.Event) -> None:
        super().__init__(descriptor)
        self._stop = stop

    def readinto(self, buffer: Any) -> int | None:
        while not self._stop.is_set():
            if select.select([self], [], [], _POLL_SECONDS)[0]:
                return super().readinto(buffer)
        return 0


def _buffered(raw: io.FileIO, stop: threading.Event) -> io.BufferedReader:
    if os.name == "posix" and not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
        with raw:
            raw = _Pipe(os.dup(raw.fileno()), stop)
    return io.BufferedReader(raw, _PIECE)


def _first_visit(descriptor: int, shared: Shared) -> bool:
    status = os.fstat(descriptor)
    identity = (status.st_dev, status.st_ino)
    if identity in shared.read:
        shared.report.skip("file already read")
        return False
    shared.read.add(identity)
    return True


def _pieces(opened: io.BufferedReader) -> Iterator[bytes]:
    """Yield the content as it comes, decompressed."""
    head = opened.peek(4)[:4]
    if head == _ZSTD:
        yield from _zstd_pieces(opened)
        return
    reader = gzip.GzipFile(fileobj=opened) if head.startswith(_GZIP) else opened
    while piece := reader.read1(_PIECE):
        yield piece


def _zstd_pieces(opened: io.BufferedReader) -> Iterator[bytes]:
    """Decompress frame by frame: the package's own reader takes a file that was cut short for a whole one."""
    try:
        import zstandard  # type: ignore[import-not-found]
    except ImportError as error:
        raise SourceError(
            "reading a zstandard file needs the package `zstandard`: install `sttx-ccsniff[zstd]`"
        ) from error
    frame: Any = None
    while compressed := opened.read1(_ZSTD_PIECE):
        while compressed:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            try:
                yield frame.decompress(compressed)
            except zstandard.ZstdError as error:
                raise OSError(str(error)) from error
            compressed = frame.unused_data
            frame = None if frame.eof else frame
    if frame is not None:
        raise EOFError("Compressed file ended before the end of its last frame")

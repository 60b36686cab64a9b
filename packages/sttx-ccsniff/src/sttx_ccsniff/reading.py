"""One file or stream of lines, read from a place in it to its present end.

The place is a byte offset (after decompression) behind the last whole line, with that line's CRC-32 and the
file's device and inode. Whoever comes back with it is led on there if that line still stands before it: after
growth, a rename, a copy. In a file that was cut or written anew it does not, and reading starts again from
the top: records that were read before are known by their uuids. A last line without its end is read where it
is a whole JSON object, and else left for later.
"""

import gzip
import io
import os
import select
import stat
import sys
import threading
import zlib
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sttx_ccsniff.feeds import Delivery, Shared
from sttx_ccsniff.formats import AutoParser
from sttx_ccsniff.lines import LineSplitter
from sttx_ccsniff.records import decode_line
from sttx_core.errors import SourceError, UsageError
from sttx_core.traces import Trace

_PIECE = 2**20
_ZSTD_PIECE = 2**8  # compressed: what becomes of it is held at once, at most 32,768 times as much, so 8 MiB
_ZSTD_WINDOW = 2**27  # what a frame may ask for, in bytes: as much as `zstd` itself takes unasked
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_POLL_SECONDS = 0.1
_WITNESS = 1023  # bytes of a line, at most, by which it is known again
_TOGETHER = 16  # traces of one delivery, from which on it is not waited for more
_TOGETHER_BYTES = 2**16


class LinePlace(NamedTuple):
    """Where a reader stands in a file or stream of lines.

    Attributes:
        device, inode: Of the file; 0 of a stream.
        offset: Bytes, decompressed, up to the end of the last line that was read.
        length: Bytes before it that are known again: that line's with its end, its last kilobyte at most.
        crc: CRC-32 of those bytes.
        parser: What the parser knew there.
    """

    device: int
    inode: int
    offset: int
    length: int
    crc: int
    parser: Any


def line_place(value: Any) -> LinePlace | None:
    """Return a saved place as one, None if it is another feed's or none at all."""
    if isinstance(value, LinePlace):
        return value
    if isinstance(value, list) and len(value) == len(LinePlace._fields):
        numbers = value[:-1]
        if all(type(number) is int and number >= 0 for number in numbers):
            return LinePlace(*value)
    return None


class Lines:
    """Pieces of bytes become deliveries, and the place moves along.

    Args:
        origin: What is read.
        shared: Of the source.
        identity: Device and inode.
        place: Where to go on; at the top when None.
    """

    def __init__(
        self, origin: str, shared: Shared, identity: tuple[int, int] = (0, 0), place: LinePlace | None = None
    ) -> None:
        self._origin, self._shared, self._identity = origin, shared, identity
        self._parser = AutoParser(origin, shared.report, shared.seen, shared.recognised)
        self._splitter = LineSplitter()
        self._offset = 0
        self._length, self._last = 0, b""
        self._crc: int | None = 0
        self._told = 0
        self._passed_over = 0
        if place is not None:
            self._parser.restore(place.parser)
            self._offset = self._told = place.offset
            self._length, self._crc = place.length, place.crc

    def feed(self, piece: bytes) -> Generator[Delivery, None, None]:
        """Take the next piece."""
        found: list[Trace] = []
        lines = self._splitter.feed(piece)
        dropped = iter(self._splitter.dropped)
        before, gap = next(dropped, (-1, 0))
        for number, line in enumerate(lines):
            while number == before:
                self._pass_over(gap)
                before, gap = next(dropped, (-1, 0))
            self._offset += len(line) + 1
            self._mark(line)
            if line:
                traces = self._parser.feed(line)
                found += traces
                if found and (len(found) >= _TOGETHER or not self._may_wait(traces)):
                    yield self._delivery(found)
                    found = []
        while before >= 0:
            self._pass_over(gap)
            before, gap = next(dropped, (-1, 0))
        if found:
            yield self._delivery(found)

    def _may_wait(self, traces: list[Trace]) -> bool:
        """Whether the traces of a line, and those before them, may wait for more to come with them.

        Of a delivery that was taken in part the rest is known by its uids, whatever became of the file. Where
        they do not tell, a record comes alone.
        """
        known_again = self._parser.has_uuids and not any(":" in trace.meta.uid for trace in traces)
        return known_again and self._offset - self._told < _TOGETHER_BYTES

    def finish(self, *, final: bool) -> Generator[Delivery, None, None]:
        """Take the end of what there is: for good, or until it grows."""
        tail = self._splitter.finish()
        found: list[Trace] = []
        if _is_whole(tail):
            self._offset += len(tail)
            self._length, self._crc = len(tail), zlib.crc32(tail)
            found = self._parser.feed(tail)
            tail = b""
        if final:
            found += self._parser.finish(tail)
            self._shared.report.bytes_read += len(tail)
            self._count_overlong(self._splitter.overlong - self._passed_over)
        if found or (self._offset > self._told and self._parser.settled):
            yield self._delivery(found)

    def _mark(self, line: bytes) -> None:
        """Note the line that stands before the place; an empty one counts with what is before it."""
        if line:
            self._last, self._crc = line[-_WITNESS:], None
        else:
            self._settle_crc()
            self._length, self._crc = self._length + 1, zlib.crc32(b"\n", self._crc or 0)

    def _settle_crc(self) -> None:
        if self._crc is None:
            self._length = len(self._last) + 1
            self._crc = zlib.crc32(b"\n", zlib.crc32(self._last))

    def _pass_over(self, length: int) -> None:
        self._offset += length + 1
        self._length, self._crc = 0, 0
        self._passed_over += 1
        self._count_overlong(1)

    def _count_overlong(self, number: int) -> None:
        for _ in range(number):
            self._shared.report.damaged(f"line over {self._splitter.limit} bytes")

    def _delivery(self, traces: list[Trace]) -> Delivery:
        if not self._parser.settled:  # read again from before what waits; these traces are known by then
            return Delivery(self._origin, traces, self._shared.places.get(self._origin))
        self._settle_crc()
        self._shared.report.bytes_read += self._offset - self._told
        self._told = self._offset
        place = LinePlace(*self._identity, self._offset, self._length, self._crc or 0, self._parser.state())
        self._shared.places[self._origin] = place
        return Delivery(self._origin, traces, place)


def read_file(path: Path, origin: str, shared: Shared, *, final: bool) -> Generator[Delivery, None, None]:
    """Yield what a file holds after its place.

    Args:
        path: The file.
        origin: Its name in places and traces.
        shared: Of the source.
        final: It is read once: a last line that was cut short is counted now.

    Raises:
        OSError, EOFError, zlib.error: It cannot be read.
        SourceError: What it is compressed with needs a package that is not installed.
    """
    with _buffered(io.FileIO(path), shared.stop) as opened:
        status = os.fstat(opened.fileno())
        identity = (status.st_dev, status.st_ino)
        place = line_place(shared.places.get(origin))
        pieces = _from_place(opened, identity, place)
        if pieces is None:
            pieces, place = _from_top(opened), None
        yield from _read(Lines(origin, shared, identity, place), pieces, shared, final=final)


def stands_in(path: Path, place: LinePlace) -> bool:
    """Whether what stands before a place stands there in a file."""
    try:
        with open(path, "rb") as opened:
            return _from_place(opened, (place.device, place.inode), place) is not None
    except (OSError, EOFError, zlib.error, SourceError):
        return False


def first_bytes(path: Path, size: int) -> bytes:
    """Return what a file begins with, decompressed; less or nothing where it cannot be read, or only once."""
    head = b""
    if not os.path.isfile(path):
        return head
    try:
        with open(path, "rb") as opened:
            for piece in _pieces(opened):
                head += piece[: size - len(head)]
                if len(head) == size:
                    break
    except (OSError, EOFError, zlib.error, SourceError):
        pass
    return head


class StreamFeed:
    """Standard input, whose first bytes are passed over where an earlier run had them."""

    origin = "-"
    description = "standard input"

    def batches(self, shared: Shared) -> Generator[Delivery, None, None]:
        """Yield what comes, as it comes."""
        try:
            with _standard_input(shared.stop) as opened:
                place = line_place(shared.places.get(self.origin))
                pieces = _pieces(opened) if place is None else _skipped(_pieces(opened), place)
                if pieces is None:
                    raise SourceError(
                        "standard input is not what the earlier run had begun to read: give the same again, "
                        "or start anew"
                    )
                yield from _read(Lines(self.origin, shared, place=place), pieces, shared, final=True)
        except (OSError, EOFError, zlib.error) as error:
            raise SourceError(f"cannot read standard input: {error}") from error

    def close(self) -> None:
        """Nothing is held: reading polls `stop`."""


def _read(
    lines: Lines, pieces: Iterator[bytes], shared: Shared, *, final: bool
) -> Generator[Delivery, None, None]:
    for piece in pieces:
        yield from lines.feed(piece)
        if shared.stop.is_set():
            return
    yield from lines.finish(final=final)


def _is_whole(tail: bytes) -> bool:
    """Whether a line without its end is whole all the same: nothing but objects, each closed."""
    if not tail.rstrip().endswith(b"}"):
        return False
    values, problem = decode_line(tail, Counter())
    return not problem and all(isinstance(value, dict) for value in values)


def _from_place(
    opened: io.BufferedReader, identity: tuple[int, int], place: LinePlace | None
) -> Iterator[bytes] | None:
    """Return what follows a place, None if what stands before it is not what was read there."""
    if place is None:
        return _pieces(opened)
    if not place.length and place.offset and identity != (place.device, place.inode):
        return None  # the line before it was too long to be known again
    if opened.peek(4)[:4].startswith((_GZIP, _ZSTD)) or not opened.seekable():
        return _skipped(_pieces(opened), place)
    if opened.seek(0, os.SEEK_END) < place.offset:
        return None
    opened.seek(place.offset - place.length)
    return _plain(opened) if zlib.crc32(opened.read(place.length)) == place.crc else None


def _from_top(opened: io.BufferedReader) -> Iterator[bytes]:
    opened.seek(0)
    return _pieces(opened)


def _skipped(pieces: Iterator[bytes], place: LinePlace) -> Iterator[bytes] | None:
    """Read up to a place; return the pieces after it, None if another line stands there."""
    left, last = place.offset, b""
    rest = b""
    while left:
        piece = next(pieces, b"")
        if not piece:
            return None
        last = (last + piece[:left])[-place.length :] if place.length else b""
        rest = piece[left:]
        left -= min(left, len(piece))
    if zlib.crc32(last) != place.crc:
        return None
    return _after(rest, pieces)


def _after(first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from pieces


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


def _standard_input(stop: threading.Event) -> io.BufferedReader:
    try:
        return _buffered(io.FileIO(os.dup(sys.stdin.fileno())), stop)
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError("standard input ('-') is not open: pipe something into it") from error


def _buffered(raw: io.FileIO, stop: threading.Event) -> io.BufferedReader:
    if os.name == "posix" and not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
        with raw:
            raw = _Pipe(os.dup(raw.fileno()), stop)
    return io.BufferedReader(raw, _PIECE)


def _pieces(opened: io.BufferedReader) -> Iterator[bytes]:
    """Yield the content as it comes, decompressed."""
    head = opened.peek(4)[:4]
    if head == _ZSTD:
        return _zstd_pieces(opened)
    return _plain(gzip.GzipFile(fileobj=opened) if head.startswith(_GZIP) else opened)


def _plain(reader: io.BufferedReader | gzip.GzipFile) -> Iterator[bytes]:
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

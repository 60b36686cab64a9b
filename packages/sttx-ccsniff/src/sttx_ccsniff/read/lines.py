"""Reads one file or stream of lines from a place in it to its current end.

A place is the byte offset (after decompression) of the end of the last whole line, with that line's CRC-32
and the file's device and inode. Reading resumes at this offset if the preceding line still matches its CRC,
as it does after the file grew, was renamed or copied. If the file was truncated or rewritten, the CRC does
not match, and reading starts from the top; records that were read before are recognized by their uuids. A
last line without a line end is read if it is a whole JSON object, and otherwise left for a later run.
"""

import io
import os
import zlib
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sttx_ccsniff.feeds import Delivery, Shared
from sttx_ccsniff.parse.records import decode_line
from sttx_ccsniff.read.formats import AutoParser
from sttx_ccsniff.read.open import (
    is_encoded,
    open_buffered,
    open_raw,
    pieces_from_top,
    pieces_of,
    plain_pieces,
    standard_input,
)
from sttx_ccsniff.read.splitter import LineSplitter
from sttx_core.errors import SourceError
from sttx_core.foreign_files import open_regular
from sttx_core.os_errors import explain
from sttx_core.traces import Trace

_CRC_BYTES = 1023  # the CRC of a line covers at most this many of its last bytes
_MOST_BYTES = 2**53
_LARGEST_ID = 2**128  # of a device or an inode
_ENOUGH_TRACES = 16  # a delivery with this many traces is not extended
_ENOUGH_BYTES = 2**16  # nor one with this many bytes


class LinePlace(NamedTuple):
    """A position in a file or stream of lines.

    Attributes:
        device, inode: Of the file; 0 for a stream.
        offset: Decompressed bytes up to the end of the last line that was read.
        length: Number of bytes before `offset` that `crc` covers: that line with its end, at most 1 KiB.
        crc: CRC-32 of those bytes.
        parser: State of the parser at `offset`.
    """

    device: int
    inode: int
    offset: int
    length: int
    crc: int
    parser: Any


def line_place(value: Any) -> LinePlace | None:
    """Return a saved place as a `LinePlace`; None if it is another feed's place or missing."""
    if isinstance(value, LinePlace):
        return value
    if isinstance(value, list) and len(value) == len(LinePlace._fields):
        place = LinePlace(*value)
        numbers = all(type(number) is int and 0 <= number < _LARGEST_ID for number in value[:-1])
        if numbers and place.length <= place.offset <= _MOST_BYTES and place.crc < 2**32:
            return place
    return None


class Lines:
    """Turns pieces of bytes into deliveries, and keeps the place up to date.

    Args:
        origin: Name of the file or stream.
        shared: What the feeds of the source share.
        identity: Device and inode of the file.
        place: Where the pieces start; at the top if None.
    """

    def __init__(
        self, origin: str, shared: Shared, identity: tuple[int, int] = (0, 0), place: LinePlace | None = None
    ) -> None:
        self._origin, self._shared, self._identity = origin, shared, identity
        self._parser = AutoParser(origin, shared.report, shared.seen, shared.recognized)
        self._splitter = LineSplitter()
        self._offset = 0
        self._length, self._last = 0, b""
        self._crc: int | None = 0
        self._delivered = 0
        self._passed_over = 0
        if place is not None:
            self._parser.load_state_dict(place.parser)
            self._offset = self._delivered = place.offset
            self._length, self._crc = place.length, place.crc

    def feed(self, piece: bytes) -> Generator[Delivery, None, None]:
        """Read the next piece; yield its deliveries."""
        traces: list[Trace] = []
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
                of_line = self._parser.feed(line)
                traces += of_line
                if traces and (len(traces) >= _ENOUGH_TRACES or not self._may_wait(of_line)):
                    yield self._delivery(traces)
                    traces = []
        while before >= 0:
            self._pass_over(gap)
            before, gap = next(dropped, (-1, 0))
        if traces:
            yield self._delivery(traces)

    def _may_wait(self, traces: list[Trace]) -> bool:
        """Return whether a delivery that ends with these traces may be extended by further lines.

        If a delivery was taken in part, uuids identify its remaining traces even if the file has changed.
        Traces without uuids cannot be identified so, and each of their records is a delivery of its own.
        """
        identified = self._parser.has_uuids and not any(":" in trace.meta.uid for trace in traces)
        return identified and self._offset - self._delivered < _ENOUGH_BYTES

    def finish(self, *, final: bool) -> Generator[Delivery, None, None]:
        """Read the rest at the current end; yield its deliveries.

        Args:
            final: Whether the file will not be read again, so that an unfinished last line is counted now.
        """
        tail = self._splitter.finish()
        traces: list[Trace] = []
        if _is_whole(tail):
            self._offset += len(tail)
            self._length, self._crc = len(tail), zlib.crc32(tail)
            traces = self._parser.feed(tail)
            tail = b""
        if final:
            traces += self._parser.finish(tail)
            self._shared.report.bytes_read += len(tail)
            self._count_overlong(self._splitter.overlong - self._passed_over)
        if traces or (self._offset > self._delivered and self._parser.settled):
            yield self._delivery(traces)

    def _mark(self, line: bytes) -> None:
        """Record the line before the place; an empty line is added to the line before it."""
        if line:
            self._last, self._crc = line[-_CRC_BYTES:], None
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
        if not self._parser.settled:  # a later run reads the waiting lines again and drops these traces
            return Delivery(self._origin, traces, self._shared.places.get(self._origin))
        self._settle_crc()
        self._shared.report.bytes_read += self._offset - self._delivered
        self._delivered = self._offset
        place = LinePlace(
            *self._identity, self._offset, self._length, self._crc or 0, self._parser.state_dict()
        )
        self._shared.places[self._origin] = place
        return Delivery(self._origin, traces, place)


def read_file(
    path: Path, origin: str, shared: Shared, *, final: bool, only_regular: bool = False
) -> Generator[Delivery, None, None]:
    """Yield the deliveries of a file after its saved place.

    Args:
        path: The file.
        origin: Its name in places and traces.
        shared: What the feeds of the source share.
        final: Whether the file is read only once, so that an unfinished last line is counted now.
        only_regular: Whether a pipe or a device is refused.

    Raises:
        OSError, EOFError, zlib.error: The file cannot be read.
        SourceError: Its compression needs a package that is not installed.
    """
    with open_buffered(open_raw(path, only_regular=only_regular), shared.stop) as opened:
        status = os.fstat(opened.fileno())
        identity = (status.st_dev, status.st_ino)
        place = line_place(shared.places.get(origin))
        pieces = _from_place(opened, identity, place)
        if pieces is None:
            pieces, place = pieces_from_top(opened), None
        yield from _read(Lines(origin, shared, identity, place), pieces, shared, final=final)


def matches_checkpoint(path: Path, place: LinePlace) -> bool:
    """Return whether the bytes of a file before a place match the place's CRC."""
    try:
        with open_regular(path) as opened:
            return _from_place(opened, (place.device, place.inode), place) is not None
    except (OSError, EOFError, zlib.error, SourceError):
        return False


class StreamFeed:
    """The feed of standard input. Bytes that an earlier run read are skipped."""

    origin = "-"
    description = "standard input"

    def batches(self, shared: Shared) -> Generator[Delivery, None, None]:
        """Yield deliveries as data arrives."""
        try:
            with standard_input(shared.stop) as opened:
                place = line_place(shared.places.get(self.origin))
                pieces = pieces_of(opened) if place is None else _skipped(pieces_of(opened), place)
                if pieces is None:
                    raise SourceError(
                        "standard input differs from what the earlier run read: pass the same data again, "
                        "or start from the beginning"
                    )
                yield from _read(Lines(self.origin, shared, place=place), pieces, shared, final=True)
        except (OSError, EOFError, zlib.error) as error:
            raise SourceError(f"cannot read standard input: {explain(error)}") from error

    def close(self) -> None:
        """Do nothing: reading polls `stop`, and nothing stays open."""


def _read(
    lines: Lines, pieces: Iterator[bytes], shared: Shared, *, final: bool
) -> Generator[Delivery, None, None]:
    for piece in pieces:
        yield from lines.feed(piece)
        if shared.stop.is_set():
            return
    yield from lines.finish(final=final)


def _is_whole(tail: bytes) -> bool:
    """Return whether a line without a line end is whole: only JSON objects or arrays, each closed."""
    if not tail.rstrip().endswith((b"}", b"]")):
        return False
    values, problem = decode_line(tail, Counter())
    return not problem and all(isinstance(value, (dict, list)) for value in values)


def _from_place(
    opened: io.BufferedReader, identity: tuple[int, int], place: LinePlace | None
) -> Iterator[bytes] | None:
    """Return the pieces after a place; None if the bytes before it do not match its CRC."""
    if place is None:
        return pieces_of(opened)
    if not place.length and place.offset and identity != (place.device, place.inode):
        return None  # the line before the place was too long, so it has no CRC
    if is_encoded(opened.peek(4)[:4]) or not opened.seekable():
        return _skipped(pieces_of(opened), place)
    if opened.seek(0, os.SEEK_END) < place.offset:
        return None
    opened.seek(place.offset - place.length)
    return plain_pieces(opened) if zlib.crc32(opened.read(place.length)) == place.crc else None


def _skipped(pieces: Iterator[bytes], place: LinePlace) -> Iterator[bytes] | None:
    """Read up to a place; return the pieces after it, or None if the bytes before it do not match."""
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

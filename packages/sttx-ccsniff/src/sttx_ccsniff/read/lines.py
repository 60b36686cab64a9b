"""One file or stream of lines, read from a place in it to its present end.

The place is a byte offset (after decompression) behind the last whole line, with that line's CRC-32 and the
file's device and inode. Whoever comes back with it is led on there if that line still stands before it: after
growth, a rename, a copy. In a file that was cut or written anew it does not, and reading starts again from
the top: records that were read before are known by their uuids. A last line without its end is read where it
is a whole JSON object, and else left for later.
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
    GZIP,
    ZSTD,
    open_buffered,
    pieces_from_top,
    pieces_of,
    plain_pieces,
    standard_input,
)
from sttx_ccsniff.read.splitter import LineSplitter
from sttx_core.errors import SourceError
from sttx_core.traces import Trace

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
            self._parser.load_state_dict(place.parser)
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
        place = LinePlace(
            *self._identity, self._offset, self._length, self._crc or 0, self._parser.state_dict()
        )
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
    with open_buffered(io.FileIO(path), shared.stop) as opened:
        status = os.fstat(opened.fileno())
        identity = (status.st_dev, status.st_ino)
        place = line_place(shared.places.get(origin))
        pieces = _from_place(opened, identity, place)
        if pieces is None:
            pieces, place = pieces_from_top(opened), None
        yield from _read(Lines(origin, shared, identity, place), pieces, shared, final=final)


def matches_checkpoint(path: Path, place: LinePlace) -> bool:
    """Whether what stands before a place stands there in a file."""
    try:
        with open(path, "rb") as opened:
            return _from_place(opened, (place.device, place.inode), place) is not None
    except (OSError, EOFError, zlib.error, SourceError):
        return False


class StreamFeed:
    """Standard input, whose first bytes are passed over where an earlier run had them."""

    origin = "-"
    description = "standard input"

    def batches(self, shared: Shared) -> Generator[Delivery, None, None]:
        """Yield what comes, as it comes."""
        try:
            with standard_input(shared.stop) as opened:
                place = line_place(shared.places.get(self.origin))
                pieces = pieces_of(opened) if place is None else _skipped(pieces_of(opened), place)
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
        return pieces_of(opened)
    if not place.length and place.offset and identity != (place.device, place.inode):
        return None  # the line before it was too long to be known again
    if opened.peek(4)[:4].startswith((GZIP, ZSTD)) or not opened.seekable():
        return _skipped(pieces_of(opened), place)
    if opened.seek(0, os.SEEK_END) < place.offset:
        return None
    opened.seek(place.offset - place.length)
    return plain_pieces(opened) if zlib.crc32(opened.read(place.length)) == place.crc else None


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

"""Turns the shim's frames into deliveries: same lines, parser and places as reading the files directly.

A run that started with `live` can therefore continue with `claude`, and the other way round. This file does
not know the process that prints the frames.
"""

import json
import os
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO, Any

from sttx_ccsniff.feeds import Delivery, Shared
from sttx_ccsniff.follow.feed import file_identity
from sttx_ccsniff.follow.folders import session_files
from sttx_ccsniff.follow.session_end import EndDetector
from sttx_ccsniff.follow.time_order import in_time_order
from sttx_ccsniff.read.lines import Lines, line_place
from sttx_core.errors import SourceError
from sttx_core.os_errors import error_in_output, explain

_HEADER = re.compile(rb"([A-Z]) (\d+) (\d+)\n")
_MAX_HEADER = 64

Frame = tuple[bytes, int, bytes]
"""Letter, offset, payload: the letters are listed at the top of `shim.mjs`."""


def read_frames(stream: IO[bytes]) -> Iterator[Frame]:
    r"""Yield the shim's frames; an incomplete last frame is dropped.

    Raises:
        SourceError: The stream holds something that is not a frame.

    >>> import io
    >>> list(read_frames(io.BytesIO(b'D 2 6\n{"a"}\n\n')))
    [(b'D', 2, b'{"a"}\n')]
    """
    while header := stream.readline(_MAX_HEADER):
        match = _HEADER.fullmatch(header)
        if not match:
            raise SourceError(
                f"ccsniff's watcher printed {header!r}, which is not a frame: "
                "use `claude`, which needs no Node"
            )
        length = int(match[3])
        payload = stream.read(length + 1)
        if len(payload) <= length:
            return
        yield match[1], int(match[2]), payload[:-1]


def places_line(folder: Path, shared: Shared) -> bytes:
    """Return the shim's first input line: every file in the order to read them, each with its place."""
    paths = [path for path in session_files(folder) if path.suffix == ".jsonl" and os.path.isfile(path)]
    files = list(map(str, in_time_order(paths)))
    existing = set(files)
    gone = [name for name in shared.places if name not in existing and Path(name).is_relative_to(folder)]
    entries: list[list[Any]] = []
    for name in files + [name for name in gone if name.endswith(".jsonl")]:
        place = line_place(shared.places.get(name))
        if place is None:
            entries.append([name, 0, 0, 0, "0", "0"])
        else:
            identity = [str(place.device), str(place.inode)]
            entries.append([name, place.offset, place.length, place.crc, *identity])
    return json.dumps(entries).encode() + b"\n"


class OffsetMismatch(Exception):
    """The shim's offset in a file is not ours: restart the shim."""


class FrameReader:
    """Turns frames into deliveries, in the order in which they arrive.

    Args:
        shared: State of the source.
        ends: Learns which documents are active.
        follow: Files may still grow; otherwise what follows the last line end is complete.
    """

    def __init__(self, shared: Shared, ends: EndDetector, *, follow: bool) -> None:
        self._shared, self._ends, self._follow = shared, ends, follow
        self._waiting: dict[str, tuple[Lines, int]] = {}  # files whose place does not hold their whole state
        self._origin = ""
        self._modified = 0.0
        self._lines: Lines | None = None
        self._offset = 0
        self._mid_line = False
        self._history_read = False  # silence means nothing before that

    def deliveries(self, letter: bytes, offset: int, payload: bytes) -> Generator[Delivery, None, None]:
        """Yield what one frame delivers."""
        match letter:
            case b"F":
                yield from self._start_file(json.loads(payload))
            case b"D" | b"T" | b"E" if (lines := self._lines) is not None:
                new = self._end(lines) if letter == b"E" else self._data(lines, letter, offset, payload)
                for delivery in new:
                    self._ends.observe(delivery.traces, self._modified)
                    yield delivery
            case b"G":
                origin = payload.decode()
                self._waiting.pop(origin, None)
                if self._shared.places.pop(origin, None) is not None:
                    yield Delivery(origin, [], None)
            case b"U":
                self._unreadable(**json.loads(payload))
            case b"I":
                self._history_read = True
            case b"H" if self._history_read and self._follow:
                yield from self._ends.deliveries(self._shared)
            case _:
                pass

    def _unreadable(self, path: str, message: str) -> None:
        error = error_in_output(message)
        reason = message if error is None else explain(error)
        self._shared.report.damaged("unreadable file")
        self._shared.report.warn(f"cannot read {path!r}: {reason}")

    def _start_file(self, file: dict[str, Any]) -> Generator[Delivery, None, None]:
        """Open a file at its place, or at its start if its content was replaced."""
        origin: str = file["path"]
        shared = self._shared
        identity = (int(file["device"]), int(file["inode"]))
        self._origin, self._modified, self._mid_line, self._lines = origin, file["changed"], False, None
        yield from self._rename(file["was"], origin)
        owner = shared.files.get(identity, origin)
        if owner != origin and file_identity(owner) == identity:
            return  # another feed reads the file by that path
        shared.files[identity] = origin
        if file["fresh"]:
            shared.places.pop(origin, None)
            self._waiting.pop(origin, None)
        place = line_place(shared.places.get(origin))
        if place and (place.device, place.inode) != identity:  # the same content in another inode
            place = place._replace(device=identity[0], inode=identity[1])
            shared.places[origin] = place
            yield Delivery(origin, [], place)
        self._lines, self._offset = self._waiting.pop(origin, None) or (
            Lines(origin, shared, identity, place),
            place.offset if place else 0,
        )

    def _rename(self, old: str, new: str) -> Iterator[Delivery]:
        """Move the place of a renamed file to its new name."""
        shared = self._shared
        if old in shared.places:
            place = shared.places[new] = shared.places.pop(old)
            yield Delivery(new, [], place)
            yield Delivery(old, [], None)

    def _data(
        self, lines: Lines, letter: bytes, offset: int, payload: bytes
    ) -> Generator[Delivery, None, None]:
        """Read bytes of the file; the first of them may be known already, as an incomplete last line."""
        if offset > self._offset:
            raise OffsetMismatch(
                f"{self._origin!r} was sent from byte {offset}, but read up to {self._offset}"
            )
        new = payload[self._offset - offset :]
        if letter == b"D":
            self._offset += len(new)
            self._mid_line = not payload.endswith(b"\n")
        elif self._follow and offset and self._origin not in self._shared.places:
            return  # the file's format is not known yet: wait for the rest of the line
        yield from lines.feed(new)

    def _end(self, lines: Lines) -> Generator[Delivery, None, None]:
        """Finish a file for now; keep in memory only what its place cannot hold."""
        if not self._follow or not self._mid_line:
            yield from lines.finish(final=not self._follow)
        place = line_place(self._shared.places.get(self._origin))
        self._lines = None
        if self._offset and self._follow and (place is None or place.offset < self._offset):
            self._waiting[self._origin] = (lines, self._offset)

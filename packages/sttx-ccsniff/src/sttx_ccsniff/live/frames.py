"""What the shim prints becomes deliveries: the same lines, parser and places as reading the files gives.

So a run that was begun with `live` can be gone on with by `claude`, and the other way round. Knows nothing
of the process that prints.
"""

import json
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO, Any

from sttx_ccsniff.feeds import Delivery, Shared
from sttx_ccsniff.follow.feed import file_identity
from sttx_ccsniff.follow.folders import in_time_order, session_files
from sttx_ccsniff.follow.session_end import Ends
from sttx_ccsniff.read.lines import Lines, line_place
from sttx_core.errors import SourceError

_HEAD = re.compile(rb"([A-Z]) (\d+) (\d+)\n")
_LONGEST_HEAD = 64

Frame = tuple[bytes, int, bytes]


def frames(stream: IO[bytes]) -> Iterator[Frame]:
    r"""Read the shim's frames: letter, offset, payload; one that is cut short is none.

    >>> import io
    >>> list(frames(io.BytesIO(b'D 2 6\n{"a"}\n\n')))
    [(b'D', 2, b'{"a"}\n')]
    """
    while head := stream.readline(_LONGEST_HEAD):
        found = _HEAD.fullmatch(head)
        if not found:
            raise SourceError(
                f"ccsniff's watcher printed {head!r}, which is no frame: use `claude`, which needs no Node"
            )
        length = int(found[3])
        payload = stream.read(length + 1)
        if len(payload) <= length:
            return
        yield found[1], int(found[2]), payload[:-1]


def history(folder: Path, shared: Shared) -> bytes:
    """Return what the shim is told first: the files in the order to read them, each with its place."""
    found = [path for path in session_files(folder) if path.suffix == ".jsonl" and path.is_file()]
    files = list(map(str, in_time_order(found)))
    there = set(files)
    gone = [name for name in shared.places if name not in there and Path(name).is_relative_to(folder)]
    entries: list[list[Any]] = []
    for name in files + [name for name in gone if name.endswith(".jsonl")]:
        place = line_place(shared.places.get(name))
        if place is None:
            entries.append([name, 0, 0, 0, "0", "0"])
        else:
            identity = [str(place.device), str(place.inode)]
            entries.append([name, place.offset, place.length, place.crc, *identity])
    return json.dumps(entries).encode() + b"\n"


class OutOfStep(Exception):
    """The shim and we do not agree on where a file stands; it should be started anew."""


class Incoming:
    """Takes frames about files in the order in which they come.

    Args:
        shared: Of the source.
        ends: Told who spoke.
        follow: Files may grow yet; else what stands after a last line end is all there will be.
    """

    def __init__(self, shared: Shared, ends: Ends, *, follow: bool) -> None:
        self._shared, self._ends, self._follow = shared, ends, follow
        self._waiting: dict[str, tuple[Lines, int]] = {}  # whose place does not say all yet
        self._origin = ""
        self._changed = 0.0
        self._lines: Lines | None = None
        self._at = 0
        self._mid_line = False
        self._history_read = False  # until then nobody's silence means anything

    def take(self, letter: bytes, offset: int, payload: bytes) -> Generator[Delivery, None, None]:
        """Take one frame."""
        match letter:
            case b"F":
                yield from self._begin(json.loads(payload))
            case b"D" | b"T" | b"E" if (lines := self._lines) is not None:
                told = self._end(lines) if letter == b"E" else self._data(lines, letter, offset, payload)
                for delivery in told:
                    self._ends.heard(delivery.traces, self._changed)
                    yield delivery
            case b"G":
                origin = payload.decode()
                self._waiting.pop(origin, None)
                if self._shared.places.pop(origin, None) is not None:
                    yield Delivery(origin, [], None)
            case b"U":
                said = json.loads(payload)
                self._shared.report.damaged("unreadable file")
                self._shared.report.warn(f"cannot read {said['path']!r}: {said['message']}")
            case b"I":
                self._history_read = True
            case b"H" if self._history_read and self._follow:
                yield from self._ends.deliveries(self._shared)
            case _:
                pass

    def _begin(self, said: dict[str, Any]) -> Generator[Delivery, None, None]:
        """Open a file, at its place or, where another content has come into it, at its top."""
        origin: str = said["path"]
        shared = self._shared
        identity = (int(said["device"]), int(said["inode"]))
        self._origin, self._changed, self._mid_line, self._lines = origin, said["changed"], False, None
        yield from self._renamed(said["was"], origin)
        owner = shared.files.get(identity, origin)
        if owner != origin and file_identity(owner) == identity:
            return  # another feed reads it by that way
        shared.files[identity] = origin
        if said["fresh"]:
            shared.places.pop(origin, None)
            self._waiting.pop(origin, None)
        place = line_place(shared.places.get(origin))
        if place and (place.device, place.inode) != identity:  # the same content, in another file
            place = place._replace(device=identity[0], inode=identity[1])
            shared.places[origin] = place
            yield Delivery(origin, [], place)
        self._lines, self._at = self._waiting.pop(origin, None) or (
            Lines(origin, shared, identity, place),
            place.offset if place else 0,
        )

    def _renamed(self, was: str, origin: str) -> Iterator[Delivery]:
        """Let what is known of a file follow it to its new name."""
        shared = self._shared
        if was in shared.places:
            place = shared.places[origin] = shared.places.pop(was)
            yield Delivery(origin, [], place)
            yield Delivery(was, [], None)

    def _data(
        self, lines: Lines, letter: bytes, offset: int, payload: bytes
    ) -> Generator[Delivery, None, None]:
        """Take bytes of the file, of which some may have been read already: a last line without its end."""
        if offset > self._at:
            raise OutOfStep(f"{self._origin!r} was sent from byte {offset} on, where {self._at} were read")
        new = payload[self._at - offset :]
        if letter == b"D":
            self._at += len(new)
            self._mid_line = not payload.endswith(b"\n")
        elif self._follow and offset and self._origin not in self._shared.places:
            return  # nobody knows yet what kind of file this is: the rest of the line will tell
        yield from lines.feed(new)

    def _end(self, lines: Lines) -> Generator[Delivery, None, None]:
        """Take the end of what there is for now; keep in memory only what a place cannot say."""
        if not self._follow or not self._mid_line:
            yield from lines.finish(final=not self._follow)
        place = line_place(self._shared.places.get(self._origin))
        self._lines = None
        if self._at and self._follow and (place is None or place.offset < self._at):
            self._waiting[self._origin] = (lines, self._at)

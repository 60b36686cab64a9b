"""Writes archives: cuts files into blocks, codes them, and continues after an interrupted writer.

Files stand one after another in a segment, which remembers all of them, until it would exceed its size. So
one file is read by decoding at most one segment before it, and damage costs at most a segment. What follows
each other in a segment is coded side by side, in batches, if a network takes part.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, cast

from sttx_core.errors import DataError, UsageError
from sttx_core.experts import CoderName
from sttx_core.foreign_files import open_regular
from sttx_core.own_files import PRIVATE_FILE, open_own
from sttx_train.coding.archive import Archive
from sttx_train.coding.batch import Batch
from sttx_train.coding.codec import Codec, new_codec
from sttx_train.coding.container import (
    BLOCK,
    BLOCK_BYTES,
    FILE,
    MOST_STORED,
    STORED,
    Entry,
    write_entry,
    write_header,
    write_index,
    write_record,
)
from sttx_train.coding.forms import Form, encoder_of, form_of, scaled
from sttx_train.coding.locking import only_writer
from sttx_train.coding.method import Method
from sttx_train.coding.priming import decide_primer, read_part
from sttx_train.coding.target import CompressConfig, Member, check_name, check_out, check_target, in_bytes


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """What was written.

    Attributes:
        bytes_in: bytes of the files.
        bytes_out: bytes of the archive.
        files: number of files in it.
        method: its method.
        profile: its numeric profile.
    """

    bytes_in: int
    bytes_out: int
    files: int
    method: str
    profile: str


def compress(
    members: Iterable[Member],
    out: Path | BinaryIO,
    config: CompressConfig | None = None,
    *,
    method: Method | None = None,
    stdin: BinaryIO | None = None,
    resume: bool = False,
    advance: Callable[[int], object] = lambda _: None,
    save_learned: Path | None = None,
) -> Compressed:
    """Write an archive of files; each is readable as soon as it is written, also if the process then ends.

    Args:
        members: the files, in the order in which they are compressed.
        out: the archive, a new file that only its owner may read; or a stream.
        config: how it is written.
        method: what predicts; `method_of` returns it. By default the experts alone.
        stdin: what a member without a path is read from.
        resume: ``out`` exists: add the files that it lacks, after those it has. Its method must be this one.
        advance: called with the number of bytes of files as they are done.
        save_learned: where to keep what the network learned in the last segment, a new folder.

    Raises:
        UsageError: ``out`` exists, or with ``resume`` does not; or two files have one name, or a file that
            the archive has is another one now; or ``save_learned`` exists, or nothing learns.
        DataError: the archive that is resumed is damaged.
        OSError: a file cannot be read or written.
    """
    config, members, method = config or CompressConfig(), list(members), method or Method()
    check_target(out, method, members, config, resume=resume, save_learned=save_learned)
    if resume and method.primed is None:
        method = replace(method, primed=_is_primed(cast(Path, out)))
    method, stdin = decide_primer(method, members, stdin)
    codec = new_codec(in_bytes(method, members, config), cast(CoderName, config.coder))
    if not isinstance(out, Path):
        done = _started(out, codec, config).write_all(members, stdin, advance)
    else:
        with _opened(out, resume) as file:
            writer = _resumed(file, out, codec, config) if resume else _started(file, codec, config)
            done = writer.write_all(members, stdin, advance)
            file.flush()
            os.fsync(file.fileno())
    if save_learned is not None:
        codec.save_learned(save_learned)
    return done


def _is_primed(path: Path) -> bool:
    """Return whether the experts of an archive read the primer."""
    with Archive(path) as archive:
        return archive.header.get("primer") is not None


def _started(file: BinaryIO, codec: Codec, config: CompressConfig) -> "_Writer":
    """Return a writer that has written the start of an archive."""
    writer = _Writer(file, codec, config.segment_mb)
    file.write(start := write_header(codec.header))
    writer.position = len(start)
    return writer


@contextmanager
def _opened(out: Path, resume: bool) -> Iterator[BinaryIO]:
    """Open the archive, and keep other writers away."""
    check_out(out, resume=resume)
    flags = os.O_RDWR | getattr(os, "O_BINARY", 0) | (0 if resume else os.O_CREAT | os.O_EXCL)
    with os.fdopen(open_own(out, flags, PRIVATE_FILE), "r+b") as file, only_writer(file, out):
        yield file


def _resumed(file: BinaryIO, out: Path, codec: Codec, config: CompressConfig) -> "_Writer":
    """Return a writer that goes on after the last file in an archive; what follows that is cut off."""
    with Archive(out) as archive:
        _check_like(archive.header, codec.header, out)
        damage = archive.first_damage()
        if damage is not None and damage < archive.end:
            raise DataError(
                f"cannot continue {str(out)!r}: it is damaged at byte {damage:,}; decompress what is left of "
                "it, and make a new archive"
            )
        writer = _Writer(file, codec, config.segment_mb)
        writer.go_on(archive)
        if codec.method.learns and writer.segments and not writer.catch_up(archive):
            raise DataError(f"cannot continue {str(out)!r}: its last segment is damaged; make a new archive")
    file.truncate(writer.position)
    file.seek(writer.position)
    return writer


def _check_like(header: Mapping[str, Any], wanted: Mapping[str, Any], out: Path) -> None:
    """Check that an archive was written with the options that are to continue it.

    Raises:
        UsageError: it was not.
    """
    for name, value in wanted.items():
        if (found := header.get(name)) != value:
            what, found, value = _difference(name, found, value)
            raise UsageError(
                f"{str(out)!r} was written with {what} {found!r}, and these options mean {value!r}: give the "
                "same options, model and checkpoint, for percentages the same files, or make a new archive"
            )


def _difference(name: str, found: Any, value: Any) -> tuple[str, Any, Any]:
    """Return the name and both values of what differs, which may be inside."""
    if isinstance(found, dict) and isinstance(value, dict):
        for inner in value:
            if found.get(inner) != value[inner]:
                return _difference(f"{name} {inner}", found.get(inner), value[inner])
    return name, found, value


class _Writer:
    """Appends files to an archive.

    Attributes:
        entries: of the files so far.
        segments: where each starts.
        position: bytes so far.
        finished: whether nothing was written since the last index.
    """

    def __init__(self, file: BinaryIO, codec: Codec, segment_mb: float) -> None:
        self._file, self._codec, self._most = file, codec, int(segment_mb * 1e6)
        self.entries: list[Entry] = []
        self._number = 0  # of the next file
        self.segments: dict[int, int] = {}
        self.position = 0
        self.finished = False
        # Nothing is remembered of another writer's segment, unless a network learned in it.
        self._segment, self._in_segment = -1, -1
        self._starts = False
        self._batch = Batch(codec.batch_bytes)
        self._coded = 0  # bytes of text so far
        self._read: list[Entry] = []  # files that end in them

    def go_on(self, archive: Archive) -> None:
        """Continue after the last file of an archive."""
        self.position, self.finished = archive.end, archive.is_finished
        self.entries = list(archive.entries)
        self.segments = {number: at for number, at in archive.segments.items() if at < archive.end}
        self._segment = max(self.segments, default=-1)
        self._number = len(self.entries)

    def catch_up(self, archive: Archive) -> bool:
        """Go on in the last segment, with all that was learned in it; return False if it is damaged."""
        done = archive.catch_up(self._segment, self._codec)
        self._in_segment = self._codec.size
        # Blocks of a file that was not finished stay there, unused.
        self._number = max(self._number, self._codec.last_file + 1)
        return done

    def write_all(
        self, members: Iterable[Member], stdin: BinaryIO | None, advance: Callable[[int], object]
    ) -> Compressed:
        """Write the files that the archive lacks, and an index."""
        kept = {entry.path: entry for entry in self.entries}
        names: set[str] = set()
        for member in members:
            check_name(member.name, names)
            if member.name in kept:
                _check_same(kept[member.name], member, advance)
            else:
                self._take(member, stdin, advance)
                if not self._codec.method.networks:  # nothing is coded side by side: each file is written
                    self._flush(advance)
        self._flush(advance)
        if not self.finished:
            self._append(write_index(self.entries, self.segments, self.position))
        return Compressed(
            bytes_in=sum(entry.size for entry in self.entries),
            bytes_out=self.position,
            files=len(self.entries),
            method=self._codec.header["method"],
            profile=self._codec.header["profile"],
        )

    def _append(self, record: bytes) -> None:
        self._file.write(record)
        self.position += len(record)

    def _take(self, member: Member, stdin: BinaryIO | None, advance: Callable[[int], object]) -> None:
        """Read a file into batches; they are written as they become full."""
        self.finished = False
        number, size, digest, first, coded = self._number, 0, sha256(), -1, self._coded
        form: Form = "bytes"
        encoder = encoder_of(form)
        with _reading(member, stdin) as file:
            found = os.fstat(file.fileno()) if member.path else None
            while data := read_part(file, min(BLOCK_BYTES, self._codec.batch_bytes)):
                if not size:
                    form = form_of(data)
                    encoder = encoder_of(form)
                self._begin(len(data) if size or found is None else found.st_size, advance)
                first = self._segment if first < 0 else first
                self._in_segment += len(data)
                self._batch.represents += len(data)
                self._add(number, *encoder.feed(data), advance)
                digest.update(data)
                size += len(data)
            if size:
                self._add(number, *encoder.finish(), advance)
        entry = Entry(
            path=member.name,
            size=size,
            sha256=digest.hexdigest(),
            mode=stat.S_IMODE(found.st_mode) if found else PRIVATE_FILE,
            modified=found.st_mtime if found else 0.0,
            number=number,
            segments=(first, self._segment if size else -1),
            form=form,
            coded=self._coded - coded,
        )
        self._number += 1
        self.entries.append(entry)
        self._read.append(entry)

    def _add(self, number: int, text: bytes, stored: bytes, advance: Callable[[int], object]) -> None:
        """Add text and stored bytes of a file; what is full is written."""
        self._coded += len(text)
        self._batch.store(number, stored)
        while text:
            text = self._batch.add(number, text)
            if self._batch.is_full:
                self._flush(advance)

    def _begin(self, coming: int, advance: Callable[[int], object]) -> None:
        """Start a segment before a part of a file if there is none, or it is full.

        Args:
            coming: bytes that should stand in one segment: a part, or at its start a whole file.
            advance: as in `compress`.
        """
        if self._in_segment < 0 or (self._in_segment and self._in_segment + coming > self._most):
            self._flush(advance)
            self._segment += not self._starts  # nothing may have been written in it, of a long line
            self._in_segment = 0
            self._starts = True

    def _flush(self, advance: Callable[[int], object]) -> None:
        """Write the batch, and the entries of the files that end in it."""
        batch, self._batch = self._batch, Batch(self._codec.batch_bytes)
        if batch.parts:
            if self._starts:
                self.segments[self._segment] = self.position
                self._codec.start_segment()
                self._starts = False
            for number, stored in batch.stored.items():
                self._write_stored(number, stored)
            blocks = self._codec.cut([(file, bytes(text)) for file, text in batch.parts])
            coded = self._codec.encode(blocks, scaled(advance, batch.represents / batch.size))
            for left, ((file, data), (tokens, payload)) in zip(
                reversed(range(len(blocks))), zip(blocks, coded, strict=True), strict=True
            ):
                place = {"segment": self._segment, "file": file, "more": left, "tokens": tokens}
                self._append(write_record(BLOCK, payload, data, **place))
        for entry in self._read:
            self._append(write_record(FILE, write_entry(entry), file=entry.number))
        self._read = []
        self._file.flush()

    def _write_stored(self, number: int, stored: bytearray) -> None:
        """Write the stored bytes of a file that the batch refers to."""
        for start in range(0, len(stored), MOST_STORED):
            payload = bytes(stored[start : start + MOST_STORED])
            self._append(write_record(STORED, payload, segment=self._segment, file=number))


def _check_same(entry: Entry, member: Member, advance: Callable[[int], object]) -> None:
    """Check that a file which the archive has already is still what it was."""
    digest = sha256()
    if member.path:
        with open_regular(member.path) as file:
            while data := file.read(BLOCK_BYTES):
                digest.update(data)
                advance(len(data))
    if not member.path or digest.hexdigest() != entry.sha256:
        raise UsageError(
            f"the archive has another file named {entry.path!r}, or it has changed since: make a new archive"
        )


@contextmanager
def _reading(member: Member, stdin: BinaryIO | None) -> Iterator[BinaryIO]:
    if member.path:
        with open_regular(member.path) as file:
            yield file
    else:
        assert stdin is not None, "a member without a path is read from stdin"
        yield stdin

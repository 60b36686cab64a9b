"""Reads archives: lists their files, and decodes all or some of them; a damaged segment costs only itself."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Protocol

from sttx_core.errors import DataError, UsageError
from sttx_core.foreign_files import open_regular
from sttx_train.coding.codec import Codec, codec_for
from sttx_train.coding.container import (
    BLOCK,
    END_BYTES,
    FILE,
    HEAD_BYTES,
    INDEX,
    STORED,
    Entry,
    Head,
    head_at,
    is_plain,
    read_file,
    read_header,
    read_index,
    read_payload,
    walk,
)
from sttx_train.coding.forms import decoder_of, scaled
from sttx_train.coding.header import method_in
from sttx_train.coding.jsonl import Damaged
from sttx_train.coding.method import Method, Profile


class Sink(Protocol):
    """Where a file's bytes go."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""

    def keep(self) -> None:
        """End the file: all of its bytes came, and are right."""

    def drop(self) -> None:
        """End the file: it is damaged."""


@dataclass(frozen=True, kw_only=True)
class Damage:
    """What of an archive could not be read.

    Attributes:
        segments: numbers of damaged segments.
        lost: names of the files that are damaged.
    """

    segments: tuple[int, ...]
    lost: tuple[str, ...]


class Archive:
    """An archive on the disk.

    Args:
        path: the file.
        model: the model that it was made with, None for goose-mini or none.
        checkpoint: what was learned of it, None for nothing.

    Attributes:
        header: its method, coder, profile and digests.
        entries: its files, in the order in which they were compressed.
        segments: where each segment starts.
        is_finished: whether it has an index at its end; if not, its writing was interrupted, or it is cut.
        end: where the last file or index ends.
        size: bytes of the archive.

    Raises:
        DataError: it is not an archive, or its header or index is damaged.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path, *, model: str | None = None, checkpoint: str | None = None) -> None:
        self._name = str(path)
        self._needs = model, checkpoint
        self._file = open_regular(path)
        try:
            self.size = self._file.seek(0, 2)
            self._file.seek(0)
            self._open()
        except DataError as error:
            self._file.close()
            raise DataError(f"cannot read {self._name!r}: {error}") from error
        except BaseException:
            self._file.close()
            raise

    def _open(self) -> None:
        self.header = read_header(self._file)
        self._start = start = self._file.tell()
        indexed = read_index(self._file, self.size)
        self.is_finished = indexed is not None
        if indexed is not None:
            self.entries, self.segments = indexed
            self.end = self.size
        else:
            self._scan(start)
        most = len(self.entries) + self.size // HEAD_BYTES  # neighbours share a segment
        if sum(entry.segments[1] - entry.segments[0] for entry in self.entries) > most:
            raise DataError("a file's entry in the archive is damaged")
        for values in ([entry.path for entry in self.entries], [entry.number for entry in self.entries]):
            if len(set(values)) < len(values):
                raise DataError("the archive names a file twice")

        self._ratios = {entry.number: entry.size / max(entry.coded, 1) for entry in self.entries}

    @property
    def profile(self) -> Profile | None:
        """The numeric profile of the network that decoding it takes; None without a network.

        Raises:
            DataError: this installation cannot decode it, or the header is damaged.
        """
        method = self._method()
        return method.profile if method.networks else None

    def _method(self) -> Method:
        try:
            return method_in(self.header)
        except DataError as error:
            raise DataError(f"cannot read {self._name!r}: {error}") from error

    def leave_out_unneeded(self) -> None:
        """Forget the model or the checkpoint if it was made without one.

        Raises:
            DataError: this installation cannot decode it, or the header is damaged.
        """
        method = self._method()
        network, (model, checkpoint) = self.header["network"], self._needs
        has_learned = network is not None and network["learned"] is not None
        self._needs = model if method.model else None, checkpoint if has_learned else None

    @property
    def identity(self) -> str:
        """A digest of the names and contents of its files, in their order."""
        digest = sha256()
        for entry in self.entries:
            digest.update(f"{entry.path}\0{entry.sha256}\0".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def _scan(self, start: int) -> None:
        """Find the files and segments record by record."""
        entries: list[Entry] = []
        self.segments, self.end = {}, start
        for position, head in walk(self._file, start):
            if head.kind in (BLOCK, STORED):
                self.segments.setdefault(head.segment, position)
            elif (payload := read_payload(self._file, position, head)) is None:
                continue
            elif head.kind == FILE:
                entries.append(read_file(payload))
                self.end = position + HEAD_BYTES + head.size
            elif (end := position + HEAD_BYTES + head.size + END_BYTES) <= self.size:
                self.end = end
        self.segments = {number: at for number, at in self.segments.items() if at < self.end}
        self.entries = sorted(entries, key=lambda entry: entry.number)

    def __enter__(self) -> "Archive":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def named(self, names: Collection[str]) -> list[Entry]:
        """Return the files with these names, or in folders with these names; all if none is given.

        Raises:
            UsageError: the archive has no such file.
        """
        if not names:
            return list(self.entries)
        chosen = []
        for name in names:
            inside = [entry for entry in self.entries if f"{entry.path}/".startswith(f"{name.rstrip('/')}/")]
            if not inside:
                raise UsageError(f"{self._name!r} has no file named {name!r}: `sttx list` shows all")
            chosen += inside
        return list({entry.number: entry for entry in chosen}.values())

    def read(
        self,
        entries: Collection[Entry],
        open_sink: Callable[[Entry], Sink],
        advance: Callable[[int], object] = lambda _: None,
    ) -> Damage:
        """Decode files, and only the segments that hold them; each is checked before it is kept.

        Args:
            entries: which ones.
            open_sink: returns where a file's bytes go.
            advance: called with the number of bytes as they are decoded.

        Raises:
            DataError: this installation cannot decode the archive.
        """
        try:
            codec = codec_for(self.header, *self._needs)
        except DataError as error:
            raise DataError(f"cannot read {self._name!r}: {error}") from error
        files = {entry.number: _File(entry, open_sink) for entry in entries}
        needed: dict[int, list[_File]] = {}
        for _, file in sorted(files.items()):
            for number in file.segments():
                needed.setdefault(number, []).append(file)
        damaged = []
        try:
            for number, wanted in sorted(needed.items()):
                # An interrupted writer leaves blocks of a file in a segment that the file does not name.
                inside = {file.entry.number: file for file in wanted}
                if not self._read_segment(number, codec, inside, advance):
                    damaged.append(number)
                for file in wanted:
                    if number == file.entry.segments[1]:
                        file.end()
            lost = [file.entry.path for _, file in sorted(files.items()) if not file.end()]
        finally:
            for file in files.values():
                file.drop()
        return Damage(segments=tuple(damaged), lost=tuple(lost))

    def first_damage(self) -> int | None:
        """Return the position of the first record that is damaged, also if no file is lost by it."""
        position = self._start
        while position < self.size:
            head = head_at(self._file, position)
            if head is None or read_payload(self._file, position, head) is None:
                return position
            position += HEAD_BYTES + head.size + (END_BYTES if head.kind == INDEX else 0)
        return None

    def catch_up(self, number: int, codec: Codec) -> bool:
        """Let a codec stand where a segment ends, by decoding it; return whether it is intact."""
        return self._read_segment(number, codec, {}, lambda _: None)

    def _read_segment(
        self,
        number: int,
        codec: Codec,
        files: Mapping[int, "_File"],
        advance: Callable[[int], object],
    ) -> bool:
        """Decode a segment as far as the last of these files, all of it without any.

        Returns:
            Whether it is intact so far.
        """
        if number not in self.segments:
            return False
        last = max(files, default=2**32)
        position = self.segments[number]
        codec.start_segment()
        while position < self.end:
            head = head_at(self._file, position)
            if head is None:
                return False
            if head.kind in (BLOCK, STORED) and (head.segment != number or head.file > last):
                break
            if head.kind == BLOCK:
                if (batch := self._batch(position, head, codec)) is None:
                    return False
                if not _write(codec, batch, files, scaled(advance, self._ratio(batch))):
                    return False
                position += sum(HEAD_BYTES + head.size for head, _ in batch)
            elif head.kind == STORED and head.file in files:
                stored = read_payload(self._file, position, head)
                if stored is None or not files[head.file].store(stored):
                    return False
                position += HEAD_BYTES + head.size
            else:
                position += HEAD_BYTES + head.size + (END_BYTES if head.kind == INDEX else 0)
        return True

    def _ratio(self, batch: list[tuple[Head, bytes]]) -> float:
        """Return how many bytes of files there are for each byte of the text in a batch."""
        size = sum(head.plain * self._ratios.get(head.file, 1.0) for head, _ in batch)
        return size / max(sum(head.plain for head, _ in batch), 1)

    def _batch(self, position: int, first: Head, codec: Codec) -> list[tuple[Head, bytes]] | None:
        """Return the heads and payloads of a batch, which starts with ``first``; None if it is damaged."""
        if first.more and not codec.method.networks:
            return None
        batch, head, left = [], first, codec.batch_bytes
        for more in range(first.more, -1, -1):
            left -= head.plain
            if left < 0 or (payload := read_payload(self._file, position, head)) is None:
                return None
            batch.append((head, payload))
            position += HEAD_BYTES + head.size
            if more:
                following = head_at(self._file, position)
                if following is None or (following.kind, following.segment) != (BLOCK, head.segment):
                    return None
                if following.more != more - 1 or following.file < head.file:
                    return None
                head = following
        return batch


def _write(
    codec: Codec,
    batch: list[tuple[Head, bytes]],
    files: Mapping[int, "_File"],
    advance: Callable[[int], object],
) -> bool:
    """Decode a batch, and write what belongs to files; return whether all of it is right."""
    plains = codec.decode([(head.file, head.tokens, payload) for head, payload in batch], advance)
    for (head, _), plain in zip(batch, plains, strict=True):
        if not is_plain(head, plain):
            return False
        if head.file in files and not files[head.file].write(plain):
            return False
    return True


class _File:
    """A file that is being decoded."""

    def __init__(self, entry: Entry, open_sink: Callable[[Entry], Sink]) -> None:
        self.entry = entry
        self._open = open_sink
        self._sink: Sink | None = None
        self._decoder = decoder_of(entry.form)
        self._digest, self._size = sha256(), 0
        self._kept: bool | None = None

    def segments(self) -> range:
        """Return the numbers of the segments that hold it."""
        first, last = self.entry.segments
        return range(first, last + 1) if self.entry.size else range(0)

    def store(self, data: bytes) -> bool:
        """Take the next stored bytes; return whether it has some."""
        try:
            self._decoder.store(data)
        except Damaged:
            return False
        return True

    def write(self, text: bytes) -> bool:
        """Take the next text; return False if it is not right."""
        try:
            return all(map(self._take, self._decoder.feed(text)))
        except Damaged:
            return False

    def _take(self, data: bytes) -> bool:
        """Take the next bytes, and end the file after the last; return False if they are too many."""
        if self._kept is not None or self._size + len(data) > self.entry.size:
            return False
        self._sink = self._sink or self._open(self.entry)
        self._sink.write(data)
        self._digest.update(data)
        self._size += len(data)
        if self._size == self.entry.size:
            self.end()
        return True

    def end(self) -> bool:
        """Keep the file if it is whole, or else drop it; return whether it was kept."""
        if self._kept is None:
            whole = self._size == self.entry.size and self._digest.hexdigest() == self.entry.sha256
            if whole:
                self._sink = self._sink or self._open(self.entry)
                self._sink.keep()
                self._kept = True
            else:
                self.drop()
        return bool(self._kept)

    def drop(self) -> None:
        """Remove what was written of a file that was not kept."""
        if self._kept is None:
            self._kept = False
            if self._sink:
                self._sink.drop()

"""Sorts session files by time, and copies after their originals.

The time of a file is its first timestamp, or its modification time where there is none, so a resumed session
sorts after the session that it copies. Copies whose first timestamp is the same sort after their original by
what their records say, never by size or modification time where anything else tells them apart:

1. a copy that says so (`forkedFrom`, `sessionKind`), after the file that it names;
2. a sub-agent's file, and a file that starts with records of another session than its own;
3. where both have the same first records, the file with fewer lines between these: copying leaves some out;
4. then the file that goes on later: the original usually went on before the copy did. A file that ends where
   the other goes on is the original.

The output of `codex exec --json` sorts after the rollout of the same thread. Nothing is parsed into traces.
"""

import functools
import re
import zlib
from array import array
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from sttx_ccsniff.parse.project import session_folder_of_subagent
from sttx_ccsniff.parse.records import decode_line
from sttx_ccsniff.parse.times import unix_seconds
from sttx_ccsniff.read.open import first_bytes, pieces_of
from sttx_ccsniff.read.splitter import LineSplitter
from sttx_core.errors import SourceError
from sttx_core.foreign_files import open_regular

_HEAD_BYTES = 2**16
_LONG_HEAD_BYTES = 2**22  # read where the head has no timestamp: one follows a long first prompt
_MOST_COMPARED = 2**26  # bytes of a file that has the same first timestamp as another one
_TIMESTAMP = re.compile(
    rb'(?:"(?:timestamp|iso|_audit_timestamp)"|"time"\s*:\s*\{\s*"created")\s*:\s*'
    rb'(?:"([^"]{10,40})"|(\d{9,19}(?:\.\d{1,9})?)(?=[\s,}]))'
)
_COPY = re.compile(
    rb'"(?:forkedFrom|forked_from_id|parent_thread_id|sessionKind)"\s*:\s*(?!null|false|""|"interactive"|[^"{])'
)
_FORKED_FROM = re.compile(rb'"forkedFrom"\s*:\s*\{[^{}]{0,400}?"sessionId"\s*:\s*"([^"]{1,200})"')
_SESSION = re.compile(rb'"(?:sessionId|session_id)"\s*:\s*"([^"]{1,200})"')
_RUN = re.compile(rb'"thread\.started"[^{}]{0,200}"thread_id"\s*:\s*"([^"]{1,200})"')
_THREAD = re.compile(rb'"session_meta"[^{}]{0,200}\{[^{}]{0,400}?"id"\s*:\s*"([^"]{1,200})"')
_READ_ERRORS = (OSError, EOFError, zlib.error, SourceError)


def in_time_order(files: list[Path]) -> list[Path]:
    """Sort files by the first timestamp in each, and copies after their originals."""
    heads = [_head(path) for path in files]
    times = {head.thread: head.time for head in heads if head.thread}
    for head in heads:
        head.time = times.get(head.run, head.time)
    heads.sort(key=lambda head: (head.time, bool(head.run), str(head.path)))
    ordered: list[Path] = []
    for _, equal in groupby(heads, key=lambda head: (head.time, bool(head.run))):
        group = list(equal)
        ordered += [head.path for head in (_originals_first(group) if len(group) > 1 else group)]
    return ordered


def first_timestamp(path: Path) -> float:
    """Return the first timestamp in a file's head, or else its modification time, in Unix seconds."""
    return _head(path).time


@dataclass
class _Head:
    """What the first bytes of a file say.

    Attributes:
        time: What the file is sorted by.
        is_copy: Whether it says that it is a copy.
        original: The session that it says it was copied from.
        session: The session that its first record names.
        thread: The thread of Codex that it is the rollout of.
        run: The thread of Codex that it is the output of.
    """

    path: Path
    time: float
    is_copy: bool
    original: str
    session: str
    thread: str
    run: str


def _head(path: Path) -> _Head:
    head = first_bytes(path, _HEAD_BYTES)
    time = _time_in(head)
    if time is None and len(head) == _HEAD_BYTES:
        time = _time_in(first_bytes(path, _LONG_HEAD_BYTES))
    return _Head(
        path=path,
        time=_modified(path) if time is None else time,
        is_copy=_COPY.search(head) is not None,
        original=_name_in(_FORKED_FROM, head),
        session=_name_in(_SESSION, head),
        thread=_name_in(_THREAD, head),
        run=_name_in(_RUN, head),
    )


def _name_in(pattern: re.Pattern[bytes], head: bytes) -> str:
    match = pattern.search(head)
    return match[1].decode("utf-8", "replace") if match else ""


def _time_in(head: bytes) -> float | None:
    for text, number in _TIMESTAMP.findall(head):
        try:
            return unix_seconds(float(number) if number else text.decode("ascii", "replace"))
        except (ValueError, OverflowError):
            continue
    return None


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


# Files with the same first timestamp


@dataclass
class _Records:
    """The records with a uuid in a file, in order: hash of the uuid, time, number of the line."""

    uuids: "array[int]" = field(default_factory=lambda: array("q"))
    times: "array[float]" = field(default_factory=lambda: array("d"))
    lines: "array[int]" = field(default_factory=lambda: array("q"))
    first: bytes = b""  # the line of the first of them
    last_session: str = ""


def _originals_first(group: list[_Head]) -> list[_Head]:
    records = {head.path: _records(head.path) for head in group}
    for head in group:  # a first record may be longer than a head
        if first := records[head.path].first:
            head.session = _name_in(_SESSION, first)
            head.original = head.original or _name_in(_FORKED_FROM, first)
            head.is_copy = head.is_copy or _COPY.search(first) is not None
    parents = {_stem(head.path): head.original for head in group}
    signs = {
        head.path: (_generation(head, parents), _strangeness(head, records[head.path], parents.keys()))
        for head in group
    }

    def compare(one: _Head, other: _Head) -> int:
        mine, yours = _by_records(records[one.path], records[other.path])
        mine_first = (signs[one.path], mine, _size(one.path), str(one.path))
        return -1 if mine_first < (signs[other.path], yours, _size(other.path), str(other.path)) else 1

    return sorted(group, key=functools.cmp_to_key(compare))


def _generation(head: _Head, parents: dict[str, str]) -> int:
    """Return how many files of the group a file says that it was copied from, directly or not."""
    visited: set[str] = set()
    name = _stem(head.path)
    while name not in visited and (above := parents.get(name, "")):
        visited.add(name)
        name = above
    return max(len(visited), int(head.is_copy))


def _strangeness(head: _Head, records: _Records, names: Collection[str]) -> int:
    """Return 2 for a sub-agent's file, and 1 for a file that starts with records of another session.

    That is the session of another file of the group, or not the session of the file's last record.
    """
    if session_folder_of_subagent(head.path) is not None:
        return 2
    is_other = head.session in names and head.session != _stem(head.path)
    return int(is_other or records.last_session not in ("", head.session))


def _by_records(one: _Records, other: _Records) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return what two files are compared by, the original's being less: equal if nothing tells."""
    pairs = enumerate(zip(one.uuids, other.uuids, strict=False))
    shortest = min(len(one.uuids), len(other.uuids))
    shared = next((number for number, (mine, yours) in pairs if mine != yours), shortest)
    if not shared:
        return (), ()
    one_span, other_span = (each.lines[shared - 1] - each.lines[0] for each in (one, other))
    one_next, other_next = (next(iter(each.times[shared : shared + 1]), -1.0) for each in (one, other))
    return (-one_span, one_next), (-other_span, other_next)


def _records(path: Path) -> _Records:
    found = _Records()
    for number, line in enumerate(_lines(path)):
        values, _ = decode_line(line, Counter())
        record = values[0] if values and isinstance(values[0], dict) else {}
        if not isinstance(uuid := record.get("uuid"), str):
            continue
        found.first = found.first or line
        session = record.get("sessionId") or record.get("session_id")
        found.last_session = session if isinstance(session, str) else ""
        try:
            time = unix_seconds(record.get("timestamp"))
        except (TypeError, ValueError, OverflowError):
            time = found.times[-1] if found.times else 0.0
        found.uuids.append(hash(uuid))
        found.times.append(time)
        found.lines.append(number)
    return found


def _lines(path: Path) -> Iterator[bytes]:
    splitter, size = LineSplitter(), 0
    try:
        with open_regular(path) as opened:
            for piece in pieces_of(opened):
                yield from splitter.feed(piece)
                size += len(piece)
                if size > _MOST_COMPARED:
                    return
        yield splitter.finish()
    except _READ_ERRORS:  # reading the file reports it
        return


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _stem(path: Path) -> str:
    return path.name.split(".")[0]

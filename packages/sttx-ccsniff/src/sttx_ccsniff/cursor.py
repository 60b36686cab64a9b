"""How far a source's consumer has read: what a checkpoint saves so that no trace is lost or repeated.

The reader is ahead of the consumer by the traces that wait in the queue. A `Ledger` knows only what the
consumer took: for each origin (a file or stream) the place after its last complete delivery, the keys of
traces taken from a delivery that is not complete yet, the memory of uuids up to that point, and the documents
that have not ended. It does not know what a place means; feeds do.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from sttx_ccsniff.parse.trace_json import meta_from_json, meta_to_json
from sttx_ccsniff.seen import Remembered, Seen
from sttx_core.errors import CheckpointError
from sttx_core.foreign_files import shown
from sttx_core.saved_state import Count, State, checked, damaged
from sttx_core.traces import Meta, SessionEnd, Trace

VERSION = 2
"""Version of the cursor's layout."""

MOST_OPEN = 100_000
"""Open documents that are kept. Beyond that the least recent are forgotten, and get no `SessionEnd`."""

Place = Any
"""Position of a feed in an origin, JSON-able. Only the feed knows its layout."""


class Advance(NamedTuple):
    """What becomes true once the consumer has taken every trace of a delivery.

    Attributes:
        origin: The file or stream.
        place: Where reading resumes in it; None if the origin is gone.
        remembered: What the reader's memory added up to the end of the delivery.
        already_taken: Keys of traces of this delivery that an earlier run took.
    """

    origin: str
    place: Place
    remembered: Remembered | None
    already_taken: Collection[str] = ()


class _SavedOrigin(State):
    place: Any
    traces: Count


class _Saved(State):
    """What `Ledger.cursor` returns; feeds check their places, the memory its own state."""

    version: Literal[2]
    origins: dict[str, _SavedOrigin]
    begun: list[str]
    open: list[dict[str, Any]]
    seen: dict[str, Any]


@dataclass
class _Entry:
    place: Place = None
    traces: int = 0


def key_of(trace: Trace) -> str:
    """Return a key that is unique among all traces of a source.

    A uid with a colon contains a record number, so two files of the same name share such uids: the key then
    includes the origin.
    """
    meta = trace.meta
    return f"{meta.uid} {meta.origin}" if ":" in meta.uid else meta.uid


def set_latest(documents: dict[str, Any], name: str, value: Any) -> None:
    """Set a document's value and move it to the end; above `MOST_OPEN`, drop the first document."""
    documents.pop(name, None)
    documents[name] = value
    if len(documents) > MOST_OPEN:
        del documents[next(iter(documents))]


class Ledger:
    """What the consumer took, in earlier runs and in this one.

    Args:
        cursor: What `Ledger.cursor` returned in an earlier run.

    Raises:
        CheckpointError: The cursor is damaged, or of another version.
    """

    def __init__(self, cursor: Mapping[str, Any] | None = None) -> None:
        self.seen = Seen()
        self._entries: dict[str, _Entry] = {}
        self._from_earlier_run: set[str] = set()
        self._open: dict[str, Meta] = {}
        self._taken: list[str] = []
        if cursor:
            self._load(cursor)

    def places(self) -> dict[str, Place]:
        """Return the place of each origin."""
        return {name: entry.place for name, entry in self._entries.items() if entry.place is not None}

    def partly_taken(self) -> set[str]:
        """Return the keys of the traces that were taken from deliveries that are not complete yet."""
        return self._from_earlier_run.union(self._taken)

    def open(self) -> list[Meta]:
        """Return the last `Meta` of each document that has not ended, least recent first."""
        return list(self._open.values())

    def delivered(self, trace: Trace) -> None:
        """Record that the consumer took a trace."""
        self._entry(trace.meta.origin).traces += 1
        self._taken.append(key_of(trace))
        if isinstance(trace, SessionEnd):
            self._open.pop(trace.document, None)
        else:
            set_latest(self._open, trace.document, trace.meta)

    def advance(self, advance: Advance) -> None:
        """Record that the consumer took the last trace of a delivery."""
        if advance.remembered is not None:
            self.seen.follow(advance.remembered)
        self._taken.clear()
        if advance.already_taken:
            self._from_earlier_run.difference_update(advance.already_taken)
        if advance.place is None:
            self._entries.pop(advance.origin, None)
            return
        self._entry(advance.origin).place = advance.place

    def cursor(self) -> dict[str, Any]:
        """Return the whole ledger as a JSON-able object."""
        return {
            "version": VERSION,
            "origins": {
                name: {"place": entry.place, "traces": entry.traces} for name, entry in self._entries.items()
            },
            "begun": sorted(self.partly_taken()),
            "open": [meta_to_json(meta) for meta in self._open.values()],
            "seen": self.seen.state_dict(),
        }

    def _entry(self, origin: str) -> _Entry:
        entry = self._entries.get(origin)
        if entry is None:
            entry = self._entries[origin] = _Entry()
        return entry

    def _load(self, cursor: Mapping[str, Any]) -> None:
        version = cursor.get("version")
        if type(version) is int and version != VERSION:
            raise CheckpointError(
                f"this cursor has version {shown(version)}, and only version {VERSION} can be read: continue "
                "with the sttx that wrote it, or start from the beginning"
            )
        saved = checked(_Saved, cursor, "cursor")
        if len(saved.open) > MOST_OPEN:
            raise damaged("cursor", f"more than {MOST_OPEN:,} documents are open in it")
        self._entries = {name: _Entry(one.place, one.traces) for name, one in saved.origins.items()}
        self._from_earlier_run = set(saved.begun)
        try:
            metas = [meta_from_json(meta) for meta in saved.open]
            self.seen.load_state_dict(saved.seen)
        except ValueError as error:
            raise damaged("cursor", str(error)) from error
        self._open = {SessionEnd(meta=meta).document: meta for meta in metas}

"""How far a source's consumer has got: what a checkpoint keeps, so that nothing is lost or delivered twice.

The reader runs ahead of the consumer by what waits in the queue. A `Ledger` knows only what was delivered:
for each origin (a file or stream) the place after its last delivery, the uids of what was taken of the next
one already, the memory of uuids as far as that, and the documents that had not ended. It does not know what
a place is: feeds do.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sttx_ccsniff.parse.trace_json import meta_from_json, meta_to_json
from sttx_ccsniff.seen import Remembered, Seen
from sttx_core.errors import CheckpointError
from sttx_core.traces import Meta, SessionEnd, Trace

VERSION = 2
"""Of a cursor's form."""

MOST_OPEN = 100_000
"""Documents whose end is still to be told; of more, those heard longest ago get none."""

Place = Any
"""Where a feed stands in an origin, JSON-able; its own affair."""


class Advance(NamedTuple):
    """What is true once every trace of a delivery was taken.

    Attributes:
        origin: The file or stream.
        place: Where to go on in it; None if it is gone.
        remembered: What the reader's memory took in on the way.
        had: Keys of its traces that an earlier run took.
    """

    origin: str
    place: Place
    remembered: Remembered | None
    had: Collection[str] = ()


@dataclass
class _Entry:
    place: Place = None
    traces: int = 0


def key_of(trace: Trace) -> str:
    """Name a trace as no other of a source is named.

    A uid with a colon is a number in a file, which two files of one name share.
    """
    meta = trace.meta
    return f"{meta.uid} {meta.origin}" if ":" in meta.uid else meta.uid


def keep_open(documents: dict[str, Any], name: str, value: Any) -> None:
    """Make a document the one that was heard last; of too many, forget the one heard longest ago."""
    documents.pop(name, None)
    documents[name] = value
    if len(documents) > MOST_OPEN:
        del documents[next(iter(documents))]


class Ledger:
    """What was delivered, by earlier runs and this one.

    Args:
        cursor: What `Ledger.cursor` gave an earlier run.

    Raises:
        CheckpointError: The cursor is none.
    """

    def __init__(self, cursor: Mapping[str, Any] | None = None) -> None:
        self.seen = Seen()
        self._entries: dict[str, _Entry] = {}
        self._begun: set[str] = set()
        self._open: dict[str, Meta] = {}
        self._taken: list[str] = []
        if cursor:
            self._load(cursor)

    def places(self) -> dict[str, Place]:
        """Return where each origin stands."""
        return {name: entry.place for name, entry in self._entries.items() if entry.place is not None}

    def begun(self) -> set[str]:
        """Return the keys of what was taken of a delivery that was not taken whole."""
        return self._begun.union(self._taken)

    def open(self) -> list[Meta]:
        """Return the last word of each document that has not ended, in the order in which they were heard."""
        return list(self._open.values())

    def took(self, trace: Trace) -> None:
        """Note that a trace was delivered."""
        self._entry(trace.meta.origin).traces += 1
        self._taken.append(key_of(trace))
        if isinstance(trace, SessionEnd):
            self._open.pop(trace.document, None)
        else:
            keep_open(self._open, trace.document, trace.meta)

    def advance(self, advance: Advance) -> None:
        """Note that a whole delivery was."""
        if advance.remembered is not None:
            self.seen.follow(advance.remembered)
        self._taken.clear()
        if advance.had:
            self._begun.difference_update(advance.had)
        if advance.place is None:
            self._entries.pop(advance.origin, None)
            return
        self._entry(advance.origin).place = advance.place

    def cursor(self) -> dict[str, Any]:
        """Return all of it, JSON-able."""
        return {
            "version": VERSION,
            "origins": {
                name: {"place": entry.place, "traces": entry.traces} for name, entry in self._entries.items()
            },
            "begun": sorted(self.begun()),
            "open": [meta_to_json(meta) for meta in self._open.values()],
            "seen": self.seen.state_dict(),
        }

    def _entry(self, origin: str) -> _Entry:
        entry = self._entries.get(origin)
        if entry is None:
            entry = self._entries[origin] = _Entry()
        return entry

    def _load(self, cursor: Mapping[str, Any]) -> None:
        if cursor.get("version") != VERSION:
            raise CheckpointError(
                f"this cursor has version {cursor.get('version')!r}, and only {VERSION} can be read: "
                "go on with the sttx that wrote it, or start anew"
            )
        try:
            self._entries = {
                name: _Entry(entry["place"], int(entry["traces"]))
                for name, entry in cursor["origins"].items()
            }
            self._begun = set(map(str, cursor["begun"]))
            last_words = [meta_from_json(meta) for meta in cursor["open"]]
            self._open = {SessionEnd(meta=meta).document: meta for meta in last_words}
            self.seen.load_state_dict(cursor["seen"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"this cursor is damaged ({error!r}): start anew") from error

"""The protocol between a source and its feeds: a feed yields deliveries and can be stopped from outside.

A delivery is a few traces and the place after them. The same feed can resume at that place in a later run.
The feeds are in `read.lines` (streams), `follow.feed` (files and folders), `live.feed` (ccsniff) and
`opencode.store` (a database).
"""

import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from sttx_ccsniff.cursor import Place
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.traces import Meta, Trace


class Delivery(NamedTuple):
    """The traces of one record or a few, and the place after them.

    Attributes:
        origin: The file or stream that the traces came from.
        traces: The traces, in order; empty if only the place changed.
        place: Where to resume after all of them, JSON-able; None if the origin is gone and can be forgotten.
    """

    origin: str
    traces: list[Trace]
    place: Place


@dataclass(kw_only=True)
class Shared:
    """What all feeds of one source share.

    Attributes:
        report: Counts of what was read.
        seen: Memory of uuids and tool calls.
        stop: Set when reading must end.
        places: The place of each origin: from an earlier run at first, then kept up to date by the feeds.
        files: The origin of each file, by device and inode, so that no file is read through two paths.
        recognized: Origins whose format is already counted.
        partly_taken: Keys of the traces that an earlier run took from deliveries that it did not finish.
        open: The last `Meta` of each document that had not ended when an earlier run did.
        since: Unix seconds; older traces are dropped.
    """

    report: SourceReport
    seen: Seen = field(default_factory=Seen)
    stop: threading.Event = field(default_factory=threading.Event)
    places: dict[str, Place] = field(default_factory=dict)
    files: dict[tuple[int, int], str] = field(default_factory=dict)
    recognized: set[str] = field(default_factory=set)
    partly_taken: set[str] = field(default_factory=set)
    open: list[Meta] = field(default_factory=list)
    since: float = 0.0


class Feed(Protocol):
    """One input of a source."""

    description: str

    def batches(self, shared: Shared) -> Generator[Delivery, None, None]:
        """Yield deliveries in order; return soon after `shared.stop` is set."""
        ...

    def close(self) -> None:
        """Release everything, and wake a `batches` that waits in another thread. May be called twice."""
        ...

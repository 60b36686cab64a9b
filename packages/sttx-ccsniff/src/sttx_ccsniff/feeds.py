"""What a source reads from: a feed yields deliveries, and can be told to stop from outside.

A delivery is a few traces and the place after them, from which the same feed can go on in a later run. How
bytes are read is in `reading`; folders are followed in `following`; ccsniff is in `ccsniff`.
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
    """The traces of one record or a few, and what is true once they were taken.

    Attributes:
        origin: The file or stream they came from.
        traces: In order; may be none, where only the place moved on.
        place: Where to go on after all of them, JSON-able; None: this origin is gone, forget it.
    """

    origin: str
    traces: list[Trace]
    place: Place


@dataclass(kw_only=True)
class Shared:
    """What all feeds of one source have in common.

    Attributes:
        report: Counts of what came in.
        seen: Memory of uuids and tool calls.
        stop: Set when reading should end.
        places: Where each origin stands, from an earlier run and kept up to date by the feeds.
        files: Which origin a file, by device and inode, was read as, so that none is read by two ways to it.
        recognised: Origins whose format was counted.
        begun: Keys of the traces that an earlier run took of a delivery that it did not take whole.
        open: The last word of each document that had not ended when an earlier run did.
        since: Unix seconds; what is older is passed over.
    """

    report: SourceReport
    seen: Seen = field(default_factory=Seen)
    stop: threading.Event = field(default_factory=threading.Event)
    places: dict[str, Place] = field(default_factory=dict)
    files: dict[tuple[int, int], str] = field(default_factory=dict)
    recognised: set[str] = field(default_factory=set)
    begun: set[str] = field(default_factory=set)
    open: list[Meta] = field(default_factory=list)
    since: float = 0.0


class Feed(Protocol):
    """One thing to read from."""

    description: str

    def batches(self, shared: Shared) -> Generator[Delivery, None, None]:
        """Yield deliveries in order; return soon after `shared.stop` is set."""
        ...

    def close(self) -> None:
        """Wake a `batches` that waits in another thread, and let go of everything held."""
        ...

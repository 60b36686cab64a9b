"""What is carried from window to window of each document, for a bounded number of documents."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from sttx_train.rwkv7 import RecurrentState


@dataclass
class Carried:
    """Where a document stands.

    Attributes:
        state: after everything before ``context``; None at the document's start.
        context: the last phrase as base tokens, not yet read by ``state``.
        frozen: the frozen model's state after everything but the last base token; None at the start.
    """

    state: RecurrentState | None
    context: tuple[int, ...]
    frozen: RecurrentState | None = None


class CarriedStates:
    """The carried states of the most recently used documents; older ones start afresh when they return.

    Args:
        capacity: most documents that are kept.
        start: the end-of-text id, which leads every document.
    """

    def __init__(self, capacity: int, start: int) -> None:
        self.capacity, self.start = capacity, start
        self.evictions = 0
        self.entries: OrderedDict[str, Carried] = OrderedDict()

    def get(self, document: str) -> Carried:
        """Return where a document stands, fresh if it is new. Changes nothing."""
        return self.entries.get(document) or Carried(None, (self.start,))

    def put(self, document: str, carried: Carried) -> None:
        """Remember where a document stands, forgetting the least recently used one when full."""
        self.entries[document] = carried
        self.entries.move_to_end(document)
        while len(self.entries) > self.capacity:
            self.entries.popitem(last=False)
            self.evictions += 1

    def __len__(self) -> int:
        return len(self.entries)

"""What is kept of one session: sums, cells along its text, and the passages most worth showing."""

from __future__ import annotations

from collections.abc import Sequence

from sttx_train.report.cells import Cell, Cells
from sttx_train.report.passages import Passage, TraceInfo


class SessionReport:
    """A session, in bounded memory.

    Args:
        name: as its agent names it.
        project: what it worked on.

    Attributes:
        traces, bytes, paid, frozen: sums over its traces with text.
        news: bits of new information.
        repeated: bytes that repeat what was read before.
        first, last: Unix seconds of its first and last trace; 0 if unknown.
        subagents: how many sub-agents spoke.
        cells: sums along its text.
    """

    def __init__(self, name: str, project: str) -> None:
        self.name, self.project = name, project
        self.traces = self.bytes = self.repeated = 0
        self.paid = self.frozen = self.news = 0.0
        self.first = self.last = 0.0
        self.cells = Cells()
        self._subagents: set[str] = set()
        self._kept: list[Passage] = []
        self._kept_bytes = 0

    @property
    def subagents(self) -> int:
        """How many sub-agents spoke."""
        return len(self._subagents)

    def close(self, trace: TraceInfo, passages: Sequence[Passage], keep: int) -> None:
        """Take in a trace whose words are not looked for any more.

        Args:
            trace: the next trace of the session.
            passages: its passages.
            keep: bytes of text to keep.
        """
        self.traces += 1
        self.bytes += trace.bytes
        self.paid += trace.paid
        self.frozen += trace.frozen
        self.news += trace.news
        if trace.time:
            self.first = min(self.first or trace.time, trace.time)
            self.last = max(self.last, trace.time)
        if trace.subagent:
            self._subagents.add(trace.subagent)
        for passage in passages:
            repeated = passage.repeated
            self.repeated += repeated
            self.cells.add(
                Cell(
                    bytes=passage.bytes,
                    paid=passage.paid,
                    frozen=passage.frozen,
                    news=passage.news,
                    repeated=repeated,
                    kind=trace.kind,
                )
            )
        self._kept += passages
        self._kept_bytes += sum(len(passage.data) for passage in passages)
        if self._kept_bytes > 2 * keep:
            self.trim(keep)

    def trim(self, keep: int) -> None:
        """Keep only so many bytes of text: of the passages most worth showing."""
        self._kept = self.shown(keep)
        self._kept_bytes = sum(len(passage.data) for passage in self._kept)

    def shown(self, most: int) -> list[Passage]:
        """Return the passages most worth showing, in order, with at most so many bytes of text."""
        chosen, left = [], most
        for passage in sorted(self._kept, key=lambda each: -each.worth):
            if len(passage.data) <= left:
                chosen.append(passage)
                left -= len(passage.data)
        return sorted(chosen, key=lambda each: (each.trace.number, each.start))

    def newest(self, most: int) -> list[Passage]:
        """Return the traces with most new information for their length: of each the best passage."""
        best: dict[int, Passage] = {}
        for passage in self._kept:
            other = best.get(passage.trace.number)
            if passage.news > 0 and (other is None or passage.rank > other.rank):
                best[passage.trace.number] = passage
        return sorted(best.values(), key=lambda each: -each.rank)[:most]

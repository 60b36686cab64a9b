"""A parser of exported lines: each line is a record, and records have no identity of their own."""

from pathlib import PurePath
from typing import Any

from sttx_ccsniff.parse.records import decode_line
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.traces import Trace

Row = dict[str, Any]


class LineParser:
    """Reads lines of JSON and hands each object to `record`.

    Attributes:
        origin: The file or stream.
        report: Counts what was read.
        stem: The file's name up to its first dot.
        count: Records so far; numbers the traces.
    """

    def __init__(self, origin: str, report: SourceReport, seen: Seen) -> None:
        del seen  # rows have no identity to be known by
        self.origin = origin
        self.report = report
        self.stem = PurePath(origin).name.split(".")[0] or "-"
        self.count = 0

    def feed(self, line: bytes) -> list[Trace]:
        """Take one line without its line end; return the traces on it."""
        if line.startswith(b"#"):
            self.report.skip("comment")
            return []
        values, problem = decode_line(line, self.report.noted)
        if problem:
            self.report.damaged(problem)
        traces: list[Trace] = []
        for value in values:
            if isinstance(value, dict):
                self.report.records += 1
                self.count += 1
                traces += self.record(value)
            else:
                self.report.damaged("not an object")
        return traces

    def finish(self, tail: bytes) -> list[Trace]:
        """Take what stands after the last line end."""
        return self.feed(tail)

    def state_dict(self) -> tuple[int]:
        """All that must be known to go on from here in another process, as JSON can hold it."""
        return (self.count,)

    def load_state_dict(self, state: Any) -> None:
        """Go on where another parser of the same file gave this state.

        Raises:
            ValueError: it is no such state.
        """
        match state:
            case [int(records)] if type(records) is int and records >= 0:
                self.count = records
            case _:
                raise ValueError("not a state of a parser of rows or pairs")

    def record(self, record: Row) -> list[Trace]:
        """Return the traces of one record."""
        raise NotImplementedError

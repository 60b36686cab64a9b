"""The base class of parsers for exported JSON lines, whose records have no identity."""

from pathlib import PurePath
from typing import Any

from sttx_ccsniff.parse.records import decode_line
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.traces import Trace

Row = dict[str, Any]
"""One JSON object of an export."""


class LineParser:
    """Reads lines of JSON and passes each object to `read`, which a subclass defines.

    Lines that start with `#` are comments. Records have no ids, so a trace's uid is `stem:count`: the
    file's name and the number of its record.

    Attributes:
        origin: The file or stream.
        report: Counts what is read.
        stem: The file's name up to its first dot; "-" if that is empty.
        count: Number of records so far.
    """

    def __init__(self, origin: str, report: SourceReport, seen: Seen) -> None:
        del seen  # without ids, repeated records cannot be recognized
        self.origin = origin
        self.report = report
        self.stem = PurePath(origin).name.split(".")[0] or "-"
        self.count = 0

    def feed(self, line: bytes) -> list[Trace]:
        """Read one line, without its line end; return its traces."""
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
                traces += self.read(value)
            else:
                self.report.damaged("not an object")
        return traces

    def finish(self, tail: bytes) -> list[Trace]:
        """Read what follows the last line end; return its traces."""
        return self.feed(tail)

    def state_dict(self) -> tuple[int]:
        """Return everything needed to continue from here in another process, JSON-able."""
        return (self.count,)

    def load_state_dict(self, state: Any) -> None:
        """Continue from the state of another parser of the same file.

        Raises:
            ValueError: The state is invalid.
        """
        match state:
            case [int(records)] if type(records) is int and records >= 0:
                self.count = records
            case _:
                raise ValueError("not a state of a parser of rows or pairs")

    def read(self, row: Row) -> list[Trace]:
        """Return the traces of one row; its uid is made of `stem` and `count`."""
        raise NotImplementedError

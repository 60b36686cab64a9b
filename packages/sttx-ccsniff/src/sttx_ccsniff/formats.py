"""Which parser reads a file or stream: recognised by its first record, never by its name.

Another agent's format is one more entry of `FORMATS`: a `recognises(record)` and a parser class.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from sttx_ccsniff import claude_code, ndjson
from sttx_ccsniff.records import decode_line
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.traces import Trace


class Parser(Protocol):
    """Reads the lines of one origin, in order."""

    name: str

    def feed(self, line: bytes) -> list[Trace]:
        """Take one line without its line end; return the traces on it."""
        ...

    def finish(self, tail: bytes) -> list[Trace]:
        """Take what stands after the last line end, which may be nothing."""
        ...


class Format(NamedTuple):
    """One kind of file: how its records are told from others', and who reads them."""

    recognises: Callable[[dict[str, Any]], bool]
    parser: Callable[[str, SourceReport, Seen], Parser]


FORMATS = (
    Format(ndjson.recognises_pairs, ndjson.PairParser),
    Format(ndjson.recognises_rows, ndjson.RowParser),
    Format(claude_code.recognises, claude_code.SessionParser),
)
"""Tried in this order."""

_PATIENCE = 100
"""Lines without a readable record after which a file is read as Claude Code's, and its damages counted."""


class AutoParser:
    """Waits for the first record that a format recognises, then is that format's parser.

    >>> parser = AutoParser("x.jsonl", SourceReport(), Seen())
    >>> [type(trace).__name__ for trace in parser.feed(b'{"prompt":"a","completion":"b"}')], parser.name
    (['Pair'], 'pairs')
    """

    def __init__(self, origin: str, report: SourceReport, seen: Seen) -> None:
        self._origin = origin
        self._report = report
        self._seen = seen
        self._parser: Parser | None = None
        self._waiting: list[bytes] = []

    @property
    def name(self) -> str:
        """The recognised format; "unknown" before there is one."""
        return "unknown" if self._parser is None else self._parser.name

    def feed(self, line: bytes) -> list[Trace]:
        """Take one line without its line end; return the traces on it."""
        if self._parser is not None:
            return self._parser.feed(line)
        self._waiting.append(line)
        found = self._recognise(line)
        if found is not None:
            return self._settle(found)
        return self._give_up() if len(self._waiting) >= _PATIENCE else []

    def finish(self, tail: bytes) -> list[Trace]:
        """Take what stands after the last line end, which may be nothing."""
        traces = self.feed(tail)
        if self._parser is None:
            if any(line.strip() for line in self._waiting):
                self._report.warn(f"{self._origin!r} has no record of a known kind")
            traces += self._give_up()
        assert self._parser is not None
        return traces + self._parser.finish(b"")

    def _recognise(self, line: bytes) -> Callable[[str, SourceReport, Seen], Parser] | None:
        values, _ = decode_line(line, Counter())
        for value in values:
            if isinstance(value, dict):
                for kind in FORMATS:
                    if kind.recognises(value):
                        return kind.parser
        return None

    def _give_up(self) -> list[Trace]:
        """Nothing tells what this is: Claude Code's parser counts the damages of it."""
        return self._settle(claude_code.SessionParser, name="unknown")

    def _settle(
        self, parser: Callable[[str, SourceReport, Seen], Parser], name: str | None = None
    ) -> list[Trace]:
        self._parser = parser(self._origin, self._report, self._seen)
        self._report.formats[name or self._parser.name] += 1
        waiting, self._waiting = self._waiting, []
        return [trace for line in waiting for trace in self._parser.feed(line)]

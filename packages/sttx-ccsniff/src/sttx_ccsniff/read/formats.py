"""Chooses the parser of a file or stream by its first record, never by its name.

The format of another agent is one more entry of `FORMATS`: a function `recognizes(record)` and a parser
class. `register` adds one from outside this package. `docs/adapters.md` explains what a parser must do.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from sttx_ccsniff.claude_code import kinds
from sttx_ccsniff.claude_code import parser as claude_code
from sttx_ccsniff.codex import exec_events
from sttx_ccsniff.codex import parser as codex
from sttx_ccsniff.exports import pairs, rows
from sttx_ccsniff.opencode import export
from sttx_ccsniff.parse import trace_json
from sttx_ccsniff.parse.records import decode_line
from sttx_ccsniff.read import documents, foreign
from sttx_ccsniff.read.documents import Documents
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.errors import UsageError
from sttx_core.text import encodable
from sttx_core.traces import Trace


class Parser(Protocol):
    """Reads the lines of one origin, in order."""

    name: str

    def __init__(self, origin: str, report: SourceReport, seen: Seen) -> None: ...

    def feed(self, line: bytes) -> list[Trace]:
        """Read one line, without its line end; return its traces."""
        ...

    def finish(self, tail: bytes) -> list[Trace]:
        """Read what follows the last line end, which may be empty; return its traces."""
        ...

    def state_dict(self) -> Any:
        """Return everything needed to continue after the last line, JSON-able and never changed later."""
        ...

    def load_state_dict(self, state: Any) -> None:
        """Continue from the state of another parser of the same origin.

        Raises:
            ValueError: The state is invalid.
        """
        ...


class Format(NamedTuple):
    """One format: the function that recognizes its records, and the parser that reads them.

    Where a record spans lines, `begins` recognizes the first lines of a file, joined by line ends.
    """

    recognizes: Callable[[dict[str, Any]], bool]
    parser: type[Parser]
    begins: Callable[[bytes], bool] = lambda head: False


FORMATS = [
    Format(trace_json.recognizes_traces, trace_json.TraceLinesParser),
    Format(pairs.recognizes_pairs, pairs.PairParser),
    Format(rows.recognizes_rows, rows.RowParser),
    Format(codex.recognizes, codex.RolloutParser),
    Format(exec_events.recognizes, exec_events.ExecParser),
    Format(export.recognizes, export.ExportParser, export.begins),
    Format(foreign.recognizes, foreign.ForeignParser),
    Format(kinds.recognizes, claude_code.SessionParser),
]
"""Tried in this order. Claude Code's format comes last, because it accepts the most."""

_PATIENCE = 100
"""Lines without a known record after which they are counted as unknown; later ones are still tried."""

_HEAD_LINES = 8
"""Lines that show how a document begins whose records span lines."""

_MOST_WAITING = 2**20
"""Bytes of such lines after which the same happens; the lines are kept until then."""


def register(recognizes: Callable[[dict[str, Any]], bool], parser: type[Parser]) -> None:
    """Add a format, which all sources opened later try before the known ones.

    Raises:
        UsageError: Another parser has the same name.
    """
    taken = _parser_named(parser.name)
    if taken is not None and taken is not parser:
        raise UsageError(f"a format named {parser.name!r} exists already: give the parser another `name`")
    FORMATS[:] = [Format(recognizes, parser), *(kind for kind in FORMATS if kind.parser is not parser)]


def _parser_named(name: str) -> type[Parser] | None:
    return next((kind.parser for kind in FORMATS if kind.parser.name == name), None)


class AutoParser:
    """Waits for the first record that a format recognizes, then delegates to that format's parser.

    >>> parser = AutoParser("x.jsonl", SourceReport(), Seen())
    >>> [type(trace).__name__ for trace in parser.feed(b'{"prompt":"a","completion":"b"}')], parser.name
    (['Pair'], 'pairs')
    """

    def __init__(
        self, origin: str, report: SourceReport, seen: Seen, recognized: set[str] | None = None
    ) -> None:
        self._origin = encodable(origin)  # a file's name may contain any bytes
        self._report = report
        self._seen = seen
        self._recognized: set[str] = set() if recognized is None else recognized
        self._name = "unknown"
        self._parser: Parser | None = None
        self._waiting: list[bytes] = []
        self._documents: Documents | None = None  # joins records, where they are in an array or span lines
        self._direct: Parser | None = None  # the parser, once it is known and if no records are joined

    @property
    def name(self) -> str:
        """The recognized format; "unknown" if no record was recognized (yet)."""
        return self._name

    @property
    def settled(self) -> bool:
        """Whether no line waits, here for the format to be known, or in the parser for a later line.

        Waiting lines are not redacted yet, so no place that contains them may be saved.
        """
        undecided = getattr(self._parser, "undecided", False) or getattr(self._documents, "undecided", False)
        return self._parser is not None and not undecided

    @property
    def has_uuids(self) -> bool:
        """Whether the parser's records have uuids and it delivers each uuid once."""
        return getattr(self._parser, "has_uuids", False)

    def state_dict(self) -> Any:
        """Return everything needed to continue after the last line; call only when `settled`."""
        assert self._parser is not None
        state = (self._name, self._parser.state_dict())
        return state if self._documents is None else (*state, self._documents.in_array)

    def load_state_dict(self, state: Any) -> None:
        """Continue from the state of another parser of the same origin.

        Raises:
            ValueError: The state is invalid.
        """
        match state:
            case [name, inner, bool(in_array)]:
                self._documents = Documents(self._report, in_array=in_array)
                state = [name, inner]
        match state:
            case ["unknown", _]:
                self._begin(foreign.UnknownParser)
            case [str(name), inner] if parser_class := _parser_named(name):
                parser = parser_class(self._origin, self._report, self._seen)
                parser.load_state_dict(inner)
                self._settle(parser, name)
            case _:
                raise ValueError("not a state of a parser")

    def feed(self, line: bytes) -> list[Trace]:
        """Read one line, without its line end; return its traces."""
        if self._direct is not None and not line.startswith(b"["):
            return self._direct.feed(line)
        if self._documents is not None:
            return self._feed_all(self._documents.feed(line))
        if not self._begins_document(line):
            return self._feed(line)
        joined, self._direct = Documents(self._report), None
        self._documents = joined
        waiting, self._waiting = [*self._waiting, line], []
        return [trace for one in waiting for trace in self._feed_all(joined.feed(one))]

    def finish(self, tail: bytes) -> list[Trace]:
        """Read what follows the last line end, which may be empty; return its traces."""
        traces = self.feed(tail)
        if self._documents is not None:
            traces += self._feed_all(self._documents.finish())
        if self._name == "unknown":
            is_filled = self._parser is not None or any(line.strip() for line in self._waiting)
            if is_filled and not foreign.usual_name(self._origin):
                self._report.warn(foreign.why_unknown(self._origin, self._waiting))
            traces += self._begin(foreign.UnknownParser)
        assert self._parser is not None
        return traces + self._parser.finish(b"")

    def _feed_all(self, records: list[bytes]) -> list[Trace]:
        return [trace for record in records for trace in self._feed(record)]

    def _begins_document(self, line: bytes) -> bool:
        """Return whether records are in an array, or span lines, from this line on."""
        if self._is_recognized:
            return self.settled and documents.begins(line)
        head = b"\n".join([*self._waiting[1 - _HEAD_LINES :], line])
        return documents.begins(head) and not any(kind.begins(head) for kind in FORMATS)

    @property
    def _is_recognized(self) -> bool:
        return self._parser is not None and not isinstance(self._parser, foreign.UnknownParser)

    def _feed(self, line: bytes) -> list[Trace]:
        """Read one record, or a line in which none was recognized yet."""
        if self._parser is not None and self._is_recognized:
            return self._parser.feed(line)
        self._waiting.append(line)
        recognized = self._recognize(line)
        if recognized is not None:
            return self._begin(recognized)
        if self._parser is not None or self._is_hopeless():
            return self._begin(foreign.UnknownParser)
        return []

    def _is_hopeless(self) -> bool:
        return len(self._waiting) >= _PATIENCE or sum(map(len, self._waiting)) > _MOST_WAITING

    def _recognize(self, line: bytes) -> type[Parser] | None:
        values, _ = decode_line(line, Counter())
        for value in values:
            if isinstance(value, dict):
                for kind in FORMATS:
                    if kind.recognizes(value):
                        return kind.parser
        head = b"\n".join(self._waiting[-_HEAD_LINES:])
        return next((kind.parser for kind in FORMATS if kind.begins(head)), None)

    def _begin(self, recognized: type[Parser]) -> list[Trace]:
        """Read the waiting lines with the parser of a format."""
        parser = recognized(self._origin, self._report, self._seen)
        self._settle(parser, parser.name)
        waiting, self._waiting = self._waiting, []
        return [trace for line in waiting for trace in parser.feed(line)]

    def _settle(self, parser: Parser, name: str) -> None:
        was_unknown = isinstance(self._parser, foreign.UnknownParser)
        self._parser, self._name = parser, name
        if self._is_recognized and self._documents is None:
            self._direct = parser
        if self._origin not in self._recognized:
            self._recognized.add(self._origin)
            self._report.formats[name] += 1
        elif was_unknown and name != "unknown":  # recognized only late
            self._report.formats[name] += 1
            self._report.formats.subtract(["unknown"])
            self._report.formats += Counter()  # removes what is 0

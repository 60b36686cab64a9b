"""Which parser reads a file or stream: recognised by its first record, never by its name.

Another agent's format is one more entry of `FORMATS`: a `recognises(record)` and a parser class. `register`
adds one from outside this package. What a parser owes is in `docs/adapters.md`.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from sttx_ccsniff.claude_code import parser as claude_code
from sttx_ccsniff.codex import parser as codex
from sttx_ccsniff.exports import pairs, rows
from sttx_ccsniff.parse import trace_json
from sttx_ccsniff.parse.records import decode_line
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
        """Take one line without its line end; return the traces on it."""
        ...

    def finish(self, tail: bytes) -> list[Trace]:
        """Take what stands after the last line end, which may be nothing."""
        ...

    def state_dict(self) -> Any:
        """Return, JSON-able and never changed afterwards, what must be known to go on after the last line."""
        ...

    def load_state_dict(self, state: Any) -> None:
        """Go on where another parser of this origin gave this state.

        Raises:
            ValueError: It is no such state.
        """
        ...


class Format(NamedTuple):
    """One kind of file: how its records are told from others', and who reads them."""

    recognises: Callable[[dict[str, Any]], bool]
    parser: type[Parser]


FORMATS = [
    Format(trace_json.recognises_traces, trace_json.TraceLinesParser),
    Format(pairs.recognises_pairs, pairs.PairParser),
    Format(rows.recognises_rows, rows.RowParser),
    Format(codex.recognises, codex.RolloutParser),
    Format(claude_code.recognises, claude_code.SessionParser),
]
"""Tried in this order; Claude Code's own comes last, as it takes whatever names a type."""

_PATIENCE = 100
"""Lines without a readable record after which a file is read as Claude Code's, and its damages counted."""

_MOST_WAITING = 2**20
"""Bytes of such lines after which the same is done: they are held until then."""


def register(recognises: Callable[[dict[str, Any]], bool], parser: type[Parser]) -> None:
    """Let all that is opened from now on recognise one more format, before those that are known already.

    Raises:
        UsageError: Another parser has the same name.
    """
    taken = _parser_named(parser.name)
    if taken is not None and taken is not parser:
        raise UsageError(f"a format named {parser.name!r} is there already: give the parser another `name`")
    FORMATS[:] = [Format(recognises, parser), *(kind for kind in FORMATS if kind.parser is not parser)]


def _parser_named(name: str) -> type[Parser] | None:
    if name == "unknown":
        return claude_code.SessionParser
    return next((kind.parser for kind in FORMATS if kind.parser.name == name), None)


class AutoParser:
    """Waits for the first record that a format recognises, then is that format's parser.

    >>> parser = AutoParser("x.jsonl", SourceReport(), Seen())
    >>> [type(trace).__name__ for trace in parser.feed(b'{"prompt":"a","completion":"b"}')], parser.name
    (['Pair'], 'pairs')
    """

    def __init__(
        self, origin: str, report: SourceReport, seen: Seen, recognised: set[str] | None = None
    ) -> None:
        self._origin = encodable(origin)  # a file's name may hold any bytes
        self._report = report
        self._seen = seen
        self._recognised: set[str] = set() if recognised is None else recognised
        self._name = "unknown"
        self._parser: Parser | None = None
        self._waiting: list[bytes] = []

    @property
    def name(self) -> str:
        """The recognised format; "unknown" before there is one, and where there is none."""
        return self._name

    @property
    def settled(self) -> bool:
        """Whether no line waits for a later one: here, for the format to be known, or in its parser.

        What waits was not redacted yet, so that no place is kept that would hold it.
        """
        return self._parser is not None and not getattr(self._parser, "undecided", False)

    @property
    def has_uuids(self) -> bool:
        """Whether the parser says that its records have uuids, of which it lets each through once."""
        return getattr(self._parser, "has_uuids", False)

    def state_dict(self) -> Any:
        """Return what must be known to go on after the last line; only once it is settled."""
        assert self._parser is not None
        return (self._name, self._parser.state_dict())

    def load_state_dict(self, state: Any) -> None:
        """Go on where another parser of this origin gave this state.

        Raises:
            ValueError: It is no such state.
        """
        match state:
            case [str(name), inner] if found := _parser_named(name):
                parser = found(self._origin, self._report, self._seen)
                parser.load_state_dict(inner)
                self._settle(parser, name)
            case _:
                raise ValueError("not a state of a parser")

    def feed(self, line: bytes) -> list[Trace]:
        """Take one line without its line end; return the traces on it."""
        if self._parser is not None:
            return self._parser.feed(line)
        self._waiting.append(line)
        found = self._recognise(line)
        if found is not None:
            return self._begin(found)
        hopeless = len(self._waiting) >= _PATIENCE or sum(map(len, self._waiting)) > _MOST_WAITING
        return self._begin() if hopeless else []

    def finish(self, tail: bytes) -> list[Trace]:
        """Take what stands after the last line end, which may be nothing."""
        traces = self.feed(tail)
        if self._parser is None:
            if any(line.strip() for line in self._waiting):
                self._report.warn(f"{self._origin!r} has no record of a known kind")
            traces += self._begin()
        assert self._parser is not None
        return traces + self._parser.finish(b"")

    def _recognise(self, line: bytes) -> type[Parser] | None:
        values, _ = decode_line(line, Counter())
        for value in values:
            if isinstance(value, dict):
                for kind in FORMATS:
                    if kind.recognises(value):
                        return kind.parser
        return None

    def _begin(self, found: type[Parser] | None = None) -> list[Trace]:
        """Read what waited; where nothing tells what it is, Claude Code's parser counts the damages of it."""
        parser = (found or claude_code.SessionParser)(self._origin, self._report, self._seen)
        self._settle(parser, parser.name if found else "unknown")
        waiting, self._waiting = self._waiting, []
        return [trace for line in waiting for trace in parser.feed(line)]

    def _settle(self, parser: Parser, name: str) -> None:
        self._parser, self._name = parser, name
        if self._origin not in self._recognised:
            self._recognised.add(self._origin)
            self._report.formats[name] += 1

r"""Typed traces as JSON lines, there and back: what `sttx traces --json` prints, and a source reads again.

The first line is `{"sttx_traces": 1}`, the schema's version. Each line after it is one trace: its `type` in
snake case, its `meta`, and its own fields by name. A field that has its default value is left out. Any trace
can be told and read by itself, so the stream may be cut and glued at its line ends.

A later version is refused with one sentence: what it means is not known here. A field that this version does
not know is noted and left out.
"""

import dataclasses
import json
import math
from typing import Any, NamedTuple

import orjson

from sttx_ccsniff.parse.content import shallow
from sttx_ccsniff.parse.records import decode_line
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.traces import (
    AssistantMessage,
    Meta,
    Other,
    Pair,
    SessionEnd,
    Thinking,
    ToolResult,
    ToolUse,
    Trace,
    UserMessage,
    trace_type,
)

VERSION = 1
"""Of the schema that is written; every version up to it can be read."""

HEADER = b'{"sttx_traces":1}'
"""The first line of a stream."""

_CLASSES: dict[str, type[Any]] = {
    "user_message": UserMessage,
    "assistant_message": AssistantMessage,
    "thinking": Thinking,
    "tool_use": ToolUse,
    "tool_result": ToolResult,
    "pair": Pair,
    "session_end": SessionEnd,
    "other": Other,
}
_ANY = object
_MOST = 2**53
_KINDS: dict[str, Any] = {"is_error": bool, "input": _ANY, "raw": (dict, str), "time": float, "segment": int}


_KEYS = {"subagent": "agent"}
"""JSON keys of the fields whose Python name differs. Schema 1 calls a sub-agent "agent"."""


class _Field(NamedTuple):
    """A field of a dataclass: its Python name, its JSON key, and its default (MISSING if it has none)."""

    name: str
    key: str
    default: Any


def _fields_of(dataclass: type[Any]) -> tuple[_Field, ...]:
    """Return the fields of a dataclass, except `meta`."""
    return tuple(
        _Field(field.name, _KEYS.get(field.name, field.name), field.default)
        for field in dataclasses.fields(dataclass)
        if field.name != "meta"
    )


_FIELDS = {name: _fields_of(kind) for name, kind in _CLASSES.items()}
_META = _fields_of(Meta)
_META_KEYS = frozenset(field.key for field in _META)


def dump_trace(trace: Trace) -> bytes:
    """Write a trace as one line of strict JSON, without a line end.

    >>> dump_trace(UserMessage(meta=Meta(session="s", time=1.5), text="Hi"))
    b'{"type":"user_message","meta":{"session":"s","time":1.5},"text":"Hi"}'
    """
    name = trace_type(trace)
    made: dict[str, Any] = {"type": name, "meta": _filled(trace.meta, _META)}
    if not math.isfinite(trace.meta.time):
        made["meta"].pop("time")
    made |= _filled(trace, _FIELDS[name])
    try:
        return orjson.dumps(made)
    except TypeError:  # a number of more than 64 bits, say
        return json.dumps(_finite(made), ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def load_trace(line: bytes) -> Trace:
    """Read a line that `dump_trace` wrote.

    >>> load_trace(dump_trace(Thinking(meta=Meta(session="s"), text="hm"))).text
    'hm'

    Raises:
        ValueError: It is none.
    """
    try:
        value = json.loads(line)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if not isinstance(value, dict):
        raise ValueError(f"a trace is a JSON object, not {type(value).__name__}")
    return _trace_of(value)[0]


def meta_to_json(meta: Meta) -> dict[str, Any]:
    """Return where a trace came from as a JSON object, without what is as it is by default.

    >>> meta_to_json(Meta(session="s", time=1.5))
    {'session': 's', 'time': 1.5}
    """
    return _filled(meta, _META)


def meta_from_json(value: dict[str, Any]) -> Meta:
    """Undo `meta_to_json`.

    Raises:
        ValueError: It is none: a field is missing or of another type.
    """
    return Meta(**_checked(value, _META))


def recognises_traces(record: dict[str, Any]) -> bool:
    """Say whether a JSON object is a stream's header or one of its traces."""
    if "sttx_traces" in record:
        return True
    kind, meta = record.get("type"), record.get("meta")
    return isinstance(kind, str) and kind in _CLASSES and isinstance(meta, dict) and "session" in meta


class TraceLinesParser:
    """Reads typed traces back. All that they say of themselves stays; only their origin is the file now read.

    A record that was delivered before, from here or from the session's own file, is not delivered again.

    >>> parser = TraceLinesParser("x.jsonl", SourceReport(), Seen())
    >>> parser.feed(HEADER), parser.feed(b'{"type":"thinking","meta":{"session":"s"},"text":"hm"}')[0].text
    ([], 'hm')
    """

    name = "sttx-traces"

    def __init__(self, origin: str, report: SourceReport, seen: Seen) -> None:
        self._origin = origin
        self._report = report
        self._seen = seen
        self._version = VERSION
        self._record = ""
        self._repeated = False

    def feed(self, line: bytes) -> list[Trace]:
        """Take one line without its line end; return the traces on it."""
        values, problem = decode_line(line, self._report.noted)
        if problem:
            self._report.damaged(problem)
        traces: list[Trace] = []
        for value in values:
            if isinstance(value, dict):
                traces += self._read(value)
            else:
                self._report.damaged("not an object")
        return traces

    def finish(self, tail: bytes) -> list[Trace]:
        """Take what stands after the last line end."""
        return self.feed(tail)

    def state_dict(self) -> tuple[Any, ...]:
        """All that must be known to go on from here in another process, as JSON can hold it."""
        return (self._version, self._record, self._repeated)

    def load_state_dict(self, state: Any) -> None:
        """Go on where another parser of the same file gave this state.

        Raises:
            ValueError: it is no such state.
        """
        match state:
            case [int(version), str(record), bool(repeated)] if type(version) is int:
                self._version, self._record, self._repeated = version, record, repeated
            case _:
                raise ValueError("not a state of a parser of typed traces")

    def _read(self, value: dict[str, Any]) -> list[Trace]:
        if "sttx_traces" in value:
            self._header(value["sttx_traces"])
            return []
        if self._version > VERSION:
            self._report.damaged("trace of a later version")
            return []
        try:
            trace, unknown = _trace_of(value, self._origin)
        except ValueError as error:
            self._report.damaged(str(error))
            return []
        self._report.records += 1
        if unknown:
            self._report.note("unknown field of a trace")
        return [] if self._is_repeated(trace.meta.uid) else [trace]

    def _header(self, version: Any) -> None:
        if type(version) is not int or version < 1:
            self._report.damaged("version that is no number")
            return
        self._version = version
        if version > VERSION:
            self._report.damaged("header of a later version")
            self._report.warn(
                f"{self._origin!r} holds traces in version {version} of their schema, and this sttx reads "
                f"up to version {VERSION}: update sttx, or write them with this one"
            )
        else:
            self._report.records += 1
            self._report.skip("header")

    def _is_repeated(self, uid: str) -> bool:
        """Traces of one record share its uuid. One that is a number in its file tells nothing."""
        record = uid.partition("#")[0]
        if not record or ":" in record:
            return False
        if record != self._record:
            self._record, self._repeated = record, not self._seen.first_time(record)
        if self._repeated:
            self._report.skip("duplicate uuid")
        return self._repeated


def _filled(value: Any, fields: tuple[_Field, ...]) -> dict[str, Any]:
    """Return the fields of a dataclass instance by JSON key, without those that have their default."""
    filled: dict[str, Any] = {}
    for name, key, default in fields:
        own = getattr(value, name)
        if own != default or default is dataclasses.MISSING:
            filled[key] = own
    return filled


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN: orjson writes null for them, and so does this."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case list():
            return [_finite(item) for item in value]
        case _:
            return value


def _trace_of(value: dict[str, Any], origin: str | None = None) -> tuple[Trace, bool]:
    """The trace that an object describes, and whether it had fields that are not known."""
    name, meta = value.get("type"), value.get("meta")
    if not isinstance(name, str) or name not in _CLASSES:
        raise ValueError("trace of an unknown type")
    if not isinstance(meta, dict):
        raise ValueError("trace without meta")
    told = _checked(meta, _META)
    if origin is not None:
        told["origin"] = origin
    fields = _FIELDS[name]
    own = _checked(value, fields)
    known = len(own) + 2 == len(value) and all(key in _META_KEYS for key in meta)
    return _CLASSES[name](meta=Meta(**told), **own), not known


def _is(value: Any, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, float) and math.isfinite(value)
    return type(value) is int if kind is int else isinstance(value, kind)


def _checked(value: dict[str, Any], fields: tuple[_Field, ...]) -> dict[str, Any]:
    """Return the fields that a JSON object has, by Python name, each checked for its type."""
    checked: dict[str, Any] = {}
    for name, key, default in fields:
        if key not in value:
            if default is dataclasses.MISSING:
                raise ValueError(f"trace without {key}")
            continue
        own = value[key]
        kind = _KINDS.get(name, str)
        if kind is float and type(own) is int and abs(own) <= _MOST:
            own = float(own)
        if not _is(own, kind):
            raise ValueError(f"trace whose {key} is of another type")
        checked[name] = shallow(own) if name in ("input", "raw") else own
    return checked

r"""Writes typed traces as JSON lines and reads them back: the format of `sttx traces --json`.

The first line is `{"sttx_traces": 1}`, the schema's version. Each further line is one trace: its `type` in
snake case, its `meta`, and its own fields by name. A field with its default value is left out. Each trace can
be recognized and read alone, so a stream may be split and joined at its line ends.

Traces of a later version are refused with one warning, because their meaning is not known here. A field that
this version does not know is counted and dropped.
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
"""Version of the schema that is written. All versions up to it can be read."""

TRACES_HEADER = b'{"sttx_traces":1}'
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
    record: dict[str, Any] = {"type": name, "meta": _filled(trace.meta, _META)}
    if not math.isfinite(trace.meta.time):
        record["meta"].pop("time")
    record |= _filled(trace, _FIELDS[name])
    try:
        return orjson.dumps(record)
    except TypeError:  # for example a number of more than 64 bits
        return json.dumps(_finite(record), ensure_ascii=False, separators=(",", ":")).encode(
            "utf-8", "replace"
        )


def load_trace(line: bytes) -> Trace:
    """Read a line that `dump_trace` wrote.

    >>> load_trace(dump_trace(Thinking(meta=Meta(session="s"), text="hm"))).text
    'hm'

    Raises:
        ValueError: The line is not a trace.
    """
    try:
        value = json.loads(line)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if not isinstance(value, dict):
        raise ValueError(f"a trace is a JSON object, not {type(value).__name__}")
    return _trace_of(value)[0]


def meta_to_json(meta: Meta) -> dict[str, Any]:
    """Return a `Meta` as a JSON object, without the fields that have their default value.

    >>> meta_to_json(Meta(session="s", time=1.5))
    {'session': 's', 'time': 1.5}
    """
    return _filled(meta, _META)


def meta_from_json(value: dict[str, Any]) -> Meta:
    """Return the `Meta` that `meta_to_json` wrote.

    Raises:
        ValueError: A field is missing or has another type.
    """
    return Meta(**_checked(value, _META))


def recognizes_traces(record: dict[str, Any]) -> bool:
    """Return whether a JSON object is the header of such a stream or one of its traces."""
    if "sttx_traces" in record:
        return True
    kind, meta = record.get("type"), record.get("meta")
    return isinstance(kind, str) and kind in _CLASSES and isinstance(meta, dict) and "session" in meta


class TraceLinesParser:
    """Reads typed traces back. They are unchanged, except that their origin is the file that is read now.

    A record that was delivered before, from such a stream or from the session's own file, is not repeated.

    >>> parser = TraceLinesParser("x.jsonl", SourceReport(), Seen())
    >>> line = dump_trace(Thinking(meta=Meta(session="s"), text="hm"))
    >>> parser.feed(TRACES_HEADER), parser.feed(line)[0].text
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
        """Read one line, without its line end; return its traces."""
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
        """Read what follows the last line end; return its traces."""
        return self.feed(tail)

    def state_dict(self) -> tuple[Any, ...]:
        """Return everything needed to continue from here in another process, JSON-able."""
        return (self._version, self._record, self._repeated)

    def load_state_dict(self, state: Any) -> None:
        """Continue from the state of another parser of the same file.

        Raises:
            ValueError: The state is invalid.
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
            self._report.damaged("version that is not an integer")
            return
        self._version = version
        if version > VERSION:
            self._report.damaged("header of a later version")
            self._report.warn(
                f"{self._origin!r} holds traces in version {version} of their schema, and this sttx reads "
                f"up to version {VERSION}: update sttx, or write the traces with this version"
            )
        else:
            self._report.records += 1
            self._report.skip("header")

    def _is_repeated(self, uid: str) -> bool:
        """Return whether the record of a trace was delivered before.

        Traces of one record share its uuid. A uid with a colon is a record number, which identifies nothing.
        """
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
    """Replace NaN and infinities, which JSON lacks, by None, as orjson does."""
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
    """Return the trace that an object describes, and whether the object has unknown fields."""
    name, meta = value.get("type"), value.get("meta")
    if not isinstance(name, str) or name not in _CLASSES:
        raise ValueError("trace of an unknown type")
    if not isinstance(meta, dict):
        raise ValueError("trace without meta")
    own_meta = _checked(meta, _META)
    if origin is not None:
        own_meta["origin"] = origin
    fields = _FIELDS[name]
    own = _checked(value, fields)
    known = len(own) + 2 == len(value) and all(key in _META_KEYS for key in meta)
    return _CLASSES[name](meta=Meta(**own_meta), **own), not known


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

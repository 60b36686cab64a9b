"""Turns the lines of Codex CLI's rollouts, `sessions/YYYY/MM/DD/rollout-*.jsonl`, into traces.

A rollout is the file of one *thread*: a session, a fork of one, or a sub-agent of one. An *item* is one piece
of the model's input or output: a message, reasoning, a tool call or its output. The *talk* is all items of
the thread. *Mail* is a message between a session and its sub-agents.

A line is `{"timestamp", "type", "payload"}`. The first is `session_meta`; most others are `response_item` and
hold an item. The first versions (2025) wrote bare items after one line `{"id", "timestamp", "instructions",
"git"}`. Based on codex-rs of 2026, its crates `history` and `protocol`.

No tool call is lost: there are as many `ToolUse` and `ToolResult` traces as there are such items. `event_msg`
lines repeat the items for the screen. They are counted, and read only if a file has no items. Newer versions
repeat the talk as `item_completed` events, which include the tools; if a file has those, they are read and
the other events are not. `items.py` and `thread_items.py` read the items; `thread.py` identifies the session
and sub-agent, and the items copied from another thread.
"""

from collections.abc import Callable
from typing import Any, Literal

import orjson

from sttx_ccsniff.codex.items import COMPACTIONS, ItemReader
from sttx_ccsniff.codex.thread import Thread
from sttx_ccsniff.codex.thread_items import ThreadItemReader, in_snake_case, numbered
from sttx_ccsniff.codex.tokens import TokenTotals
from sttx_ccsniff.parse.content import shallow, text_of
from sttx_ccsniff.parse.project import project_of
from sttx_ccsniff.parse.records import decode_line
from sttx_ccsniff.parse.times import seconds_of
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.traces import Meta, Other, Trace

Record = dict[str, Any]
WaitingEvent = tuple[str, str, int, Any]
"""An event that waits for a decision: its type, its text, the number and the time of its line."""

BOOK_KEEPING = frozenset(
    (
        "inter_agent_communication_metadata",
        "realtime_item",
        "retained_context",
        "security_risk_score",
        "token_usage_record",
        "world_state",
    )
)
"""Types of lines that are known to contain no talk of this thread."""

_TALK = (
    "session_meta",
    "response_item",
    "event_msg",
    "turn_context",
    "compacted",
    "inter_agent_communication",
)
_LINES = BOOK_KEEPING.union(_TALK)
_SPOKEN_EVENTS = {
    "user_message": "message",
    "agent_message": "message",
    "agent_reasoning": "text",
    "item_completed": "item",
}
_MOST_WAITING = 64


def recognizes(record: Record) -> bool:
    """Return whether a JSON object looks like a line of a rollout.

    >>> recognizes({"timestamp": "2026-01-01T00:00:00Z", "type": "session_meta", "payload": {"id": "t"}})
    True
    >>> recognizes({"id": "t", "timestamp": "2025-05-01T00:00:00Z", "instructions": None})
    True
    >>> recognizes({"type": "user", "uuid": "u", "message": {"role": "user", "content": "Hi"}})
    False
    """
    kind = record.get("type")
    if isinstance(kind, str):
        return kind in _LINES and isinstance(record.get("payload"), dict) or _is_bare_item(record, kind)
    if record.get("record_type") == "state" or _is_whole_session(record):
        return True
    return {"id", "timestamp"} <= record.keys() and ("instructions" in record or "git" in record)


def _is_whole_session(record: Record) -> bool:
    """Return whether a record is a whole session in one object, as the very first version wrote it."""
    return isinstance(record.get("session"), dict) and isinstance(record.get("items"), list)


def _is_bare_item(record: Record, kind: str) -> bool:
    """Return whether a record is an item without a wrapper, as the first versions wrote them."""
    if kind == "message":
        return isinstance(record.get("role"), str) and isinstance(record.get("content"), list)
    if kind == "reasoning":
        return isinstance(record.get("summary"), list)
    return kind.endswith(("_call", "_call_output")) and isinstance(record.get("call_id"), str)


class RolloutParser:
    """Reads the lines of one rollout, in order.

    >>> parser = RolloutParser("/x/rollout.jsonl", SourceReport(), Seen())
    >>> item = b'{"type":"message","role":"user","content":[{"type":"input_text","text":"Hi"}]}'
    >>> [(trace.text, trace.document) for trace in parser.feed(item)]
    [('Hi', 'rollout')]
    """

    name = "codex"

    def __init__(self, origin: str, report: SourceReport, seen: Seen) -> None:
        self._report = report
        self._items = ItemReader(report, seen)
        self._complete_items = ThreadItemReader(report, seen)
        self._thread = Thread(origin, seen)
        self._tokens = TokenTotals()
        self._model = ""
        self._segment = 0
        self._just_cut = False
        self._record_count = 0  # records read so far
        self._line_ordinal: int | None = None  # the `ordinal` of this line; older versions write none
        self._line_number = 0  # of this line, for its uid: its ordinal, or else the count
        # Whether events are read, all or only completed items; None until an item or a second prompt.
        self._by_events: bool | Literal["completed"] | None = None
        self._waiting: tuple[WaitingEvent, ...] = ()
        # Tokens since the last state, as (model, tokens, speaker).
        self._uncounted: list[tuple[str, dict[str, int], tuple[str, str]]] = []
        self._handlers: dict[str, Callable[[Record, Record], list[Trace]]] = {
            "session_meta": self._session_meta,
            "response_item": self._item,
            "event_msg": self._event,
            "turn_context": self._turn_context,
            "compacted": self._compacted,
            "inter_agent_communication": self._mail,
        }

    @property
    def undecided(self) -> bool:
        """Whether events wait for later lines to decide if they are read."""
        return bool(self._waiting)

    def state_dict(self) -> tuple[Any, ...]:
        """Return everything needed to continue from here, JSON-able; the result never changes later."""
        self._count_tokens()
        return (
            self._thread.state_dict(),
            self._tokens.state_dict(),
            (self._model, self._segment, self._just_cut, self._record_count),
            self._by_events,
            self._waiting,
        )

    def load_state_dict(self, state: Any) -> None:
        """Continue from the state of another parser of the same file.

        Raises:
            ValueError: The state is invalid.
        """
        match state:
            case [
                thread,
                totals,
                [str(model), int(segment), bool(just_cut), int(records)],
                True | False | None | "completed" as by_events,
                [*waiting],
            ]:
                self._thread.load_state_dict(thread)
                self._tokens.load_state_dict(totals)
                self._waiting = tuple(_waiting_event(event) for event in waiting)
                self._model, self._segment, self._just_cut, self._record_count = (
                    model,
                    segment,
                    just_cut,
                    records,
                )
                self._by_events = by_events
            case _:
                raise ValueError("not a state of a parser of Codex rollouts")

    def feed(self, line: bytes) -> list[Trace]:
        """Read one line, without its line end; return its traces."""
        values, problem = decode_line(line, self._report.noted)
        if problem:
            self._report.damaged(problem)
        return [trace for value in values for trace in self._record(value)]

    def finish(self, tail: bytes) -> list[Trace]:
        """Read what follows the last line end; without items, answered events become the traces."""
        traces = self.feed(tail)
        if any(kind == "agent_message" or _is_answer(kind, text) for kind, text, *_ in self._waiting):
            traces += self._settle_on_events()
        self._count_tokens()
        return traces

    def _count_tokens(self) -> None:
        """Count the tokens since the last place.

        While events wait, no place is saved, and a later run reads all lines after the last one again.
        """
        for usage in self._uncounted:
            self._report.used(*usage)
        self._uncounted.clear()

    def _record(self, record: Any) -> list[Trace]:
        report = self._report
        if not isinstance(record, dict):
            report.damaged("not an object")
            return []
        if _is_whole_session(record):
            return [trace for part in (record["session"], *record["items"]) for trace in self._record(part)]
        report.records += 1
        self._record_count += 1
        ordinal = record.get("ordinal")
        self._line_ordinal = ordinal if type(ordinal) is int and ordinal >= 0 else None
        self._line_number = self._record_count if self._line_ordinal is None else self._line_ordinal
        kind, payload = record.get("type"), record.get("payload")
        if not isinstance(kind, str):
            return self._untyped(record)
        if kind in BOOK_KEEPING:
            report.skip(kind)
            return []
        handler = self._handlers.get(kind)
        if handler is None:
            return self._other(record, kind) if "payload" in record else self._item(record, record)
        if not isinstance(payload, dict):
            report.damaged(f"{kind} without content")
            return []
        return handler(record, payload)

    def _untyped(self, record: Record) -> list[Trace]:
        """Read a line of the oldest format that is not an item: the session's description, or a state."""
        if "record_type" in record:
            self._report.skip("state")
            return []
        return self._session_meta(record, record) if "id" in record else self._other(record, "untyped")

    def _other(self, record: Record, kind: str) -> list[Trace]:
        return self._new([Other(meta=self._meta(record), kind=kind, raw=shallow(record))], self._line_number)

    # The context of the talk

    def _session_meta(self, record: Record, payload: Record) -> list[Trace]:
        del record
        if isinstance(payload.get("id"), str) and payload["id"]:
            self._report.skip("session_meta")
            self._thread.begin(payload)
        else:
            self._report.damaged("session_meta without an id")
        return []

    def _turn_context(self, record: Record, payload: Record) -> list[Trace]:
        del record
        self._report.skip("turn_context")
        if isinstance(model := payload.get("model"), str):
            self._model = model
        self._thread.project = self._thread.project or project_of(payload.get("cwd"), "")
        return []

    def _compacted(self, record: Record, payload: Record) -> list[Trace]:
        del record, payload
        self._report.skip("compaction summary")
        self._cut()
        return []

    def _cut(self) -> None:
        """Start a new segment, once per compaction: it can write an item, a line and an event."""
        if not self._just_cut:
            self._segment += 1
            self._just_cut = True

    # The talk

    def _item(self, record: Record, item: Record) -> list[Trace]:
        kind = text_of(item.get("type"))
        if kind in COMPACTIONS:
            self._drop_events()
            return self._compacted(record, item)
        traces = self._items.traces(item, self._meta(record))
        if traces or kind != "message":  # a file whose only items are the context may have its talk in events
            self._drop_events()
        return self._new(traces, self._line_number, text_of(item.get("id")))

    def _mail(self, record: Record, mail: Record) -> list[Trace]:
        return self._new(self._items.mail(mail, self._meta(record)), self._line_number)

    def _new(self, traces: list[Trace], number: int, name: str = "") -> list[Trace]:
        """Return the traces of an item, or none if it was delivered before, from this file or another."""
        if not traces:
            return traces
        reason = self._thread.why_not_new(traces, number, self._line_ordinal, name)
        if reason:
            self._report.skip(reason)
            return []
        self._just_cut = False
        return traces

    # Events: counted, and read only if the file has no items

    def _event(self, record: Record, event: Record) -> list[Trace]:
        kind = text_of(event.get("type"))
        if kind in _SPOKEN_EVENTS and self._by_events is not False:
            return self._spoken_event(record, event, kind)
        if kind == "token_count":
            used = self._tokens.used(event.get("info"), inherits=self._thread.inherits)
            if used and not self._thread.is_copying(self._line_ordinal):
                self._uncounted.append((self._model, used, self._thread.speaker))
        elif kind == "context_compacted":
            self._cut()
        elif kind == "thread_rolled_back":
            self._report.note("rewind")
        self._report.skip(f"event: {kind}")
        return []

    def _spoken_event(self, record: Record, event: Record, kind: str) -> list[Trace]:
        """Keep an event until an item, a second prompt or the end decides whether events are read."""
        stamp, text = record.get("timestamp"), text_of(event.get(_SPOKEN_EVENTS[kind]))
        is_stamp = isinstance(stamp, str) or type(stamp) in (int, float)
        waiting = (kind, text, self._line_number, stamp if is_stamp else None)
        if self._by_events:
            return self._event_traces(waiting)
        again = _is_prompt(kind, text) and any(
            kind == before and _is_prompt(before, said) for before, said, *_ in self._waiting
        )
        if len(self._waiting) < _MOST_WAITING and not again:
            self._waiting = (*self._waiting, waiting)
            return []
        return self._settle_on_events() + self._event_traces(waiting)

    def _settle_on_events(self) -> list[Trace]:
        waiting, self._waiting = self._waiting, ()
        self._by_events = "completed" if any(kind == "item_completed" for kind, *_ in waiting) else True
        what = "completed items" if self._by_events == "completed" else "events"
        self._report.note(f"rollout of {what} alone")
        return [trace for event in waiting for trace in self._event_traces(event)]

    def _event_traces(self, event: WaitingEvent) -> list[Trace]:
        kind, text, number, stamp = event
        if (kind == "item_completed") != (self._by_events == "completed"):
            self._report.skip(f"event: {kind}")
            return []
        meta = self._thread.meta(number, seconds_of(stamp, self._report), self._segment)
        if kind == "item_completed":
            item = _item_in(text)
            if item["type"] == "context_compaction":
                return self._compacted(item, item)
            name = text_of(item.get("id"))
            return self._new(numbered(self._complete_items.traces(item, meta, name)), number, name)
        if kind == "agent_reasoning":
            return self._new(self._items.thinking(text, {}, meta), number)
        role = "user" if kind == "user_message" else "assistant"
        return self._new(self._items.message({"role": role, "content": [text]}, meta), number)

    def _drop_events(self) -> None:
        for kind, *_ in self._waiting:
            self._report.skip(f"event: {kind}")
        self._waiting = ()
        self._by_events = False

    # Where a trace came from

    def _meta(self, record: Record) -> Meta:
        return self._thread.meta(
            self._line_number, seconds_of(record.get("timestamp"), self._report), self._segment
        )


def _waiting_event(value: Any) -> WaitingEvent:
    match value:
        case [str(kind), str(text), int(number), str() | int() | float() | None as stamp] if (
            kind in _SPOKEN_EVENTS
        ):
            return kind, text, number, stamp
        case _:
            raise ValueError("not a state of a parser of Codex rollouts")


def _item_in(text: str) -> Record:
    """Return the completed item in an event's text; without one, an item of no type."""
    try:
        item = orjson.loads(text)
    except orjson.JSONDecodeError:
        item = None
    return in_snake_case(item if isinstance(item, dict) else {})


def _is_prompt(kind: str, text: str) -> bool:
    return kind == "user_message" or kind == "item_completed" and _item_in(text)["type"] == "user_message"


def _is_answer(kind: str, text: str) -> bool:
    return kind == "item_completed" and not _is_prompt(kind, text)

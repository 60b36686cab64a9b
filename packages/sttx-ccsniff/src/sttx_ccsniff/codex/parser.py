"""Codex CLI's rollouts become traces: the files `sessions/YYYY/MM/DD/rollout-*.jsonl`, old and new.

A line is `{"timestamp", "type", "payload"}`: first `session_meta`, then mostly `response_item`, which is what
went to the model and what came from it: the talk. The first versions (2025) wrote bare items, after one line
of `{"id", "timestamp", "instructions", "git"}`. Written from codex-rs of 2026, `history` and `protocol`.

No tool call is lost: the numbers of `ToolUse` and `ToolResult` equal those of the items that are calls and
outputs. `event_msg` lines repeat the items for a screen: they are counted, and read only where a file has no
items. What an item says is known in `codex_items`; whose voice a file is, and what of it is copied from
another, in `codex_thread`.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sttx_ccsniff.codex.items import COMPACTIONS, ItemReader
from sttx_ccsniff.codex.thread import Thread
from sttx_ccsniff.codex.tokens import TokenTotals
from sttx_ccsniff.parse.content import shallow, text_of
from sttx_ccsniff.parse.project import project_of
from sttx_ccsniff.parse.records import decode_line
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.traces import Meta, Other, Trace

Record = dict[str, Any]
Held = tuple[str, str, int, Any]
"""An event that waits: its type, its text, the number and the time of its line."""

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
"""Types of lines that are known to hold no talk of this thread."""

_TALK = (
    "session_meta",
    "response_item",
    "event_msg",
    "turn_context",
    "compacted",
    "inter_agent_communication",
)
_LINES = BOOK_KEEPING.union(_TALK)
_SPOKEN_EVENTS = {"user_message": "message", "agent_message": "message", "agent_reasoning": "text"}
_MOST_HELD = 64


def recognises(record: Record) -> bool:
    """Say whether a JSON object looks like a line of a rollout.

    >>> recognises({"timestamp": "2026-01-01T00:00:00Z", "type": "session_meta", "payload": {"id": "t"}})
    True
    >>> recognises({"id": "t", "timestamp": "2025-05-01T00:00:00Z", "instructions": None})
    True
    >>> recognises({"type": "user", "uuid": "u", "message": {"role": "user", "content": "Hi"}})
    False
    """
    kind = record.get("type")
    if isinstance(kind, str):
        return kind in _LINES and isinstance(record.get("payload"), dict) or _is_bare_item(record, kind)
    if record.get("record_type") == "state":
        return True
    return {"id", "timestamp"} <= record.keys() and ("instructions" in record or "git" in record)


def _is_bare_item(record: Record, kind: str) -> bool:
    """The first versions wrote items without a wrapper."""
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
        self._thread = Thread(origin, seen)
        self._tokens = TokenTotals()
        self._model = ""
        self._segment = 0
        self._just_cut = False
        self._records = 0
        self._ordinal: int | None = None
        self._number = 0
        self._by_events: bool | None = None  # None: there were neither items nor two prompts yet
        self._held: tuple[Held, ...] = ()
        self._unpaid: list[tuple[str, dict[str, int], tuple[str, str]]] = []  # told since the last state
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
        """Whether events wait for what comes to tell if they are read."""
        return bool(self._held)

    def state_dict(self) -> tuple[Any, ...]:
        """What must be known to go on in mid-file, as JSON can hold it; it never changes afterwards."""
        self._pay()
        return (
            self._thread.state_dict(),
            self._tokens.totals,
            (self._model, self._segment, self._just_cut, self._records),
            self._by_events,
            self._held,
        )

    def load_state_dict(self, state: Any) -> None:
        """Go on where another parser of the same file gave this state.

        Raises:
            ValueError: It is no such state.
        """
        match state:
            case [
                thread,
                totals,
                [str(model), int(segment), bool(just_cut), int(records)],
                True | False | None as by_events,
                [*held],
            ]:
                self._thread.load_state_dict(thread)
                self._tokens.load_state_dict(totals)
                self._held = tuple(_held(one) for one in held)
                self._model, self._segment, self._just_cut, self._records = model, segment, just_cut, records
                self._by_events = by_events
            case _:
                raise ValueError("not a state of a parser of Codex rollouts")

    def feed(self, line: bytes) -> list[Trace]:
        """Take one line without its line end; return the traces on it."""
        values, problem = decode_line(line, self._report.noted)
        if problem:
            self._report.damaged(problem)
        return [trace for value in values for trace in self._record(value)]

    def finish(self, tail: bytes) -> list[Trace]:
        """Take what stands after the last line end; events that were answered speak where no items do."""
        traces = self.feed(tail)
        if any(kind == "agent_message" for kind, *_ in self._held):
            traces += self._settle_on_events()
        self._pay()
        return traces

    def _pay(self) -> None:
        """Count the tokens told since the last place: while events are held, all behind it is read again."""
        for told in self._unpaid:
            self._report.used(*told)
        self._unpaid.clear()

    def _record(self, record: Any) -> list[Trace]:
        report = self._report
        if not isinstance(record, dict):
            report.damaged("not an object")
            return []
        report.records += 1
        self._records += 1
        ordinal = record.get("ordinal")
        self._ordinal = ordinal if type(ordinal) is int and ordinal >= 0 else None
        self._number = self._records if self._ordinal is None else self._ordinal
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
        """Beside its items, the oldest format has one line of what the session is, and lines of state."""
        if "record_type" in record:
            self._report.skip("state")
            return []
        return self._session_meta(record, record) if "id" in record else self._other(record, "untyped")

    def _other(self, record: Record, kind: str) -> list[Trace]:
        return self._new([Other(meta=self._meta(record), kind=kind, raw=shallow(record))], self._number)

    # What is talked in

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
        """One compaction is told by up to three lines: an item, a line of its own and an event."""
        if not self._just_cut:
            self._segment += 1
            self._just_cut = True

    # The talk

    def _item(self, record: Record, item: Record) -> list[Trace]:
        self._drop_events()
        if text_of(item.get("type")) in COMPACTIONS:
            return self._compacted(record, item)
        return self._new(self._items.traces(item, self._meta(record)), self._number)

    def _mail(self, record: Record, mail: Record) -> list[Trace]:
        return self._new(self._items.task(mail, self._meta(record)), self._number)

    def _new(self, traces: list[Trace], number: int) -> list[Trace]:
        """Drop the traces of an item that was delivered before, from this file or another."""
        if not traces:
            return traces
        reason = self._thread.why_not_new(traces, number, self._ordinal)
        if reason:
            self._report.skip(reason)
            return []
        self._just_cut = False
        return traces

    # Events: counted, unless nothing else tells of the talk

    def _event(self, record: Record, event: Record) -> list[Trace]:
        kind = text_of(event.get("type"))
        if kind in _SPOKEN_EVENTS and self._by_events is not False:
            return self._spoken(record, event, kind)
        if kind == "token_count":
            used = self._tokens.grew(event.get("info"), inherits=self._thread.inherits)
            if used and not self._thread.is_copying(self._ordinal):
                self._unpaid.append((self._model, used, self._thread.speaker))
        elif kind == "context_compacted":
            self._cut()
        elif kind == "thread_rolled_back":
            self._report.note("rewind")
        self._report.skip(f"event: {kind}")
        return []

    def _spoken(self, record: Record, event: Record, kind: str) -> list[Trace]:
        """Hold what a screen was told, until a second prompt or the end shows that there are no items."""
        stamp, text = record.get("timestamp"), text_of(event.get(_SPOKEN_EVENTS[kind]))
        told = (kind, text, self._number, stamp if isinstance(stamp, str) else None)
        if self._by_events:
            return self._tell(told)
        if len(self._held) < _MOST_HELD and not (kind == "user_message" and self._held):
            self._held = (*self._held, told)
            return []
        return self._settle_on_events() + self._tell(told)

    def _settle_on_events(self) -> list[Trace]:
        self._by_events = True
        self._report.note("rollout of events alone")
        held, self._held = self._held, ()
        return [trace for told in held for trace in self._tell(told)]

    def _tell(self, told: Held) -> list[Trace]:
        kind, text, number, stamp = told
        meta = self._thread.meta(number, self._time(stamp), self._segment)
        if kind == "agent_reasoning":
            return self._new(self._items.thinking(text, {}, meta), number)
        role = "user" if kind == "user_message" else "assistant"
        return self._new(self._items.message({"role": role, "content": [text]}, meta), number)

    def _drop_events(self) -> None:
        for kind, *_ in self._held:
            self._report.skip(f"event: {kind}")
        self._held = ()
        self._by_events = False

    # Where a trace came from

    def _meta(self, record: Record) -> Meta:
        return self._thread.meta(self._number, self._time(record.get("timestamp")), self._segment)

    def _time(self, stamp: Any) -> float:
        if stamp is None:
            return 0.0
        try:
            time = datetime.fromisoformat(stamp)
            return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
        except (TypeError, ValueError, OverflowError):
            self._report.note("unparsable timestamp")
            return 0.0


def _held(one: Any) -> Held:
    match one:
        case [str(kind), str(text), int(number), str() | None as stamp] if kind in _SPOKEN_EVENTS:
            return kind, text, number, stamp
        case _:
            raise ValueError("not a state of a parser of Codex rollouts")

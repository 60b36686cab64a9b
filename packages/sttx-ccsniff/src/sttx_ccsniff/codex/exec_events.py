"""Turns the output of `codex exec --json` into traces.

It is a stream of events: `thread.started`, then turns, then items as they start, change and complete. It does
not contain the prompt, times or the model's name. The call of a tool is read when its item starts, its result
when the item completes. A run that continues a thread prints `thread.started` with the same id again, and
numbers its items from 0; so a call's id includes the number of the run. Where the rollout of the thread was
read before, which has all of this and more, the run is only counted.
"""

from typing import Any

from sttx_ccsniff.codex.thread import rollout_of
from sttx_ccsniff.codex.thread_items import ThreadItemReader, in_snake_case, numbered
from sttx_ccsniff.codex.tokens import TokenTotals
from sttx_ccsniff.parse.content import shallow, text_of
from sttx_ccsniff.parse.project import project_of
from sttx_ccsniff.parse.records import decode_line
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.traces import Meta, Other, Trace

Record = dict[str, Any]

_TURNS = ("turn.started", "turn.completed", "turn.failed")
_ITEMS = ("item.started", "item.updated", "item.completed")
_MODEL = "model not named"
_MOST_STARTED = 256


def recognizes(record: Record) -> bool:
    """Return whether a JSON object looks like an event of `codex exec --json`.

    >>> recognizes({"type": "thread.started", "thread_id": "t"}), recognizes({"type": "item.completed"})
    (True, False)
    """
    kind = record.get("type")
    if kind == "thread.started":
        return isinstance(record.get("thread_id"), str)
    if kind in _ITEMS:
        return isinstance(record.get("item"), dict)
    return kind in _TURNS and "payload" not in record and "data" not in record


class ExecParser:
    """Reads the output of one or more runs, in order.

    >>> parser = ExecParser("run.jsonl", SourceReport(), Seen())
    >>> line = b'{"type":"item.completed","item":{"id":"item_0","type":"agent_message","text":"Hi"}}'
    >>> [(trace.text, trace.meta.uid) for trace in parser.feed(line)]
    [('Hi', 'run:1')]
    """

    name = "codex-exec"

    def __init__(self, origin: str, report: SourceReport, seen: Seen) -> None:
        self._origin, self._report, self._seen = origin, report, seen
        self._items = ThreadItemReader(report, seen)
        self._thread = origin.replace("\\", "/").rpartition("/")[2].split(".")[0] or "-"
        self._totals = TokenTotals()
        self._runs = 0
        self._records = 0  # in the file
        self._of_run = 0  # in the run
        self._started: tuple[str, ...] = ()  # calls without a result yet, newest first

    def feed(self, line: bytes) -> list[Trace]:
        """Read one line, without its line end; return its traces."""
        values, problem = decode_line(line, self._report.noted)
        if problem:
            self._report.damaged(problem)
        return [trace for value in values for trace in self._record(value)]

    def finish(self, tail: bytes) -> list[Trace]:
        """Read what follows the last line end; return its traces."""
        return self.feed(tail)

    def state_dict(self) -> tuple[Any, ...]:
        """Return everything needed to continue from here, JSON-able; the result never changes later."""
        counts = (self._runs, self._records, self._of_run)
        return (self._thread, counts, self._totals.state_dict(), self._started)

    def load_state_dict(self, state: Any) -> None:
        """Continue from the state of another parser of the same file.

        Raises:
            ValueError: The state is invalid.
        """
        match state:
            case [str(thread), [int(runs), int(records), int(of_run)], totals, [*started]] if all(
                isinstance(call, str) for call in started
            ):
                self._totals.load_state_dict(totals)
                self._thread, self._started = thread, tuple(started)
                self._runs, self._records, self._of_run = runs, records, of_run
            case _:
                raise ValueError("not a state of a parser of `codex exec --json`")

    def _record(self, record: Any) -> list[Trace]:
        if not isinstance(record, dict):
            self._report.damaged("not an object")
            return []
        self._report.records += 1
        self._records += 1
        self._of_run += 1
        kind, item = text_of(record.get("type")), record.get("item")
        if kind != "thread.started" and self._seen.knows(rollout_of(self._thread)):
            self._report.skip("event of a run whose rollout was read")
            return []
        if kind in _ITEMS and isinstance(item, dict):
            return self._item(kind, record, in_snake_case(item))
        if kind == "thread.started":
            self._start(text_of(record.get("thread_id")))
        elif kind == "turn.completed":
            used = self._totals.used({"total_token_usage": record.get("usage")})
            if used:
                self._report.used(_MODEL, used, (self._thread, ""))
        elif kind not in ("error", *_TURNS, *_ITEMS):
            return [Other(meta=self._meta(), kind=kind or "untyped", raw=shallow(record))]
        self._report.skip(f"event: {kind}")
        return []

    def _start(self, thread: str) -> None:
        if thread and thread != self._thread:
            self._thread, self._totals = thread, TokenTotals()
        self._runs += 1
        self._of_run = 0
        self._started = ()

    def _item(self, event: str, record: Record, item: Record) -> list[Trace]:
        key = f"codex exec {self._thread} {self._runs} {self._of_run} {text_of(record)}"
        if not self._seen.first_time(key):
            self._report.skip("duplicate record")
            return []
        call = f"{self._thread}:{self._runs}:{text_of(item.get('id'))}"
        started = call in self._started
        if event == "item.completed":
            self._started = tuple(other for other in self._started if other != call)
            traces = self._items.traces(item, self._meta(), call, started=started)
        elif event == "item.started" or item["type"] == "todo_list":  # each change of a plan is a call
            traces = self._items.call(item, self._meta(), call)
        else:
            traces = []
        if event != "item.completed" and traces and not started:
            self._started = (call, *self._started[: _MOST_STARTED - 1])
        if not traces and not (event == "item.completed" and not started):
            self._report.skip(f"event: {event}")
        return numbered(traces)

    def _meta(self) -> Meta:
        return Meta(
            session=self._thread,
            project=project_of(None, self._origin),
            uid=f"{self._thread}:{self._records}",
            origin=self._origin,
        )

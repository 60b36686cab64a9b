"""`check_source` passes a sound source and names the rule that each broken one breaks."""

import dataclasses
import queue
import random
import threading

import pytest

from sttx_core.checks import check_source
from sttx_core.traces import AssistantMessage, Meta, Other, ToolResult, ToolUse, UserMessage


def stream():
    traces = []
    for number in range(10):
        meta = Meta(session="s", uid=f"u{number}", origin="/a" if number % 3 else "/b")
        kinds = [
            UserMessage(meta=meta, text=f"question {number}"),
            AssistantMessage(meta=meta, text="answer"),
            ToolUse(meta=meta, name="Bash", input={"lone": "\ud800"}),
            ToolResult(meta=meta, name="Bash", output="ok"),
            Other(meta=meta, kind="summary", raw={}),
        ]
        traces.append(kinds[number % 5])
    return traces


class Sound:
    """Reads in a thread, one trace ahead. Each broken source overrides one method."""

    def __init__(self, cursor=None):
        self.had = dict(cursor or {})
        self.cursor = dict(cursor or {})
        self.queue = queue.Queue(maxsize=1)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.produce, name="toy source", daemon=True)
        self.thread.start()

    def traces(self):
        return stream()

    def is_new(self, trace):
        left = self.had.get(trace.meta.origin, 0)
        self.had[trace.meta.origin] = left - 1
        return left <= 0

    def produce(self):
        for trace in [*(trace for trace in self.traces() if self.is_new(trace)), None]:
            while not self.stopping.is_set():
                try:
                    self.queue.put(trace, timeout=0.01)
                    break
                except queue.Full:
                    continue

    def __iter__(self):
        while (trace := self.queue.get()) is not None:
            self.note(trace)
            yield trace

    def note(self, trace):
        """Count a trace as taken by the consumer."""
        self.cursor[trace.meta.origin] = self.cursor.get(trace.meta.origin, 0) + 1

    def close(self):
        self.stopping.set()
        self.thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Empty(Sound):
    def traces(self):
        return []


class Changed(Sound):
    """One field of one trace differs."""

    number, part, change = 0, "", {}

    def traces(self):
        traces = stream()
        if self.part == "meta":
            self.change = {"meta": dataclasses.replace(traces[self.number].meta, **self.change)}
        traces[self.number] = dataclasses.replace(traces[self.number], **self.change)
        return traces


class NoUid(Changed):
    number, part, change = 3, "meta", {"uid": ""}


class NoOrigin(Changed):
    number, part, change = 4, "meta", {"origin": ""}


class LoneSurrogate(Changed):
    number, change = 5, {"text": "lone \udc00"}


class BytesAsOutput(Changed):
    number, change = 3, {"output": b"bytes"}


class Shuffled(Sound):
    def traces(self):
        return random.sample(stream(), 10)


class FreshUids(Sound):
    def traces(self):
        return [
            dataclasses.replace(trace, meta=dataclasses.replace(trace.meta, uid=str(random.random())))
            for trace in stream()
        ]


class IgnoresTheCursor(Sound):
    def is_new(self, trace):
        return True


class RunsAhead(Sound):
    """Its cursor counts the traces that it read, not those that were taken."""

    def is_new(self, trace):
        new = super().is_new(trace)
        if new:
            super().note(trace)
        return new

    def note(self, trace):
        pass


class CountsWithoutOrigin(Sound):
    def __init__(self, cursor=None):
        self.left = max((cursor or {}).values(), default=0)
        super().__init__(cursor)

    def is_new(self, trace):
        self.left -= 1
        return self.left < 0


class LeavesItsThread(Sound):
    def close(self):
        pass


class ClosesOnce(Sound):
    def close(self):
        if self.stopping.is_set():
            raise RuntimeError("already closed")
        super().close()


def test_a_sound_source_passes():
    check_source(Sound)


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (Empty, "the source has no traces"),
        (NoUid, r"trace 3 \(tool_result\) has no uid"),
        (NoOrigin, r"trace 4 \(other\) has no origin"),
        (LoneSurrogate, r"text of trace 5 \(user_message\) holds a lone surrogate"),
        (BytesAsOutput, r"output of trace 3 \(tool_result\) is bytes, not str"),
        (Shuffled, "other traces the second time"),
        (FreshUids, "other traces the second time"),
        (IgnoresTheCursor, "resumed after 1 of 10"),
        (CountsWithoutOrigin, "resumed after"),
        (RunsAhead, "resumed after"),
    ],
)
def test_a_broken_source_is_caught(broken, complaint):
    with pytest.raises(AssertionError, match=complaint):
        check_source(broken)


def test_threads_left_running_are_named(monkeypatch):
    monkeypatch.setattr("sttx_core.checks.source._PATIENCE", 0.2)
    made = []

    def factory(cursor=None):
        made.append(LeavesItsThread(cursor))
        return made[-1]

    with pytest.raises(AssertionError, match="closed unread left threads running: toy source"):
        check_source(factory)
    for source in made:
        Sound.close(source)


def test_closing_twice_must_be_allowed():
    with pytest.raises(RuntimeError, match="already closed"):
        check_source(ClosesOnce)

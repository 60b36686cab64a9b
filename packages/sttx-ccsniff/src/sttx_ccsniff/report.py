"""What a source says about itself: how much came in, as what, and what did not become a trace, and why."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sttx_core.render import render
from sttx_core.traces import Trace, trace_type

TRACE_TYPES = (
    "user_message",
    "assistant_message",
    "thinking",
    "tool_use",
    "tool_result",
    "pair",
    "session_end",
    "other",
)
_MOST_REASONS = 200
_LONGEST_REASON = 80
_MOST_SPEAKERS = 100_000
_MOST_MODELS = 50
_log = logging.getLogger("sttx_ccsniff")


@dataclass(kw_only=True)
class SourceReport:
    """Counts of one source, kept while it is read.

    What the reader meets (`records`, `malformed`, `skipped`, ...) runs ahead of what was handed to the
    consumer (`traces`, `sessions`) by at most the queue's capacity; at the end they agree.

    Attributes:
        records: JSON records read.
        traces: Traces delivered, by type.
        sessions: Sessions that delivered traces, the first 100,000.
        subagents: Sub-agents that delivered traces, as (session, sub-agent), the first 100,000.
        bytes_read: Bytes read, after decompression.
        text_bytes: UTF-8 bytes of the traces that the consumer gave to `measure`, rendered.
        malformed: What could not be read at all, by reason.
        skipped: Records and blocks that are no traces, by reason.
        noted: What was repaired or is odd, but lost nothing, by reason.
        formats: Files and streams, by recognised format.
        already_delivered: Traces dropped because the cursor says that an earlier run had them.
        redacted: Secrets and private names taken out of traces, by rule.
        usage: Tokens that models were paid for, by model and kind, each message once.
        usage_by_speaker: The same by session and sub-agent ("" for the session itself).
        warnings: What a person should know, in the order it was said.
        say: Called with each warning as it is said.
    """

    records: int = 0
    traces: Counter[str] = field(default_factory=Counter)
    sessions: set[str] = field(default_factory=set)
    subagents: set[tuple[str, str]] = field(default_factory=set)
    bytes_read: int = 0
    text_bytes: int = 0
    malformed: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    already_delivered: int = 0
    redacted: Counter[str] = field(default_factory=Counter)
    usage: dict[str, Counter[str]] = field(default_factory=dict)
    usage_by_speaker: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    say: Callable[[str], None] | None = None

    def skip(self, reason: str) -> None:
        """Count something that is deliberately not a trace."""
        _count(self.skipped, reason)

    def damaged(self, reason: str) -> None:
        """Count something that could not be read."""
        _count(self.malformed, reason)

    def note(self, reason: str) -> None:
        """Count something repaired or odd."""
        _count(self.noted, reason)

    def used(self, model: str, tokens: Mapping[str, int], speaker: tuple[str, str] = ("", "")) -> None:
        """Count tokens that a model was paid for, by a session and its sub-agent where that is known.

        >>> report = SourceReport()
        >>> report.used("some-model", {"input_tokens": 3})
        >>> report.usage
        {'some-model': Counter({'input_tokens': 3})}
        """
        model = model[:_LONGEST_REASON]
        if model not in self.usage and len(self.usage) >= _MOST_MODELS:
            model = "further models"
        _add(self.usage, model, tokens)
        if speaker[0] and (speaker in self.usage_by_speaker or len(self.usage_by_speaker) < _MOST_SPEAKERS):
            _add(self.usage_by_speaker, speaker, tokens)

    def warn(self, message: str) -> None:
        """Tell the person something, once: a message already said is not repeated."""
        if message in self.warnings:
            return
        self.warnings.append(message)
        if self.say is None:
            _log.warning(message)
        else:
            self.say(message)

    def delivered(self, trace: Trace) -> None:
        """Count a trace handed to the consumer."""
        self.traces[trace_type(trace)] += 1
        meta = trace.meta
        if len(self.sessions) < _MOST_SPEAKERS:
            self.sessions.add(meta.session)
        if meta.subagent and len(self.subagents) < _MOST_SPEAKERS:
            self.subagents.add((meta.session, meta.subagent))

    def measure(self, trace: Trace) -> None:
        """Count the text of a delivered trace: left to who wants to know, for it takes as long as reading."""
        self.text_bytes += len(render(trace).encode())

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON can hold it; every type of trace is there, also with 0.

        >>> SourceReport().as_dict()["traces"]["tool_use"]
        0
        """
        return {
            "records": self.records,
            "traces": {name: self.traces[name] for name in TRACE_TYPES},
            "sessions": len(self.sessions),
            "agents": len(self.subagents),
            "bytes_read": self.bytes_read,
            "text_bytes": self.text_bytes,
            "malformed": self.malformed.total(),
            "malformed_by_reason": dict(self.malformed),
            "skipped": dict(self.skipped),
            "noted": dict(self.noted),
            "formats": dict(self.formats),
            "already_delivered": self.already_delivered,
            "redacted": dict(self.redacted),
            "usage": {model: dict(tokens) for model, tokens in self.usage.items()},
            "warnings": list(self.warnings),
        }


def _add(counters: dict[Any, Counter[str]], key: Any, counts: Mapping[str, int]) -> None:
    counter = counters.get(key)
    if counter is None:
        counter = counters[key] = Counter()
    for kind, count in counts.items():
        counter[kind] += count


def _count(counter: Counter[str], reason: str) -> None:
    reason = reason[:_LONGEST_REASON]
    if reason not in counter and len(counter) >= _MOST_REASONS:
        reason = "further reasons"
    counter[reason] += 1

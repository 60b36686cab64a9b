"""Counts of one source: how much was read, as which traces, and what did not become a trace and why."""

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
    """Counts of one source, updated while it is read.

    The reader's counts (`records`, `malformed`, `skipped`, ...) are ahead of the consumer's (`traces`,
    `sessions`) by at most the queue's capacity. At the end they agree.

    Attributes:
        records: JSON records read.
        traces: Traces delivered, by type.
        sessions: Sessions that delivered traces, the first 100,000.
        subagents: Sub-agents that delivered traces, as (session, sub-agent), the first 100,000.
        bytes_read: Bytes read, after decompression.
        text_bytes: UTF-8 bytes of the rendered traces that the consumer passed to `measure`.
        malformed: What could not be read at all, by reason.
        skipped: Records and blocks that are deliberately not traces, by reason.
        noted: What was repaired or is unusual, without loss, by reason.
        formats: Files and streams, by recognized format.
        already_delivered: Traces dropped because, by the cursor, an earlier run took them.
        redacted: Secrets and private names removed from traces, by rule.
        usage: Tokens billed, by model and kind, each message once.
        usage_by_speaker: Tokens billed, by (session, sub-agent) and kind; sub-agent "" is the session itself.
        warnings: What a person should know, in order.
        say: Called with each new warning; by default warnings are logged.
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
        """Count something repaired or unusual."""
        _count(self.noted, reason)

    def used(self, model: str, tokens: Mapping[str, int], speaker: tuple[str, str] = ("", "")) -> None:
        """Count billed tokens of a model, also by speaker: (session, sub-agent), ("", "") if unknown.

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
        """Warn the person, once per message."""
        if message in self.warnings:
            return
        self.warnings.append(message)
        if self.say is None:
            _log.warning(message)
        else:
            self.say(message)

    def delivered(self, trace: Trace) -> None:
        """Count a trace that the consumer took."""
        self.traces[trace_type(trace)] += 1
        meta = trace.meta
        if len(self.sessions) < _MOST_SPEAKERS:
            self.sessions.add(meta.session)
        if meta.subagent and len(self.subagents) < _MOST_SPEAKERS:
            self.subagents.add((meta.session, meta.subagent))

    def measure(self, trace: Trace) -> None:
        """Add the size of a delivered trace's text to `text_bytes`. Optional: it takes as long as reading."""
        self.text_bytes += len(render(trace).encode())

    def as_dict(self) -> dict[str, Any]:
        """Return the report as a JSON-able object; every trace type is present, even with count 0.

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

"""Lists the sessions of a source, and puts the traces of one session in reading order.

Sub-agents are listed under the session that started them. In reading order a sub-agent's traces follow the
call that started it. That call is known if a tool result names the sub-agent, or if a call's prompt is the
sub-agent's first message; otherwise the sub-agent is placed by its first timestamp. This file does not know
how sessions are displayed.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sttx_core.errors import UsageError
from sttx_core.traces import SessionEnd, ToolResult, ToolUse, Trace, UserMessage

_MOST_NAMED = 5


@dataclass(kw_only=True)
class SessionSummary:
    """What one session, or one sub-agent of a session, contains.

    Attributes:
        session: Identity of the session.
        subagent: Identity of the sub-agent; "" for the session itself.
        project: What it worked on.
        start: Unix seconds of the earliest trace that has a time; 0 if none has.
        end: Unix seconds of the latest trace that has a time; 0 if none has.
        traces: Number of traces.
        tools: Number of calls of each tool.
        children: Its sub-agents, and the sessions that name it as their parent, ordered by time.
    """

    session: str
    subagent: str = ""
    project: str = ""
    start: float = 0.0
    end: float = 0.0
    traces: int = 0
    tools: Counter[str] = field(default_factory=Counter)
    children: list["SessionSummary"] = field(default_factory=list)

    def add(self, trace: Trace) -> None:
        """Count one trace."""
        meta = trace.meta
        self.project = self.project or meta.project
        if meta.time > 0:
            self.start = min(self.start or meta.time, meta.time)
            self.end = max(self.end, meta.time)
        self.traces += 1
        if isinstance(trace, ToolUse):
            self.tools[trace.name] += 1


_Summaries = dict[tuple[str, str], SessionSummary]
"""Summaries by session and sub-agent."""


def list_sessions(traces: Iterable[Trace]) -> list[SessionSummary]:
    """Read all traces; return the sessions ordered by time, the newest last.

    >>> from sttx_core.traces import Meta, UserMessage
    >>> [one] = list_sessions([UserMessage(meta=Meta(session="s", subagent="a", parent="s"), text="Hi")])
    >>> one.session, one.traces, [child.subagent for child in one.children]
    ('s', 0, ['a'])
    """
    summaries: _Summaries = {}
    parents: dict[str, str] = {}
    for trace in traces:
        if isinstance(trace, SessionEnd):
            continue
        meta = trace.meta
        session, subagent = meta.session, meta.subagent
        if subagent:
            summaries.setdefault((session, ""), SessionSummary(session=session, project=meta.project))
        elif meta.parent:
            parents[session] = meta.parent
        summary = SessionSummary(session=session, subagent=subagent)
        summaries.setdefault((session, subagent), summary).add(trace)
    top: list[SessionSummary] = []
    for summary in summaries.values():
        above = summary.session if summary.subagent else _top_of(summary.session, parents, summaries)
        parent = summaries[above, ""]
        (top if parent is summary else parent.children).append(summary)
    for summary in summaries.values():
        summary.children.sort(key=_by_time)
    return sorted(top, key=_by_time)


def session_traces(traces: Iterable[Trace], name: str) -> list[Trace]:
    """Read all traces; return those of the one session whose identity is `name` or starts with it.

    Raises:
        UsageError: No session or several sessions match.
    """
    if not name:
        raise UsageError("the name of the session is empty; is a variable unset?")
    matching: dict[str, list[Trace]] = {}
    for trace in traces:
        if trace.meta.session.startswith(name) and not isinstance(trace, SessionEnd):
            matching.setdefault(trace.meta.session, []).append(trace)
    if name in matching:
        return matching[name]
    if not matching:
        raise UsageError(f"no session's identity starts with {name!r}: `sttx traces SOURCE` lists them")
    if len(matching) > 1:
        named = ", ".join(map(repr, sorted(matching)[:_MOST_NAMED]))
        more = f" and {len(matching) - _MOST_NAMED} more" if len(matching) > _MOST_NAMED else ""
        raise UsageError(f"{len(matching)} sessions start with {name!r}: {named}{more}; use a longer prefix")
    return next(iter(matching.values()))


def in_reading_order(traces: Iterable[Trace]) -> Iterator[tuple[int, Trace]]:
    """Yield a session's traces in reading order, each with its depth.

    A sub-agent's traces follow the call that started it.

    >>> from sttx_core.traces import Meta, UserMessage
    >>> times = [("", 1), ("", 9), ("a", 5)]
    >>> talk = [UserMessage(meta=Meta(session="s", subagent=a, time=at), text=str(at)) for a, at in times]
    >>> [(depth, trace.text) for depth, trace in in_reading_order(talk)]
    [(0, '1'), (1, '5'), (0, '9')]
    """
    by_subagent: dict[str, list[Trace]] = {"": []}
    for trace in traces:
        by_subagent.setdefault(trace.meta.subagent, []).append(trace)
    starts = _starts(by_subagent)
    waiting = dict.fromkeys(subagent for subagent in by_subagent if subagent)
    stack = [(0, iter(by_subagent[""]))]
    while stack or waiting:
        if not stack:  # no trace starts the remaining sub-agents, or they start each other
            subagent = next(iter(waiting))
            del waiting[subagent]
            stack.append((1, iter(by_subagent[subagent])))
        depth, rest = stack[-1]
        trace = next(rest, None)
        if trace is None:
            stack.pop()
            continue
        yield depth, trace
        for subagent in reversed(starts.get(id(trace), [])):
            if subagent in waiting:
                del waiting[subagent]
                stack.append((depth + 1, iter(by_subagent[subagent])))


def _starts(by_subagent: dict[str, list[Trace]]) -> dict[int, list[str]]:
    """Return the sub-agents that start after a trace, by the trace's `id()`."""
    every = [trace for traces in by_subagent.values() for trace in traces]
    calls = {trace.id: trace for trace in every if isinstance(trace, ToolUse) and trace.id}
    started: dict[str, Trace] = {}
    answered: set[str] = set()
    for trace in every:
        if isinstance(trace, ToolResult) and trace.subagent and trace.subagent != trace.meta.subagent:
            started.setdefault(trace.subagent, calls.get(trace.id, trace))
            answered.add(trace.id)
    starts: dict[int, list[str]] = {}
    prompts = _calls_by_prompt(every, answered)
    first_times = {subagent: _first_time(traces) for subagent, traces in by_subagent.items() if subagent}
    for subagent in sorted(first_times, key=first_times.__getitem__):
        start = started.get(subagent) or _call_with_first_prompt(by_subagent[subagent], prompts)
        start = start or _last_before(by_subagent[""], first_times[subagent])
        if start is not None:
            starts.setdefault(id(start), []).append(subagent)
    return starts


def _calls_by_prompt(traces: list[Trace], answered: set[str]) -> dict[str, list[Trace]]:
    """Return the calls whose results name no sub-agent, by the prompt in their input."""
    prompts: dict[str, list[Trace]] = {}
    for trace in traces:
        if isinstance(trace, ToolUse) and trace.id not in answered:
            prompt = trace.input.get("prompt") if isinstance(trace.input, dict) else None
            if isinstance(prompt, str):
                prompts.setdefault(prompt, []).append(trace)
    return prompts


def _call_with_first_prompt(traces: list[Trace], prompts: dict[str, list[Trace]]) -> Trace | None:
    """Return the first remaining call whose prompt is a sub-agent's first message, and remove it."""
    first = traces[0]
    calls = prompts.get(first.text) if isinstance(first, UserMessage) else None
    return calls.pop(0) if calls else None


def _first_time(traces: list[Trace]) -> float:
    return next((trace.meta.time for trace in traces if trace.meta.time > 0), 0.0)


def _last_before(traces: list[Trace], time: float) -> Trace | None:
    """Return the last trace that is not later than `time`; None if `time` is 0, which means unknown."""
    if not time:
        return None
    return next((trace for trace in reversed(traces) if 0 < trace.meta.time <= time), None)


def _top_of(session: str, parents: dict[str, str], summaries: _Summaries) -> str:
    """Return the outermost ancestor of a session: itself if it has none, or if the ancestry is a cycle."""
    visited = {session}
    at = session
    while (above := parents.get(at)) is not None and (above, "") in summaries:
        if above in visited:
            return session
        visited.add(above)
        at = above
    return at


def _by_time(summary: SessionSummary) -> tuple[float, str, str]:
    first = min((child.start for child in summary.children if child.start), default=0.0)
    return summary.start or first, summary.session, summary.subagent

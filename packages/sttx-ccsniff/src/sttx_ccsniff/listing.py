"""Traces as a person looks for them: the sessions of a source, and one session in the order of reading.

Sub-agents stand under the session that started them, and are read at the call that did: a tool's result names
the sub-agent that gave it, or a call's prompt is what the sub-agent was told first; otherwise its first time
says where. Knows nothing of terminals.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sttx_core.errors import UsageError
from sttx_core.traces import SessionEnd, ToolResult, ToolUse, Trace, UserMessage

_MOST_NAMED = 5


@dataclass(kw_only=True)
class Voice:
    """One session, or one of its sub-agents.

    Attributes:
        session: Identity of the session.
        agent: Identity of the sub-agent; "" for the session itself.
        project: What it worked on.
        start: Unix seconds of its first trace that has a time; 0 if none has.
        end: The same of its last.
        traces: How many there are.
        tools: Calls by tool.
        children: Its sub-agents, and the sessions that name it as their parent, in the order of time.
    """

    session: str
    agent: str = ""
    project: str = ""
    start: float = 0.0
    end: float = 0.0
    traces: int = 0
    tools: Counter[str] = field(default_factory=Counter)
    children: list["Voice"] = field(default_factory=list)

    def take(self, trace: Trace) -> None:
        """Count one trace of this voice."""
        meta = trace.meta
        self.project = self.project or meta.project
        if meta.time > 0:
            self.start = min(self.start or meta.time, meta.time)
            self.end = max(self.end, meta.time)
        self.traces += 1
        if isinstance(trace, ToolUse):
            self.tools[trace.name] += 1


def list_sessions(traces: Iterable[Trace]) -> list[Voice]:
    """Read traces to their end; return the sessions in the order of time, the newest last.

    >>> from sttx_core.traces import Meta, UserMessage
    >>> [voice] = list_sessions([UserMessage(meta=Meta(session="s", agent="a", parent="s"), text="Hi")])
    >>> voice.session, voice.traces, [child.agent for child in voice.children]
    ('s', 0, ['a'])
    """
    voices: dict[tuple[str, str], Voice] = {}
    parents: dict[str, str] = {}
    for trace in traces:
        if isinstance(trace, SessionEnd):
            continue
        meta = trace.meta
        if meta.agent:
            voices.setdefault((meta.session, ""), Voice(session=meta.session, project=meta.project))
        elif meta.parent:
            parents[meta.session] = meta.parent
        voices.setdefault((meta.session, meta.agent), Voice(session=meta.session, agent=meta.agent)).take(
            trace
        )
    top: list[Voice] = []
    for voice in voices.values():
        above = (voice.session, "") if voice.agent else (_top_of(voice.session, parents, voices), "")
        (top if voices[above] is voice else voices[above].children).append(voice)
    for voice in voices.values():
        voice.children.sort(key=_by_time)
    return sorted(top, key=_by_time)


def session_traces(traces: Iterable[Trace], name: str) -> list[Trace]:
    """Read traces to their end; return those of the session whose identity is, or alone begins with, a name.

    Raises:
        UsageError: There is none, or more than one.
    """
    if not name:
        raise UsageError("the name of the session is empty; is a variable unset?")
    found: dict[str, list[Trace]] = {}
    for trace in traces:
        if trace.meta.session.startswith(name) and not isinstance(trace, SessionEnd):
            found.setdefault(trace.meta.session, []).append(trace)
    if name in found:
        return found[name]
    if not found:
        raise UsageError(f"no session's identity begins with {name!r}: `sttx traces SOURCE` lists them")
    if len(found) > 1:
        named = ", ".join(map(repr, sorted(found)[:_MOST_NAMED]))
        more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
        raise UsageError(f"{len(found)} sessions begin with {name!r}: {named}{more}; say more of one")
    return next(iter(found.values()))


def in_reading_order(traces: Iterable[Trace]) -> Iterator[tuple[int, Trace]]:
    """Put a session's traces in the order of reading, each with its depth: sub-agents where they began.

    >>> from sttx_core.traces import Meta, UserMessage
    >>> spoken = [("", 1), ("", 9), ("a", 5)]
    >>> talk = [UserMessage(meta=Meta(session="s", agent=who, time=at), text=str(at)) for who, at in spoken]
    >>> [(depth, trace.text) for depth, trace in in_reading_order(talk)]
    [(0, '1'), (1, '5'), (0, '9')]
    """
    voices: dict[str, list[Trace]] = {"": []}
    for trace in traces:
        voices.setdefault(trace.meta.agent, []).append(trace)
    starts = _starts(voices)
    waiting = dict.fromkeys(agent for agent in voices if agent)
    stack = [(0, iter(voices[""]))]
    while stack or waiting:
        if not stack:  # started by nobody here, or each by another
            agent = next(iter(waiting))
            del waiting[agent]
            stack.append((1, iter(voices[agent])))
        depth, rest = stack[-1]
        trace = next(rest, None)
        if trace is None:
            stack.pop()
            continue
        yield depth, trace
        for agent in reversed(starts.get(id(trace), [])):
            if agent in waiting:
                del waiting[agent]
                stack.append((depth + 1, iter(voices[agent])))


def _starts(voices: dict[str, list[Trace]]) -> dict[int, list[str]]:
    """After which trace (by its id as an object) sub-agents begin."""
    every = [trace for spoken in voices.values() for trace in spoken]
    calls = {trace.id: trace for trace in every if isinstance(trace, ToolUse) and trace.id}
    started: dict[str, Trace] = {}
    answered: set[str] = set()
    for trace in every:
        if isinstance(trace, ToolResult) and trace.agent and trace.agent != trace.meta.agent:
            started.setdefault(trace.agent, calls.get(trace.id, trace))
            answered.add(trace.id)
    starts: dict[int, list[str]] = {}
    prompts = _prompts(every, answered)
    for agent in sorted((agent for agent in voices if agent), key=lambda agent: _first_time(voices[agent])):
        at = started.get(agent) or _asked(voices[agent], prompts)
        at = at or _last_before(voices[""], _first_time(voices[agent]))
        if at is not None:
            starts.setdefault(id(at), []).append(agent)
    return starts


def _prompts(traces: list[Trace], answered: set[str]) -> dict[str, list[Trace]]:
    """The calls of which no result says whose it is, by the prompt that they give."""
    prompts: dict[str, list[Trace]] = {}
    for trace in traces:
        if isinstance(trace, ToolUse) and trace.id not in answered:
            prompt = trace.input.get("prompt") if isinstance(trace.input, dict) else None
            if isinstance(prompt, str):
                prompts.setdefault(prompt, []).append(trace)
    return prompts


def _asked(traces: list[Trace], prompts: dict[str, list[Trace]]) -> Trace | None:
    """The first call left whose prompt a voice was told first."""
    first = traces[0]
    calls = prompts.get(first.text) if isinstance(first, UserMessage) else None
    return calls.pop(0) if calls else None


def _first_time(traces: list[Trace]) -> float:
    return next((trace.meta.time for trace in traces if trace.meta.time > 0), 0.0)


def _last_before(traces: list[Trace], time: float) -> Trace | None:
    """The last trace that is not later; none where there is no time to go by."""
    if not time:
        return None
    return next((trace for trace in reversed(traces) if 0 < trace.meta.time <= time), None)


def _top_of(session: str, parents: dict[str, str], voices: dict[tuple[str, str], Voice]) -> str:
    """The outermost session over one: itself where nobody started it, or where they started each other."""
    visited = {session}
    at = session
    while (above := parents.get(at)) is not None and (above, "") in voices:
        if above in visited:
            return session
        visited.add(above)
        at = above
    return at


def _by_time(voice: Voice) -> tuple[float, str, str]:
    first = min((child.start for child in voice.children if child.start), default=0.0)
    return voice.start or first, voice.session, voice.agent

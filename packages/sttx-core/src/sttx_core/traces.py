"""Traces: the typed events of a coding agent's session, in one union.

Each is a frozen dataclass that carries a `Meta`: where it came from. Consumers take them apart with `match`.
This file does not know how a trace is parsed (sttx-ccsniff does that) or written as text (`render` does).
"""

from dataclasses import dataclass
from typing import Any, TypeAlias, assert_never

Json: TypeAlias = Any
"""What a JSON document can hold: dict, list, str, int, float, bool or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """Where a trace came from.

    Attributes:
        session: Identity of the session, as its program names it.
        project: What the session worked on, usually a folder's name; "" if unknown.
        time: Unix seconds; 0 if unknown.
        uid: Stable identity of this trace: the same record gives the same uid in every run.
        origin: The file or stream it was read from, which is what cursors count by.
        subagent: Identity of the sub-agent that spoke; "" for the session itself.
        parent: The session that started this one; "" if nobody did.
        segment: Number of compaction cuts before this trace in its session.
    """

    session: str
    project: str = ""
    time: float = 0.0
    uid: str = ""
    origin: str = ""
    subagent: str = ""
    parent: str = ""
    segment: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Traced:
    """What every trace has."""

    meta: Meta

    @property
    def document(self) -> str:
        """Identity of the stream of text that this trace continues; carried state is kept per document.

        A sub-agent's talk is a document beside its session's, and a compaction starts a new one.

        >>> UserMessage(meta=Meta(session="s", subagent="a", segment=2), text="hi").document
        's/a#2'
        """
        meta = self.meta
        name = f"{meta.session}/{meta.subagent}" if meta.subagent else meta.session
        return f"{name}#{meta.segment}" if meta.segment else name


@dataclass(frozen=True, slots=True, kw_only=True)
class UserMessage(_Traced):
    """What the person typed."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantMessage(_Traced):
    """What the agent answered."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinking(_Traced):
    """What the agent thought aloud before it answered."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse(_Traced):
    """A call of a tool: `input` is the JSON value that it was given, `id` joins it to its result."""

    name: str
    input: Json
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult(_Traced):
    """What a tool gave back: `name` and `id` are those of the `ToolUse` that it answers.

    Where the tool was a sub-agent, `subagent` is its identity, as the `meta` of its own traces has it.
    """

    name: str
    output: str
    is_error: bool = False
    id: str = ""
    subagent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair(_Traced):
    """A prompt and its completion, where only the completion is to be paid for."""

    prompt: str
    completion: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnd(_Traced):
    """Nothing more is expected of this document: only a source that follows what is written can say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Other(_Traced):
    """A record that is not one of the above, kept as it came: `kind` is what it calls itself."""

    kind: str
    raw: dict[str, Json] | str


Trace: TypeAlias = (
    UserMessage | AssistantMessage | Thinking | ToolUse | ToolResult | Pair | SessionEnd | Other
)
"""Any one event."""


def trace_type(trace: Trace) -> str:
    """Name a trace's type in snake case, as reports count it.

    >>> trace_type(ToolUse(meta=Meta(session="s"), name="Bash", input={"command": "ls"}))
    'tool_use'
    """
    match trace:
        case UserMessage():
            return "user_message"
        case AssistantMessage():
            return "assistant_message"
        case Thinking():
            return "thinking"
        case ToolUse():
            return "tool_use"
        case ToolResult():
            return "tool_result"
        case Pair():
            return "pair"
        case SessionEnd():
            return "session_end"
        case Other():
            return "other"
        case _:
            assert_never(trace)

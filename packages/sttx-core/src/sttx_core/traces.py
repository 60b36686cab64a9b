"""Traces: the typed events of a coding agent's session, in one union.

Each is a frozen dataclass with a `Meta` that says where it came from. Use `match` to tell them apart. This
file does not know how a trace is parsed (see sttx-ccsniff) or written as text (see `render`).
"""

from dataclasses import dataclass
from typing import Any, TypeAlias, assert_never

Json: TypeAlias = Any
"""Any JSON value: dict, list, str, int, float, bool or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """Where a trace came from.

    Attributes:
        session: Identity of the session, as its agent names it.
        project: What the session worked on, usually the name of a folder; "" if unknown.
        time: Unix seconds; 0 if unknown.
        uid: Stable identity of this trace: the same record gives the same uid in every run.
        origin: The file or stream it was read from; cursors have one place for each origin.
        subagent: Identity of the sub-agent that spoke; "" for the session itself.
        parent: The session that started this one; "" if none did.
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
    """Base of all traces."""

    meta: Meta

    @property
    def document(self) -> str:
        """Identity of the document that this trace continues; each document has its own carried state.

        A sub-agent has a document of its own, and a compaction starts a new document.

        >>> UserMessage(meta=Meta(session="s", subagent="a", segment=2), text="hi").document
        's/a#2'
        """
        meta = self.meta
        name = f"{meta.session}/{meta.subagent}" if meta.subagent else meta.session
        return f"{name}#{meta.segment}" if meta.segment else name


@dataclass(frozen=True, slots=True, kw_only=True)
class UserMessage(_Traced):
    """A message that the person typed."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantMessage(_Traced):
    """An answer of the agent."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinking(_Traced):
    """A thought that the agent wrote before its answer."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse(_Traced):
    """A call of a tool with the JSON value `input`; `id` links it to its result."""

    name: str
    input: Json
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult(_Traced):
    """The result of a tool call: `name` and `id` are those of the `ToolUse` that it answers.

    Where the tool was a sub-agent, `subagent` is its identity, as the `meta` of its own traces has it.
    """

    name: str
    output: str
    is_error: bool = False
    id: str = ""
    subagent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair(_Traced):
    """A prompt and its completion; only the completion is paid for."""

    prompt: str
    completion: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnd(_Traced):
    """The document has ended; only a source that follows files as they are written reports this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Other(_Traced):
    """Any other record, unchanged; `kind` is the type that it names itself."""

    kind: str
    raw: dict[str, Json] | str


Trace: TypeAlias = (
    UserMessage | AssistantMessage | Thinking | ToolUse | ToolResult | Pair | SessionEnd | Other
)
"""Any one event."""


def trace_type(trace: Trace) -> str:
    """Return the name of a trace's type in snake case, as reports count it.

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

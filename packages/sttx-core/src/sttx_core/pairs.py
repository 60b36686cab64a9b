"""Turns a stream of traces into pairs of prompt and completion, where only the completion is paid for.

What the agent produced (a message, a thought, a tool call) is a completion; its prompt is what its document
said since the one before (the person's messages, the results of tools). Every trace gives exactly one trace,
so that whoever counts traces counts the same with pairs and without: what only adds to a prompt becomes an
`Other`, which renders to nothing.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any

from sttx_core.errors import UsageError
from sttx_core.render import render
from sttx_core.traces import (
    AssistantMessage,
    Other,
    Pair,
    SessionEnd,
    Thinking,
    ToolResult,
    ToolUse,
    Trace,
    UserMessage,
)

_ASSISTANT = "Assistant: "


class PairMaker:
    r"""Makes pairs, one trace at a time, at bounded memory.

    Args:
        documents: most documents with a prompt that waits; the least recently used one's is forgotten.
        longest: most characters of a prompt; the oldest go first.

    >>> from sttx_core.traces import Meta
    >>> maker, meta = PairMaker(), Meta(session="s")
    >>> maker.pair(UserMessage(meta=meta, text="2+2?")).kind
    'prompt'
    >>> render(maker.pair(AssistantMessage(meta=meta, text="4")))
    'User: 2+2?\n\nAssistant: 4\n\n'
    """

    def __init__(self, *, documents: int = 64, longest: int = 1 << 16) -> None:
        if documents < 1 or longest < 1:
            raise UsageError(f"documents and longest must be at least 1, not {documents!r} and {longest!r}")
        self._documents, self._longest = documents, longest
        self._prompts: OrderedDict[str, str] = OrderedDict()

    def pair(self, trace: Trace) -> Trace:
        """Return the one trace that a trace gives; what waits for a completion moves on."""
        match trace:
            case UserMessage(text=text):
                return self._asked(trace, text)
            case ToolResult():
                return self._asked(trace, render(trace))
            case AssistantMessage() | Thinking() | ToolUse():
                completion = render(trace).removeprefix(_ASSISTANT).strip()
                if not completion:
                    return Other(meta=trace.meta, kind="empty", raw="")
                prompt = self._prompts.pop(trace.document, "")
                return Pair(meta=trace.meta, prompt=prompt, completion=completion)
            case SessionEnd():
                self._prompts.pop(trace.document, None)
                return trace
            case _:
                return trace

    def _asked(self, trace: Trace, text: str) -> Other:
        waiting = self._prompts.pop(trace.document, "")
        text = text.strip()
        joined = f"{waiting}\n{text}" if waiting and text else waiting or text
        if joined:
            self._prompts[trace.document] = joined[-self._longest :]
        if len(self._prompts) > self._documents:
            self._prompts.popitem(last=False)
        return Other(meta=trace.meta, kind="prompt", raw="")

    def state_dict(self) -> dict[str, Any]:
        """Return what waits, JSON-able, in order."""
        return {"prompts": list(self._prompts.items())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Hold exactly what `state_dict` described."""
        self._prompts = OrderedDict((document, prompt) for document, prompt in state["prompts"])


def to_pairs(traces: Iterable[Trace]) -> Iterator[Trace]:
    """Turn a whole stream into pairs; as many traces come out as went in, each with its own `meta`.

    >>> from sttx_core.traces import Meta
    >>> meta = Meta(session="s")
    >>> talk = [UserMessage(meta=meta, text="Go."), ToolUse(meta=meta, name="Bash", input={"command": "ls"})]
    >>> [type(trace).__name__ for trace in to_pairs(talk)]
    ['Other', 'Pair']
    """
    maker = PairMaker()
    return (maker.pair(trace) for trace in traces)

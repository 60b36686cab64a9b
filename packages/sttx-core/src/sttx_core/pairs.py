"""Turns a stream of traces into pairs of prompt and completion, where only the completion is paid for.

A completion is what the agent produced: a message, a thought or a tool call. Its prompt is everything else
in its document since the last completion: the person's messages and the results of tools. Every trace gives
exactly one trace, so the number of traces is the same with pairs and without. A trace that only extends a
prompt becomes an `Other`, which renders to nothing.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any

from sttx_core.errors import UsageError
from sttx_core.render import render
from sttx_core.saved_state import State, checked, damaged
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


class _Saved(State):
    """What `PairMaker.state_dict` returns."""

    prompts: list[tuple[str, str]]


class PairMaker:
    r"""Makes pairs, one trace at a time, in bounded memory.

    Args:
        documents: most documents with a pending prompt; the least recently used prompt is dropped first.
        longest: most characters of a prompt; the oldest ones are dropped first.

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
        """Return the trace to use instead of this one, and update the pending prompt of its document."""
        match trace:
            case UserMessage(text=text):
                return self._extend_prompt(trace, text)
            case ToolResult():
                return self._extend_prompt(trace, render(trace))
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

    def _extend_prompt(self, trace: Trace, text: str) -> Other:
        pending = self._prompts.pop(trace.document, "")
        text = text.strip()
        joined = f"{pending}\n{text}" if pending and text else pending or text
        if joined:
            self._prompts[trace.document] = joined[-self._longest :]
        if len(self._prompts) > self._documents:
            self._prompts.popitem(last=False)
        return Other(meta=trace.meta, kind="prompt", raw="")

    def state_dict(self) -> dict[str, Any]:
        """Return the pending prompts, JSON-able, least recently used first."""
        return {"prompts": list(self._prompts.items())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly from what `state_dict` returned.

        Raises:
            CheckpointError: the state is damaged, or of a maker with higher limits; nothing is changed.
        """
        prompts = OrderedDict(saved := checked(_Saved, state, "prompts").prompts)
        if len(prompts) != len(saved) or len(prompts) > self._documents:
            raise damaged("prompts", f"a document has two prompts, or there are more than {self._documents}")
        if max(map(len, prompts.values()), default=0) > self._longest:
            raise damaged("prompts", f"a prompt has more than {self._longest} characters")
        self._prompts = prompts


def to_pairs(traces: Iterable[Trace]) -> Iterator[Trace]:
    """Yield one trace for each input trace, with the same `meta`: a `Pair` for each completion.

    >>> from sttx_core.traces import Meta
    >>> meta = Meta(session="s")
    >>> talk = [UserMessage(meta=meta, text="Go."), ToolUse(meta=meta, name="Bash", input={"command": "ls"})]
    >>> [type(trace).__name__ for trace in to_pairs(talk)]
    ['Other', 'Pair']
    """
    maker = PairMaker()
    return (maker.pair(trace) for trace in traces)

"""Turns the items of a Codex rollout, which are the model's input and output, into traces.

An item is a message, reasoning, a tool call, its output, or a message between a session and its sub-agents.
Each item is read alone; the only memory is the tool of each call. `codex/text.py` extracts the text of an
item and decides which of it a person typed.
"""

from typing import Any

import orjson

from sttx_ccsniff.codex.text import (
    error_in,
    mail_in,
    mail_text,
    output_text,
    part_text,
    reasoning_text,
    subagent_in,
    typed_text,
)
from sttx_ccsniff.parse.content import shallow, text_of
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.traces import AssistantMessage, Meta, Other, Thinking, ToolResult, ToolUse, Trace, UserMessage

Item = dict[str, Any]

COMPACTIONS = frozenset(("compaction", "compaction_summary", "context_compaction"))
"""Items that replace all talk before them."""

_SILENT = frozenset(("additional_tools", "ghost_snapshot", "other"))


class ItemReader:
    """Reads the items of any thread.

    >>> item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]}
    >>> [trace.text for trace in ItemReader(SourceReport(), Seen()).traces(item, Meta(session="s"))]
    ['Hi']
    """

    def __init__(self, report: SourceReport, seen: Seen) -> None:
        self._report = report
        self._seen = seen

    def traces(self, item: Item, meta: Meta) -> list[Trace]:
        """Return the traces of an item; count it if it has none."""
        kind = text_of(item.get("type"))
        if kind in _SILENT:
            self._report.skip(kind.replace("_", " "))
            return []
        if kind == "message":
            return self.message(item, meta)
        if kind == "agent_message":
            return self.mail(item, meta)
        if kind == "reasoning":
            return self.thinking(reasoning_text(item), item, meta)
        if kind.endswith("_output"):
            return [self._result(item, meta)]
        if kind.endswith("_call"):
            return [self._use(item, kind, meta)]
        return [Other(meta=meta, kind=f"item {kind}", raw=shallow(item))]

    def message(self, item: Item, meta: Meta) -> list[Trace]:
        """Read a message of the person or the model."""
        role, content = item.get("role"), item.get("content")
        if role not in ("user", "assistant"):
            self._report.skip(f"{text_of(role)} message")
            return []
        words: list[str] = []
        for part in content if isinstance(content, list) and content else [content]:
            text, reason = part_text(part)
            if role == "user" and not reason:
                text, reason = typed_text(text)
            if reason:
                self._report.skip(reason)
            else:
                words.append(text)
        if not words:
            return []
        text = "\n".join(words)
        if role == "user":
            return [UserMessage(meta=meta, text=text)]
        mail = mail_in(text)
        return self.mail(mail, meta) if mail else [AssistantMessage(meta=meta, text=text)]

    def mail(self, item: Item, meta: Meta) -> list[Trace]:
        """Read a message between a session and its sub-agents: from parent to sub-agent it is a prompt."""
        text, author = mail_text(item.get("content")), text_of(item.get("author"))
        from_above = not author or text_of(item.get("recipient")).startswith(f"{author}/")
        if text and from_above and meta.subagent:
            return [UserMessage(meta=meta, text=text)]
        self._report.skip("message between agents" if text else "encrypted message between agents")
        return []

    def thinking(self, text: str, item: Item, meta: Meta) -> list[Trace]:
        """Read the model's thinking, if it is not encrypted."""
        if text and not text.isspace():
            return [Thinking(meta=meta, text=text)]
        self._report.skip("encrypted thinking" if item.get("encrypted_content") else "empty thinking")
        return []

    def _use(self, item: Item, kind: str, meta: Meta) -> ToolUse:
        """Read a tool call: the key of its input depends on its kind, and built-in tools have no name."""
        name = text_of(item.get("name")) or kind.removesuffix("_call")
        if isinstance(space := item.get("namespace"), str) and space:
            name = f"{space}{'' if space.endswith('_') else '__'}{name}"
        given = next((item[key] for key in ("arguments", "input", "action") if key in item), None)
        if given is None:
            given = {key: item[key] for key in ("query", "revised_prompt") if key in item}
        if kind == "function_call" and isinstance(given, str):
            given = _json_or_text(given)
        call = text_of(item.get("call_id")) or text_of(item.get("id"))
        if call:
            self._seen.remember_tool(call, name)
        return ToolUse(meta=meta, name=name, input=shallow(given), id=call)

    def _result(self, item: Item, meta: Meta) -> ToolResult:
        call = text_of(item.get("call_id"))
        name = self._seen.tool_of(call)
        if name is None:
            self._report.note("tool result without its tool use")
            name = text_of(item.get("name"))
        output = item.get("output", item.get("tools"))
        return ToolResult(
            meta=meta,
            name=name,
            output=output_text(output),
            is_error=error_in(output),
            id=call,
            subagent=subagent_in(output) if name.endswith("spawn_agent") else "",
        )


def _json_or_text(arguments: str) -> Any:
    try:
        return orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return arguments

"""Turns the items of a Codex thread, as Codex shows them to other programs, into traces.

`codex exec --json` prints such items, and newer rollouts repeat the talk as such items when each is complete.
A tool's item is one object for the call and its result. Keys and types are spelled in snake case by one and
partly in camel case by the other; both are read alike.
"""

import re
from dataclasses import replace
from typing import Any

from sttx_ccsniff.codex.items import ItemReader
from sttx_ccsniff.parse.content import result_text, shallow, text_of
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.traces import Meta, Other, ToolResult, ToolUse, Trace

Item = dict[str, Any]

_INPUTS: dict[str, tuple[str, ...]] = {
    "collab_agent_tool_call": ("prompt", "receiver_thread_ids"),
    "collab_tool_call": ("prompt", "receiver_thread_ids"),
    "command_execution": ("command",),
    "dynamic_tool_call": ("arguments",),
    "file_change": ("changes",),
    "image_generation": ("revised_prompt",),
    "image_view": ("path",),
    "mcp_tool_call": ("arguments",),
    "sleep": ("duration_ms",),
    "todo_list": ("items",),
    "web_search": ("query", "action"),
}
"""Types of items that are tool calls, and the keys of their input."""

_NO_RESULT = ("image_view", "sleep", "todo_list", "web_search")
_NAMES = {"todo_list": "update_plan", "image_view": "view_image"}
_SILENT = ("entered_review_mode", "error", "exited_review_mode", "hook_prompt", "sub_agent_activity")
_FAILED = ("failed", "declined")
_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def in_snake_case(item: Item) -> Item:
    """Return an item whose type and keys are in snake case.

    >>> in_snake_case({"type": "CommandExecution", "exitCode": 1})
    {'type': 'command_execution', 'exit_code': 1}
    """
    named = {_CAPITAL.sub("_", key).lower(): value for key, value in item.items()}
    return {**named, "type": _CAPITAL.sub("_", text_of(item.get("type"))).lower()}


def numbered(traces: list[Trace]) -> list[Trace]:
    """Return the traces of one item with different uids."""
    return [
        replace(trace, meta=replace(trace.meta, uid=f"{trace.meta.uid}#{part}")) if part else trace
        for part, trace in enumerate(traces)
    ]


class ThreadItemReader:
    """Reads items in snake case.

    >>> reader = ThreadItemReader(SourceReport(), Seen())
    >>> item = {"type": "command_execution", "command": "ls", "aggregated_output": "a.py", "exit_code": 0}
    >>> [type(trace).__name__ for trace in reader.traces(item, Meta(session="s"), "c1")]
    ['ToolUse', 'ToolResult']
    """

    def __init__(self, report: SourceReport, seen: Seen) -> None:
        self._report, self._seen = report, seen
        self._items = ItemReader(report, seen)

    def traces(self, item: Item, meta: Meta, call: str, *, started: bool = False) -> list[Trace]:
        """Return the traces of a complete item; count it if it has none.

        Args:
            item: The item.
            meta: The meta of its traces.
            call: The id of the call, if it is one.
            started: Whether the call was read before, so only its result is new.
        """
        kind = item["type"]
        if kind in _INPUTS:
            traces: list[Trace] = [] if started else self.call(item, meta, call)
            return traces if kind in _NO_RESULT else [*traces, self._result(item, meta, call)]
        if kind == "user_message":
            return self._items.message({"role": "user", "content": item.get("content")}, meta)
        if kind in ("agent_message", "plan"):
            content = item.get("content") or [text_of(item.get("text"))]
            return self._items.message({"role": "assistant", "content": content}, meta)
        if kind == "reasoning":
            return self._items.thinking(_thinking(item), {}, meta)
        if kind in _SILENT:
            self._report.skip(f"item: {kind}")
            return []
        return [Other(meta=meta, kind=f"item {kind}", raw=shallow(item))]

    def call(self, item: Item, meta: Meta, call: str) -> list[Trace]:
        """Return the call of a tool's item; nothing for any other item."""
        kind = item["type"]
        if kind not in _INPUTS:
            return []
        keys = _INPUTS[kind]
        given = (
            item.get(keys[0]) if keys == ("arguments",) else {key: item[key] for key in keys if key in item}
        )
        name = _name(item)
        self._seen.remember_tool(call, name)
        return [ToolUse(meta=meta, name=name, input=shallow(given), id=call)]

    def _result(self, item: Item, meta: Meta, call: str) -> ToolResult:
        error, code = item.get("error"), item.get("exit_code")
        message = text_of(error.get("message")) if isinstance(error, dict) else text_of(error)
        failed = item.get("status") in _FAILED or item.get("success") is False or bool(message)
        return ToolResult(
            meta=meta,
            name=_name(item),
            output=message or _output(item),
            is_error=failed or (type(code) is int and code != 0),
            id=call,
        )


def _name(item: Item) -> str:
    kind, tool = item["type"], text_of(item.get("tool"))
    if kind == "mcp_tool_call":
        return f"mcp__{text_of(item.get('server'))}__{tool}"
    if kind == "dynamic_tool_call" and (space := text_of(item.get("namespace"))):
        return f"{space}__{tool}"
    return tool or _NAMES.get(kind, kind)


def _output(item: Item) -> str:
    """Return the output of a tool: what it printed or returned, or else its status."""
    result = item.get("result")
    for value in (
        item.get("aggregated_output"),
        "\n".join(text for key in ("stdout", "stderr") if (text := text_of(item.get(key)))),
        item.get("content_items"),
        result.get("content") if isinstance(result, dict) else None,
        result.get("structured_content") if isinstance(result, dict) else None,
        item.get("agents_states"),
    ):
        if value:
            return result_text(value)
    if item["type"] == "image_generation":
        return "[image]"
    return "" if item["type"] == "command_execution" else text_of(item.get("status"))


def _thinking(item: Item) -> str:
    for key in ("text", "raw_content", "content", "summary_text", "summary"):
        value = item.get(key)
        parts = value if isinstance(value, list) else [value]
        text = "\n\n".join(text_of(part.get("text") if isinstance(part, dict) else part) for part in parts)
        if text.strip():
            return text
    return ""

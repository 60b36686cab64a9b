"""Turns one message of OpenCode, with its parts, into traces. Does not know where messages are stored.

A message is a user's or an assistant's. An assistant's message is one step: one answer of the model with its
tool calls. A part is text, reasoning, a tool call with its result, a file, or book-keeping. Based on the
schema of OpenCode 1.2 to 1.4 (`MessageV2`, in later versions `SessionV1`).
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, TypeGuard

from sttx_ccsniff.parse.content import shallow, text_of, url_placeholder
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.traces import AssistantMessage, Meta, Other, Thinking, ToolResult, ToolUse, Trace, UserMessage

Json = dict[str, Any]

BOOK_KEEPING = frozenset(
    ("agent", "compaction", "patch", "retry", "snapshot", "step-finish", "step-start", "subtask")
)
"""Types of parts that are known to contain no talk."""

_MOST = 2**53


class Message(NamedTuple):
    """A message as it is stored.

    Attributes:
        id: Identity of the message.
        info: Its role, times, model and tokens.
        parts: Its parts, in order.
    """

    id: str
    info: Json
    parts: list[Json]

    @property
    def is_user(self) -> bool:
        """Whether it is a prompt, of a person or of the parent of a sub-agent."""
        return self.info.get("role") == "user"

    @property
    def is_done(self) -> bool:
        """Whether an assistant's message is marked as complete or failed, so it will not change."""
        times = self.info.get("time")
        return bool(self.info.get("error")) or (isinstance(times, dict) and _is_time(times.get("completed")))

    @property
    def cuts(self) -> bool:
        """Whether a compaction replaces the talk before it by a summary."""
        return any(part.get("type") == "compaction" for part in self.parts)

    @property
    def created(self) -> float:
        """Unix seconds of its creation; 0 if unknown."""
        return _time(self.info, "created")

    def fingerprint(self) -> str:
        """Return a digest that the message shares with its copies in forked sessions, which have new ids."""
        times = self.info.get("time")
        created = times.get("created") if isinstance(times, dict) else None
        digest = hashlib.blake2b(
            text_of([self.info.get("role"), created]).encode("utf-8", "replace"), digest_size=8
        )
        for part in self.parts:
            known = part.get("text") or part.get("callID") or part.get("url")
            digest.update(f"\0{text_of(part.get('type'))}\0{text_of(known)}".encode("utf-8", "replace"))
        return digest.hexdigest()

    def tokens(self) -> tuple[str, dict[str, int]]:
        """Return the model and the billed tokens by kind; empty if the message does not have them."""
        tokens, model = self.info.get("tokens"), self.info.get("modelID")
        if not isinstance(tokens, dict) or not isinstance(model, str):
            return "", {}
        cache = tokens.get("cache")
        cache = cache if isinstance(cache, dict) else {}
        return model, {
            "input_tokens": _count(tokens.get("input")),
            "output_tokens": _count(tokens.get("output")) + _count(tokens.get("reasoning")),
            "cache_creation_input_tokens": _count(cache.get("write")),
            "cache_read_input_tokens": _count(cache.get("read")),
        }

    def new_traces(self, meta: Meta, report: SourceReport, seen: Seen) -> list[Trace]:
        """Return its traces and count its tokens; nothing if it is a copy, as forked sessions have them."""
        if self.parts and not seen.first_time(f"opencode {self.fingerprint()}"):
            report.skip("copied message")
            return []
        model, tokens = self.tokens()
        if any(tokens.values()):
            report.used(model, tokens, (meta.session, meta.subagent))
        return traces_of(self, meta, report)


def traces_of(message: Message, meta: Meta, report: SourceReport) -> list[Trace]:
    """Return the traces of a message, and count everything else in it.

    >>> message = Message("m", {"role": "user"}, [{"type": "text", "text": "Hi"}])
    >>> [trace.text for trace in traces_of(message, Meta(session="s"), SourceReport())]
    ['Hi']
    """
    if error := message.info.get("error"):
        name = text_of(error.get("name")) if isinstance(error, dict) else text_of(error)
        report.skip("interruption" if name == "MessageAbortedError" else f"error: {name}")
    elif not message.parts:
        report.skip("message without parts")
    if message.is_user:
        return _prompt(message, meta, report)
    traces: list[Trace] = []
    for part in message.parts:
        of_part = _PARTS.get(text_of(part.get("type")), _other)(part, _started(part, meta), report)
        if of_part and (reason := _why_not_talk(message, of_part[0])):
            report.skip(reason)
            continue
        for trace in of_part:
            uid = f"{meta.uid}#{len(traces)}" if traces else meta.uid
            traces.append(replace(trace, meta=replace(trace.meta, uid=uid)))
    return traces


def _why_not_talk(message: Message, trace: Trace) -> str:
    """Return why a trace of an answer is not the model's talk ("" if it is)."""
    if message.info.get("summary") is True and isinstance(trace, (AssistantMessage, Thinking)):
        return "compaction summary"
    if message.info.get("role") != "assistant" and isinstance(trace, AssistantMessage):
        return "text without a speaker"
    return ""


def _prompt(message: Message, meta: Meta, report: SourceReport) -> list[Trace]:
    """Return what the person typed as one message, without the parts that OpenCode marks as synthetic."""
    words: list[str] = []
    others: list[Trace] = []
    for part in message.parts:
        kind = text_of(part.get("type"))
        if kind == "text":
            words += _part_text(part, report)
        elif kind == "file":
            words += _file(part, report)
        elif kind in BOOK_KEEPING:
            report.skip(f"part: {kind}")
        else:
            others += _PARTS.get(kind, _other)(part, meta, report)
    traces: list[Trace] = [UserMessage(meta=meta, text="\n".join(words))] if words else []
    for trace in others:
        uid = f"{meta.uid}#{len(traces)}" if traces else meta.uid
        traces.append(replace(trace, meta=replace(meta, uid=uid)))
    return traces


def _part_text(part: Json, report: SourceReport) -> list[str]:
    text = text_of(part.get("text"))
    if part.get("synthetic") is True or part.get("ignored") is True:
        report.skip("synthetic text" if part.get("synthetic") is True else "ignored text")
    elif text and not text.isspace():
        return [text]
    else:
        report.skip("empty text")
    return []


def _file(part: Json, report: SourceReport) -> list[str]:
    """Return a placeholder for a picture or document; a text file or folder is only counted.

    A prompt names the text files and folders in its own text.
    """
    mime = text_of(part.get("mime"))
    if mime.startswith("text/") or mime == "application/x-directory":
        report.skip("part: file")
        return []
    return [url_placeholder(mime.partition("/")[0] or "file", part.get("url"), text_of(part.get("filename")))]


def _text(part: Json, meta: Meta, report: SourceReport) -> list[Trace]:
    return [AssistantMessage(meta=meta, text=text) for text in _part_text(part, report)]


def _reasoning(part: Json, meta: Meta, report: SourceReport) -> list[Trace]:
    text = text_of(part.get("text"))
    if text and not text.isspace():
        return [Thinking(meta=meta, text=text)]
    report.skip("empty thinking")
    return []


def _tool(part: Json, meta: Meta, report: SourceReport) -> list[Trace]:
    """Return a call and its result. A call without a result is returned alone and noted in the report."""
    name, call, state = text_of(part.get("tool")), text_of(part.get("callID")), part.get("state")
    if not isinstance(state, dict):
        state = {}
    use = ToolUse(meta=meta, name=name, input=shallow(state.get("input")), id=call)
    status = state.get("status")
    if status not in ("completed", "error"):
        report.note("tool use without its result")
        return [use]
    more = state.get("metadata")
    more = more if isinstance(more, dict) else {}
    lines = [text_of(state.get("output" if status == "completed" else "error"))]
    if status == "error" and isinstance(so_far := more.get("output"), str) and so_far:
        lines.append(so_far)
    files = state.get("attachments")
    for one in files if isinstance(files, list) else ():
        if isinstance(one, dict):
            lines.append(url_placeholder("file", one.get("url"), text_of(one.get("filename"))))
    result = ToolResult(
        meta=replace(meta, time=_time(state, "end") or meta.time),
        name=name,
        output="\n".join(line for line in lines if line),
        is_error=status == "error",
        id=call,
        subagent=started if isinstance(started := more.get("sessionId"), str) else "",
    )
    return [use, result]


def _book_keeping(part: Json, meta: Meta, report: SourceReport) -> list[Trace]:
    del meta
    report.skip(f"part: {text_of(part.get('type'))}")
    return []


def _other(part: Json, meta: Meta, report: SourceReport) -> list[Trace]:
    del report
    return [Other(meta=meta, kind=f"part {text_of(part.get('type'))}", raw=shallow(part))]


_PARTS: dict[str, Callable[[Json, Meta, SourceReport], list[Trace]]] = {
    "text": _text,
    "reasoning": _reasoning,
    "tool": _tool,
    "file": _book_keeping,
    **dict.fromkeys(BOOK_KEEPING, _book_keeping),
}


def _started(part: Json, meta: Meta) -> Meta:
    time = _time(part, "start") or _time(part.get("state"), "start")
    return replace(meta, time=time) if time else meta


def _time(holder: Any, key: str) -> float:
    """Return one of the times of a part or of a tool's state, in Unix seconds; 0 if it has none."""
    times = holder.get("time") if isinstance(holder, dict) else None
    time = times.get(key) if isinstance(times, dict) else None
    return time / 1000 if _is_time(time) else 0.0


def _is_time(value: Any) -> TypeGuard[float]:
    return type(value) in (int, float) and 0 < value <= _MOST


def _count(value: Any) -> int:
    return int(value) if type(value) in (int, float) and 0 <= value <= _MOST else 0

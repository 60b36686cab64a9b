"""Raw Claude Code records become traces: the one parser that serves files, streams and live watching.

A `SessionParser` reads one file's lines in order. It knows what the records mean: which are talk and which
are book-keeping, that one message is written as several lines, that a resumed session repeats earlier
records, where a compaction cuts, whose voice a sub-agent's is. It does not know where lines come from.

No tool call is lost: the numbers of `ToolUse` and `ToolResult` equal those of the blocks of tool use and tool
result in the lines, a record whose uuid was seen before counted once. Every record becomes one trace or more,
an `Other`, or a count with its reason. `toolUseResult` is a second copy of each result: only which sub-agent
gave the result is read of it. Branches of `parentUuid` stay in the order of the file.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sttx_ccsniff.claude_code.paths import identity_of, session_folder
from sttx_ccsniff.claude_code.persisted import STUB, persisted_output
from sttx_ccsniff.claude_code.sidechains import Sidechains
from sttx_ccsniff.claude_code.user_text import typed_text
from sttx_ccsniff.parse.content import placeholder, result_text, shallow, text_of
from sttx_ccsniff.parse.project import project_of
from sttx_ccsniff.parse.records import decode_line
from sttx_ccsniff.parse.usage import UsageCounter
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.traces import AssistantMessage, Meta, Other, Thinking, ToolResult, ToolUse, Trace, UserMessage

Record = dict[str, Any]

BOOK_KEEPING = frozenset(
    (
        "agent-color",
        "agent-name",
        "agent-setting",
        "ai-title",
        "attribution-snapshot",
        "content-replacement",
        "custom-title",
        "file-history-snapshot",
        "last-prompt",
        "mode",
        "permission-mode",
        "pr-link",
        "progress",
        "queue-operation",
        "result",
        "speculation-accept",
        "summary",
        "tag",
        "worktree-state",
    )
)
"""Types of records that are known to hold no talk."""

_MOST_SPEAKERS = 1000  # of one file whose cuts are counted; the whole count is part of every place
_TOOL_USES = ("tool_use", "server_tool_use", "mcp_tool_use")  # no set: a type may be unhashable


def recognises(record: Record) -> bool:
    """Say whether a JSON object looks like one of Claude Code's records."""
    return isinstance(record.get("type"), str) and not {"sid", "role"} <= record.keys()


class SessionParser:
    """Reads the lines of one session file, in order.

    >>> parser = SessionParser("/x/s.jsonl", SourceReport(), Seen())
    >>> line = b'{"type":"user","uuid":"u","message":{"role":"user","content":"Hi"}}'
    >>> [(trace.text, trace.document) for trace in parser.feed(line)]
    [('Hi', 's')]
    """

    name = "claude-code"
    has_uuids = True  # a uid with a colon is a number in the file, where a record has none

    def __init__(self, origin: str, report: SourceReport, seen: Seen) -> None:
        self._origin = origin
        self._report = report
        self._seen = seen
        self._session, self._subagent = identity_of(origin)
        self._project = ""
        self._segments: dict[str, int] = {}
        self._just_cut = False
        self._records = 0
        self._sidechains = Sidechains()
        self._usage = UsageCounter(report, seen)
        self._handlers: dict[Any, Callable[[Record], list[Trace]]] = {
            "user": self._talk,
            "assistant": self._talk,
            "attachment": self._attachment,
            "system": self._system,
        }

    def feed(self, line: bytes) -> list[Trace]:
        """Take one line without its line end; return the traces on it."""
        values, problem = decode_line(line, self._report.noted)
        if problem:
            self._report.damaged(problem)
        if len(values) == 1:
            return self._record(values[0])
        return [trace for value in values for trace in self._record(value)]

    def finish(self, tail: bytes) -> list[Trace]:
        """Take what stands after the last line end: a whole record or one cut short."""
        return self.feed(tail)

    def state_dict(self) -> tuple[Any, ...]:
        """All that must be known to go on from here in another process, as JSON can hold it.

        It costs next to nothing and never changes afterwards: what it refers to is replaced, not changed.
        """
        return (
            self._records,
            self._just_cut,
            self._project,
            self._segments,
            self._sidechains.recent,
            self._usage.counted,
        )

    def load_state_dict(self, state: Any) -> None:
        """Go on where another parser of the same file gave this state.

        Raises:
            ValueError: it is no such state.
        """
        match state:
            case [int(records), bool(just_cut), str(project), dict(segments), [*recent], [*counted]] if (
                type(records) is int and records >= 0 and _are_counts(segments)
            ):
                sidechains, usage = Sidechains(), UsageCounter(self._report, self._seen)
                sidechains.load_state_dict(recent)
                usage.load_state_dict(counted)
            case _:
                raise ValueError("not a state of a parser of Claude Code's records")
        self._records, self._just_cut, self._project, self._segments = records, just_cut, project, segments
        self._sidechains, self._usage = sidechains, usage

    def _record(self, record: Any) -> list[Trace]:
        report = self._report
        if not isinstance(record, dict):
            report.damaged("not an object")
            return []
        report.records += 1
        self._records += 1
        uuid = record.get("uuid")
        if isinstance(uuid, str) and uuid and not self._seen.first_time(uuid):
            self._subagent_of(record)
            self._remember_tools(record)
            report.skip("duplicate uuid")
            return []
        kind = record.get("type")
        handler = self._handlers.get(kind) if isinstance(kind, str) else None
        if handler is not None:
            return handler(record)
        if not isinstance(kind, str):
            kind = "untyped"
        if kind in BOOK_KEEPING:
            report.skip(kind)
            return []
        return [Other(meta=self._meta(record), kind=kind, raw=shallow(record))]

    # The talk

    def _talk(self, record: Record) -> list[Trace]:
        """A user's or assistant's record: a message whose content is a string or a list of blocks."""
        message = record.get("message")
        if not isinstance(message, dict):
            self._report.damaged("record without a message")
            return []
        if "usage" in message:
            self._usage.count(message, record, self._speaker_of)
        content = message.get("content")
        if not isinstance(content, list):
            content = [{"type": "text", "text": text_of(content)}]
        unsaid = self._not_spoken(record, message)
        traces: list[Trace] = []
        words: list[str] = []
        for block in content:
            if not isinstance(block, dict):
                block = {"type": "text", "text": text_of(block)}
            kind = block.get("type")
            if kind in ("text", "image", "document"):
                self._words(record, block, unsaid, words, traces)
            else:
                self._flush(record, words, traces)
                self._block(record, block, kind, traces)
        self._flush(record, words, traces)
        if not content:
            self._report.skip("empty message")
        if traces:
            self._just_cut = False
        return traces

    def _not_spoken(self, record: Record, message: Record) -> str:
        """Why nobody said this record's text ("" if somebody did)."""
        if record.get("isCompactSummary"):
            if not self._just_cut:
                self._cut(record)
            return "compaction summary"
        if record.get("isMeta"):
            return "meta message"
        if record.get("isApiErrorMessage"):
            return "API error"
        return "synthetic message" if message.get("model") == "<synthetic>" else ""

    def _words(
        self, record: Record, block: Record, unsaid: str, words: list[str], traces: list[Trace]
    ) -> None:
        """A block of text or a picture: an assistant's is a trace, a user's joins the message around it."""
        text = text_of(block.get("text")) if block.get("type") == "text" else placeholder(block)
        reason = unsaid
        if not reason and record["type"] == "user":
            text, reason = typed_text(text)
        elif not reason and (not text or text.isspace()):
            reason = "empty text"
        if reason:
            self._report.skip(reason)
        elif record["type"] == "user":
            words.append(text)
        else:
            traces.append(AssistantMessage(meta=self._meta(record, len(traces)), text=text))

    def _flush(self, record: Record, words: list[str], traces: list[Trace]) -> None:
        if words:
            if not traces:
                self._note_rewind(record)
            traces.append(UserMessage(meta=self._meta(record, len(traces)), text="\n".join(words)))
            words.clear()

    def _note_rewind(self, record: Record) -> None:
        """A prompt that follows the same record as an earlier prompt did: the person went back there."""
        parent = record.get("parentUuid")
        if isinstance(parent, str) and parent and not self._seen.first_time(f"prompt after {parent}"):
            self._report.note("rewind")

    def _block(self, record: Record, block: Record, kind: Any, traces: list[Trace]) -> None:
        meta = self._meta(record, len(traces))
        if kind in _TOOL_USES:
            name, call = text_of(block.get("name")), text_of(block.get("id"))
            self._seen.remember_tool(call, name)
            traces.append(ToolUse(meta=meta, name=name, input=shallow(block.get("input")), id=call))
        elif isinstance(kind, str) and kind.endswith("tool_result"):
            traces.append(self._result(record, block, meta))
        elif kind == "thinking":
            text = text_of(block.get("thinking"))
            if text and not text.isspace():
                traces.append(Thinking(meta=meta, text=text))
            else:
                self._report.skip("empty thinking")
        elif kind == "redacted_thinking":
            self._report.skip("redacted thinking")
        else:
            traces.append(Other(meta=meta, kind=f"block {text_of(kind)}", raw=shallow(block)))

    def _result(self, record: Record, block: Record, meta: Meta) -> ToolResult:
        call = text_of(block.get("tool_use_id"))
        name = self._seen.tool_of(call)
        if name is None:
            self._report.note("tool result without its tool use")
        output = result_text(block.get("content"))
        if output.startswith(STUB):
            output = self._persisted(output, meta)
        told = record.get("toolUseResult")
        subagent = told.get("agentId") if isinstance(told, dict) else None
        return ToolResult(
            meta=meta,
            name=name or "",
            output=output,
            is_error=block.get("is_error") is True,
            id=call,
            subagent=subagent if isinstance(subagent, str) else "",
        )

    def _persisted(self, stub: str, meta: Meta) -> str:
        """The output that a stub stands for; the stub where it is gone."""
        found = persisted_output(stub, session_folder(self._origin, meta.session))
        if found is None:
            self._report.note("persisted output absent")
            return stub
        output, left_out = found
        self._report.note("persisted output read")
        if left_out:
            self._report.noted["persisted output: bytes left out"] += left_out
        return output

    def _remember_tools(self, record: Record) -> None:
        """A repeated record delivers nothing, but results that are not repeated may answer its calls."""
        message = record.get("message")
        content = message.get("content") if isinstance(message, dict) else None
        for block in content if isinstance(content, list) else ():
            if isinstance(block, dict) and block.get("type") in _TOOL_USES:
                self._seen.remember_tool(text_of(block.get("id")), text_of(block.get("name")))

    # Beside the talk

    def _attachment(self, record: Record) -> list[Trace]:
        """Context that was attached; a queued command is a prompt that the person typed in mid-turn."""
        attachment = record.get("attachment")
        if not isinstance(attachment, dict):
            self._report.damaged("attachment without content")
            return []
        kind = attachment.get("type")
        if kind != "queued_command":
            self._report.skip(f"attachment: {text_of(kind)}")
            return []
        mode = attachment.get("commandMode")
        if isinstance(mode, str) and mode != "prompt":
            self._report.skip(mode.replace("-", " "))
            return []
        prompt = attachment.get("prompt")
        spoken = {**record, "type": "user", "message": {"content": prompt}}
        return self._talk(spoken)

    def _system(self, record: Record) -> list[Trace]:
        subtype = record.get("subtype")
        if subtype == "compact_boundary":
            self._cut(record)
            self._just_cut = True
        self._report.skip(f"system: {text_of(subtype)}")
        return []

    def _cut(self, record: Record) -> None:
        subagent = self._subagent_of(record)
        segments = {**self._segments, subagent: self._segments.get(subagent, 0) + 1}
        if len(segments) > _MOST_SPEAKERS:
            del segments[next(iter(segments))]
        self._segments = segments

    # Where a trace came from

    def _meta(self, record: Record, part: int = 0) -> Meta:
        session = self._session_of(record)
        subagent = self._subagent_of(record)
        if not self._project:
            self._project = project_of(record.get("cwd"), self._origin)
        uid = record.get("uuid")
        if not isinstance(uid, str) or not uid:
            uid = f"{session}:{self._records}"
        return Meta(
            session=session,
            project=self._project,
            time=self._time(record.get("timestamp")),
            uid=f"{uid}#{part}" if part else uid,
            origin=self._origin,
            subagent=subagent,
            parent=session if subagent else "",
            segment=self._segments.get(subagent, 0),
        )

    def _speaker_of(self, record: Record) -> tuple[str, str]:
        return self._session_of(record), self._subagent_of(record)

    def _session_of(self, record: Record) -> str:
        session = record.get("sessionId")
        return session if isinstance(session, str) and session else self._session

    def _subagent_of(self, record: Record) -> str:
        """Sub-agents of early versions had no id, and stood in their parent's file."""
        subagent = record.get("agentId")
        if isinstance(subagent, str) and subagent:
            return subagent
        if self._subagent or record.get("isSidechain") is not True:
            return self._subagent
        return self._sidechains.subagent_of(record)

    def _time(self, stamp: Any) -> float:
        if stamp is None:
            return 0.0
        try:
            return _seconds(stamp)
        except (TypeError, ValueError, OverflowError):
            self._report.note("unparsable timestamp")
            return 0.0


def _are_counts(value: dict[Any, Any]) -> bool:
    return all(isinstance(key, str) and type(count) is int and count >= 0 for key, count in value.items())


def _seconds(stamp: Any) -> float:
    """Unix seconds of an ISO 8601 time, taken as UTC where it names no zone."""
    time = datetime.fromisoformat(stamp)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()

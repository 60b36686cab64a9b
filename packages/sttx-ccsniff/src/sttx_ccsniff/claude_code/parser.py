"""Turns Claude Code's records into traces, for files, streams and live watching alike.

A `SessionParser` reads the lines of one file in order. It knows which records are talk and which are
book-keeping, that one message is written as several lines, that a resumed session repeats earlier records,
where a compaction starts a new segment, and which sub-agent a record belongs to. It does not know where lines
come from.

No tool call is lost: there are as many `ToolUse` and `ToolResult` traces as there are such blocks in the
lines, not counting records whose uuid was read before. Every record becomes one or more
traces, an `Other`, or a count with its reason. `toolUseResult` is a second copy of each result; only the id
of the sub-agent is read from it. Branches of `parentUuid` stay in the order of the file.
"""

from collections.abc import Callable
from typing import Any

from sttx_ccsniff.claude_code.identity import Sidechains, identity_of, session_folder
from sttx_ccsniff.claude_code.kinds import BOOK_KEEPING
from sttx_ccsniff.claude_code.persisted import is_reference, persisted_output
from sttx_ccsniff.claude_code.repeats import PromptQueue, is_replay
from sttx_ccsniff.claude_code.spelling import in_one_spelling
from sttx_ccsniff.claude_code.user_text import typed_text
from sttx_ccsniff.parse.content import placeholder, result_text, shallow, text_of
from sttx_ccsniff.parse.project import project_of
from sttx_ccsniff.parse.records import decode_line
from sttx_ccsniff.parse.times import seconds_of
from sttx_ccsniff.parse.usage import UsageCounter
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.traces import AssistantMessage, Meta, Other, Thinking, ToolResult, ToolUse, Trace, UserMessage

Record = dict[str, Any]

_MOST_SPEAKERS = 1000  # sub-agents whose segments are counted; the counts are saved in every place
_TOOL_USES = ("tool_use", "server_tool_use", "mcp_tool_use")  # not a set, because a type may be unhashable


class SessionParser:
    """Reads the lines of one session file, in order.

    >>> parser = SessionParser("/x/s.jsonl", SourceReport(), Seen())
    >>> line = b'{"type":"user","uuid":"u","message":{"role":"user","content":"Hi"}}'
    >>> [(trace.text, trace.document) for trace in parser.feed(line)]
    [('Hi', 's')]
    """

    name = "claude-code"
    has_uuids = True  # a record without a uuid gets a uid with a colon and its number

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
        self._queue = PromptQueue(report)
        self._handlers: dict[Any, Callable[[Record], list[Trace]]] = {
            "user": self._talk,
            "assistant": self._talk,
            "attachment": self._attachment,
            "queue-operation": self._queued,
            "system": self._system,
        }

    @property
    def undecided(self) -> bool:
        """Whether a queued prompt waits for a later record to decide if it is read."""
        return self._queue.holds

    def feed(self, line: bytes) -> list[Trace]:
        """Read one line, without its line end; return its traces."""
        values, problem = decode_line(line, self._report.noted)
        if problem:
            self._report.damaged(problem)
        if len(values) == 1:
            return self._record(values[0])
        return [trace for value in values for trace in self._record(value)]

    def finish(self, tail: bytes) -> list[Trace]:
        """Read what follows the last line end, a record that may be cut; return its traces."""
        return self.feed(tail) + self._removed_prompts()

    def state_dict(self) -> tuple[Any, ...]:
        """Return everything needed to continue from here in another process, JSON-able.

        This is cheap, and the result never changes later: the objects in it are replaced, not mutated.
        """
        return (
            self._records,
            self._just_cut,
            self._project,
            self._segments,
            self._sidechains.state_dict(),
            self._usage.state_dict(),
            self._queue.state_dict(),
        )

    def load_state_dict(self, state: Any) -> None:
        """Continue from the state of another parser of the same file.

        Raises:
            ValueError: The state is invalid.
        """
        match state:
            case [
                int(records),
                bool(just_cut),
                str(project),
                dict(segments),
                [*recent],
                [*counted],
                *more,
            ] if type(records) is int and records >= 0 and _are_counts(segments) and len(more) < 2:
                sidechains, usage = Sidechains(), UsageCounter(self._report, self._seen)
                sidechains.load_state_dict(recent)
                usage.load_state_dict(counted)
                queue = PromptQueue(self._report)
                queue.load_state_dict(more[0] if more else ((), ()))  # earlier versions saved no queue
            case _:
                raise ValueError("not a state of a parser of Claude Code's records")
        self._records, self._just_cut, self._project, self._segments = records, just_cut, project, segments
        self._sidechains, self._usage, self._queue = sidechains, usage, queue

    def _record(self, record: Any) -> list[Trace]:
        report = self._report
        if not isinstance(record, dict):
            report.damaged("not an object")
            return []
        report.records += 1
        self._records += 1
        record, raw = in_one_spelling(record), record
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
        return [Other(meta=self._meta(record), kind=kind, raw=shallow(raw))]

    # The talk

    def _talk(self, record: Record) -> list[Trace]:
        """Read a user's or assistant's record: a message whose content is text or a list of blocks."""
        message = record.get("message")
        if not isinstance(message, dict):
            self._report.damaged("record without a message")
            return []
        if "usage" in message:
            self._usage.count(message, record, self._speaker_of)
        content = message.get("content")
        if is_replay(record, content, self._session_of(record), self._seen):
            self._remember_tools(record)
            self._report.skip("replay")
            return []
        if record["type"] == "assistant":
            return self._removed_prompts() + self._message(record, message, content)
        return [] if self._queue.repeats(content) else self._message(record, message, content)

    def _message(self, record: Record, message: Record, content: Any) -> list[Trace]:
        if not isinstance(content, list):
            is_text = isinstance(content, dict) and content.get("type") == "text"
            content = [content if is_text else {"type": "text", "text": text_of(content)}]
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
        """Return why the text of a record is not talk ("" if it is)."""
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
        """Read a text or picture block: an assistant's becomes a trace, a user's is added to `words`."""
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
        """Count a rewind: a prompt whose parent record already has a prompt after it."""
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
        if is_reference(output):
            output = self._persisted(output, meta)
        details = record.get("toolUseResult")
        subagent = in_one_spelling(details).get("agentId") if isinstance(details, dict) else None
        if self._sidechains.has_started(call):
            subagent = call
        return ToolResult(
            meta=meta,
            name=name or "",
            output=output,
            is_error=block.get("is_error") is True,
            id=call,
            subagent=subagent if isinstance(subagent, str) else "",
        )

    def _persisted(self, stub: str, meta: Meta) -> str:
        """Return the output that a stub refers to, or the stub if the output is gone."""
        persisted = persisted_output(stub, session_folder(self._origin, meta.session))
        if persisted is None:
            self._report.note("persisted output absent")
            return stub
        output, left_out = persisted
        self._report.note("persisted output read")
        if left_out:
            self._report.noted["persisted output: bytes left out"] += left_out
        return output

    def _remember_tools(self, record: Record) -> None:
        """Remember the calls of a repeated record: later results, not repeated, may answer them."""
        message = record.get("message")
        content = message.get("content") if isinstance(message, dict) else None
        for block in content if isinstance(content, list) else ():
            if isinstance(block, dict) and block.get("type") in _TOOL_USES:
                self._seen.remember_tool(text_of(block.get("id")), text_of(block.get("name")))

    # Records that are not talk

    def _attachment(self, record: Record) -> list[Trace]:
        """Read attached context: only a queued command is talk, a prompt typed while the agent worked."""
        attachment = record.get("attachment")
        if not isinstance(attachment, dict):
            self._report.damaged("attachment without content")
            return []
        kind = attachment.get("type")
        if kind != "queued_command":
            self._report.skip(f"attachment: {text_of(kind)}")
            return []
        mode, prompt = attachment.get("commandMode"), attachment.get("prompt")
        if isinstance(mode, str) and mode != "prompt":
            if not self._queue.repeats(prompt):
                self._report.skip(mode.replace("-", " "))
            return []
        return self._talk({**record, "type": "user", "message": {"content": prompt}})

    def _queued(self, record: Record) -> list[Trace]:
        self._queue.read(record, f"{self._session_of(record)}:{self._records}")
        return []

    def _removed_prompts(self) -> list[Trace]:
        """Return the prompts that the running turn took in and that no other record repeated."""
        traces: list[Trace] = []
        for prompt in self._queue.take() if self._queue.holds else ():
            if self._seen.first_time(
                f"queued {text_of([prompt.get('timestamp') or prompt['uuid'], prompt['content']])}"
            ):
                traces += self._message(prompt, prompt["message"], prompt["content"])
            else:
                self._report.skip("duplicate queued prompt")
        return traces

    def _system(self, record: Record) -> list[Trace]:
        subtype = record.get("subtype")
        if subtype == "compact_boundary":
            self._cut(record)
            self._just_cut = True
        elif subtype == "init" and isinstance(record.get("cwd"), str):  # its later records name no folder
            self._project = project_of(record["cwd"], self._origin)
        self._report.skip(f"system: {text_of(subtype)}")
        return []

    def _cut(self, record: Record) -> None:
        """Start a new segment of the record's session or sub-agent."""
        document = self._document_of(record)
        segments = {**self._segments, document: self._segments.get(document, 0) + 1}
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
            time=seconds_of(record.get("timestamp"), self._report),
            uid=f"{uid}#{part}" if part else uid,
            origin=self._origin,
            subagent=subagent,
            parent=session if subagent else "",
            segment=self._segments.get(self._document_of(record), 0),
        )

    def _speaker_of(self, record: Record) -> tuple[str, str]:
        return self._session_of(record), self._subagent_of(record)

    def _session_of(self, record: Record) -> str:
        session = record.get("sessionId")
        return session if isinstance(session, str) and session else self._session

    def _document_of(self, record: Record) -> str:
        """Return what segments are counted by: the sub-agent, with the session where a file has several."""
        subagent = self._subagent_of(record)
        return f"{record['session_id']} {subagent}" if "session_id" in record else subagent

    def _subagent_of(self, record: Record) -> str:
        """Return the sub-agent of a record; some writers give it no id, see `Sidechains`."""
        call = record.get("parentToolUseId")
        if isinstance(call, str) and call:
            return self._sidechains.started_by(call)
        subagent = record.get("agentId")
        if isinstance(subagent, str) and subagent:
            return subagent
        if self._subagent or record.get("isSidechain") is not True:
            return self._subagent
        return self._sidechains.subagent_of(record)


def _are_counts(value: dict[Any, Any]) -> bool:
    return all(isinstance(key, str) and type(count) is int and count >= 0 for key, count in value.items())

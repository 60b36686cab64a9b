"""Recognizes JSON lines that look like an agent's records but are not read, and names them.

They are sessions of agents without an adapter, forms of sessions that lack too much, and files of known
agents that hold no session: lists of prompts, indexes and journals. Their records are counted; none becomes a
trace.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

from sttx_ccsniff.parse.records import decode_line
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.traces import Trace

Record = dict[str, Any]
_IDENTITIES = ("uuid", "sessionId", "session_id")
_GROUPS_OF_COPILOT = ("session", "user", "assistant", "tool", "hook", "skill", "subagent", "system")


def _kind(record: Record) -> str:
    kind = record.get("type")
    return kind if isinstance(kind, str) else ""


def _is_nameless(record: Record) -> bool:
    return not any(key in record for key in _IDENTITIES)


def _is_pi(record: Record) -> bool:
    header = _kind(record) == "session" and {"id", "cwd"} <= record.keys()
    return header or _is_wrapped_message(record) and "parentId" in record


def _is_wrapped_message(record: Record) -> bool:
    return _kind(record) == "message" and isinstance(record.get("message"), dict) and _is_nameless(record)


def _is_qwen(record: Record) -> bool:
    message = record.get("message")
    return isinstance(message, dict) and isinstance(message.get("parts"), list) and "content" not in message


def _is_cursor(record: Record) -> bool:
    if _kind(record) == "system":  # Claude Code's has more keys
        has_source = record.get("subtype") == "init" and "apiKeySource" in record
        return has_source and not {"uuid", "tools", "mcp_servers"} & record.keys()
    if _kind(record) == "tool_call":
        return isinstance(record.get("tool_call"), dict)
    return "type" not in record and "role" in record and isinstance(record.get("message"), dict)


def _is_copilot(record: Record) -> bool:
    """Return whether a record is an event of Copilot: of a kind that it writes, linked to the one before."""
    group, dot, _ = _kind(record).partition(".")
    data = record.get("data")
    if not dot or group not in _GROUPS_OF_COPILOT or not isinstance(data, dict):
        return False
    return {"id", "parentId"} <= record.keys() or {"sessionId", "copilotVersion"} <= data.keys()


def _is_transcript(record: Record) -> bool:
    talk = _kind(record) in ("user", "assistant", "tool_use", "tool_result", "thinking")
    return talk and "timestamp" in record and not {"message", "uuid", "meta", "part"} & record.keys()


def _is_journal(record: Record) -> bool:
    return bool(_kind(record)) and {"key", "agentId"} <= record.keys() and _is_nameless(record)


def _is_chat(record: Record) -> bool:
    """Return whether a record is a message of a chat program's interface, or a list of such messages."""
    talk = next((record[key] for key in ("messages", "conversations") if key in record), [record])
    first = talk[0] if isinstance(talk, list) and talk and isinstance(talk[0], dict) else {}
    keys = first.keys() - {"name", "weight"}
    return keys == {"role", "content"} or keys == {"from", "value"}


def _is_old_exec(record: Record) -> bool:
    message = record.get("msg")
    return (
        isinstance(message, dict)
        and isinstance(message.get("type"), str)
        and isinstance(record.get("id"), str)
    )


_FORMS: dict[str, tuple[Callable[[Record], bool], str]] = {
    "output of `opencode run --format json`": (
        lambda record: {"type", "sessionID", "part"} <= record.keys(),
        "read the source 'opencode', or what `opencode export` prints, which have the prompts too",
    ),
    "output of an early `codex exec --json`": (
        _is_old_exec,
        "read the source 'codex', or the rollout of the run",
    ),
    "chat messages": (
        _is_chat,
        "they are not an agent's session; give pairs of `prompt` and `completion`",
    ),
}
"""Forms of talk that are not read: what a record looks like, and what to read instead."""

_AGENTS: dict[str, Callable[[Record], bool]] = {
    "Factory Droid": lambda record: _kind(record) == "session_start" and "id" in record,
    "pi": _is_pi,
    "Gemini CLI": lambda record: "projectHash" in record or _kind(record) == "gemini",
    "Qwen Code": _is_qwen,
    "Cursor": _is_cursor,
    "Copilot CLI": _is_copilot,
    "Goose": lambda record: {"working_dir", "message_count"} <= record.keys(),
    "Aider": lambda record: {"event", "properties", "user_id"} <= record.keys(),
}
"""Agents whose sessions are not read, and what a record of theirs looks like."""

_NO_SESSIONS: dict[str, Callable[[Record], bool]] = {
    "history.jsonl: typed prompts": lambda record: {"display", "timestamp"} <= record.keys(),
    "history.jsonl: prompts of Codex": lambda record: {"session_id", "ts", "text"} == record.keys(),
    "session_index.jsonl: names": lambda record: {"id", "thread_name", "updated_at"} <= record.keys(),
    "prompt-history.jsonl: prompts of OpenCode": lambda record: (
        {"input", "parts"} <= record.keys() and not _kind(record)
    ),
    "journal.jsonl: steps of a workflow": _is_journal,
    "transcripts: talk without sessions": _is_transcript,
}
"""What other files of known agents hold, by the name that such a file usually has."""


def foreign_name(record: Record) -> tuple[str, bool]:
    """Return what a record belongs to ("" if it is nothing known), and whether that is a session.

    >>> foreign_name({"type": "session", "id": "a", "cwd": "/"}), foreign_name({"projectHash": "a"})
    (('pi', True), ('Gemini CLI', True))
    """
    for table in (_AGENTS, _NO_SESSIONS):
        for name, recognizes in table.items():
            if recognizes(record):
                return name, table is _AGENTS
    return next((name for name, (is_one, _) in _FORMS.items() if is_one(record)), ""), False


def recognizes(record: Record) -> bool:
    """Return whether a JSON object is a record of one of these."""
    return bool(foreign_name(record)[0])


def is_lone_result(record: Record) -> bool:
    """Return whether a record is the result that ends the output of `claude -p`."""
    return _kind(record) == "result" and {"result", "session_id"} <= record.keys()


def why_unknown(origin: str, lines: list[bytes]) -> str:
    """Return the warning about a file in which no format was recognized, from its lines."""
    values = (value for line in lines for value in decode_line(line, Counter())[0])
    if any(isinstance(value, dict) and is_lone_result(value) for value in values):
        return (
            f"{origin!r} holds only the result of `claude -p`, without the session: read the session's own "
            "file, or save the output of `--output-format stream-json --verbose`"
        )
    return f"{origin!r} has no record of a known kind"


def usual_name(origin: str) -> str:
    """Return the name by which a file beside an agent's sessions is known; "" for any other file.

    >>> usual_name("/x/.codex/history.jsonl"), usual_name("/x/transcripts/a.jsonl"), usual_name("a.jsonl")
    ('history.jsonl', '', '')
    """
    name = PurePath(origin).name
    known = {known.partition(":")[0] for known in _NO_SESSIONS}
    return name if name.endswith(".jsonl") and name in known else ""


class _Counter:
    """Counts the records of a file that is not read."""

    name = ""

    def __init__(self, origin: str, report: SourceReport, seen: Seen) -> None:
        del seen
        self._origin, self._report = origin, report
        self._reason = ""

    def feed(self, line: bytes) -> list[Trace]:
        """Count the records on one line; return no traces."""
        values, problem = decode_line(line, self._report.noted)
        if problem:
            self._report.damaged(problem)
        for value in values:
            if isinstance(value, dict):
                self._report.records += 1
                self._report.skip(self._reason_of(value))
            else:
                self._report.damaged("not an object")
        return []

    def finish(self, tail: bytes) -> list[Trace]:
        """Count what follows the last line end."""
        return self.feed(tail)

    def state_dict(self) -> tuple[str]:
        """Return the reason with which records are counted, JSON-able."""
        return (self._reason,)

    def load_state_dict(self, state: Any) -> None:
        """Continue from the state of another parser of the same file.

        Raises:
            ValueError: The state is invalid.
        """
        match state:
            case [str(reason)]:
                self._reason = reason
            case _:
                raise ValueError("not a state of a parser that counts")

    def _reason_of(self, record: Record) -> str:
        raise NotImplementedError


class ForeignParser(_Counter):
    """Counts the records of a file that belongs to another agent or holds no session.

    >>> report = SourceReport(say=print)
    >>> ForeignParser("a.jsonl", report, Seen()).feed(b'{"type":"session","id":"a","cwd":"/"}')
    'a.jsonl' holds a session of pi, and sttx has no adapter for it: it is not read
    []
    >>> dict(report.skipped)
    {'session of pi': 1}
    """

    name = "not-read"

    def _reason_of(self, record: Record) -> str:
        if self._reason:
            return self._reason
        name, is_session = foreign_name(record)
        self._reason = f"session of {name}" if is_session else name
        if is_session and not any(f" {self._reason}, " in said for said in self._report.warnings):
            self._report.warn(
                f"{self._origin!r} holds a {self._reason}, and sttx has no adapter for it: it is not read"
            )
        elif name in _FORMS:
            self._report.warn(f"{self._origin!r} holds {name}, and that is not read: {_FORMS[name][1]}")
        return self._reason or "record of an unknown kind"


class UnknownParser(_Counter):
    """Counts the records of a file in which no format was recognized."""

    name = "unknown"

    def _reason_of(self, record: Record) -> str:
        if is_lone_result(record):
            return "result of `claude -p` alone"
        name = usual_name(self._origin)
        return f"{name}: not known" if name else "record of an unknown kind"

"""Writes session files in Claude Code's own format, the same bytes every time.

A `Session` turns a story (`user`, `say`, `call`) into records as Claude Code writes them: one line per block
of an API message, with ids, uuids, parents, times and the second copy of each result. A `Workspace` holds the
project of the story: real code that the story's tools read, search and edit.
"""

import json
import re
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

NAMESPACE = uuid.UUID("6d1f3f52-2f0e-4d8e-9a0d-5b6f7c8e9a10")
MODEL = "claude-opus-4-5-20251101"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


class Workspace:
    """The files of a project, which the tools of a story read and change."""

    def __init__(self, root: str, files: dict[str, str]) -> None:
        self.root = root
        self.files = dict(files)

    def path(self, name: str) -> str:
        """Return the absolute path of a file."""
        return f"{self.root}/{name}"

    def listing(self, name: str, offset: int = 1, limit: int = 2000) -> str:
        """Return a file as the tool Read shows it, with numbered lines."""
        lines = self.files[name].splitlines()[offset - 1 : offset - 1 + limit]
        return "\n".join(f"{offset + n:6}→{line}" for n, line in enumerate(lines))

    def matches(self, pattern: str) -> str:
        """Return every line that matches, as the tool Grep shows it."""
        lines = [
            f"{name}:{number}:{line}"
            for name, text in sorted(self.files.items())
            for number, line in enumerate(text.splitlines(), 1)
            if re.search(pattern, line)
        ]
        return "\n".join(lines) or "No matches found"

    def replace(self, name: str, old: str, new: str) -> str:
        """Edit a file; return the answer of the tool Edit."""
        text = self.files[name]
        if text.count(old) != 1:
            raise ValueError(f"{old!r} occurs {text.count(old)} times in {name}, not once")
        self.files[name] = text.replace(old, new)
        at = text[: text.index(old)].count("\n") + 1
        around = self.listing(name, max(1, at - 3), new.count("\n") + 8)
        return (
            f"The file {self.path(name)} has been updated. Here's the result of running `cat -n` on a "
            f"snippet of the edited file:\n{around}"
        )


class Session:
    """One session file, written record by record.

    Args:
        title: Our name for the session, from which its id is made.
        cwd: The working folder, which also names the folder of the project.
        start: Start time, as ISO 8601 in UTC.
        version: Version of Claude Code.
        agent: Id of a sub-agent, if this is its file in the session with the same title.
    """

    def __init__(self, title: str, cwd: str, start: str, *, version: str = "2.1.50", agent: str = "") -> None:
        self.name = f"{title}/{agent}" if agent else title
        self.cwd = cwd
        self.version = version
        self.agent = agent
        self.id = str(uuid.uuid5(NAMESPACE, title))
        self.lines: list[bytes] = []
        self.sidechain = bool(agent)
        self._time = datetime.fromisoformat(start).replace(tzinfo=UTC)
        self._last: str | None = None
        self._count = 0
        self._calls = 0

    # Records

    def token(self, prefix: str, length: int = 24) -> str:
        """Return an id that depends on the session's name and the number of earlier ids."""
        self._calls += 1
        return prefix + uuid.uuid5(NAMESPACE, f"{self.name}:{prefix}:{self._calls}").hex[:length]

    def now(self, seconds: float = 1.0) -> str:
        """Advance the clock and return its time."""
        self._time += timedelta(seconds=seconds)
        return self._time.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def record(self, kind: str, *, seconds: float = 1.0, **fields: Any) -> dict[str, Any]:
        """Write a record that belongs to the tree of messages."""
        self._count += 1
        own = str(uuid.uuid5(NAMESPACE, f"{self.name}:{self._count}"))
        record: dict[str, Any] = {
            "parentUuid": self._last,
            "isSidechain": self.sidechain,
            "userType": "external",
            "cwd": self.cwd,
            "sessionId": self.id,
            "version": self.version,
            "gitBranch": "main",
            **({"agentId": self.agent} if self.agent else {}),
            "type": kind,
            "uuid": own,
            "timestamp": self.now(seconds),
            **fields,
        }
        self._last = own
        self.raw(record)
        return record

    def raw(self, record: dict[str, Any] | bytes, glued: bool = False) -> None:
        """Write a record or raw bytes unchanged; with `glued`, onto the previous line."""
        if isinstance(record, dict):
            record = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
        if glued:
            self.lines[-1] += record
        else:
            self.lines.append(record)

    def copy(self, other: "Session", count: int) -> None:
        """Start as a resumed session does: with the first records of the other one, including their uuids."""
        self.lines += other.lines[:count]
        self._last = json.loads(self.lines[-1]).get("uuid")

    def project(self, root: Path) -> Path:
        """Return the folder in which Claude Code would keep this session."""
        return root / re.sub(r"[^A-Za-z0-9]", "-", self.cwd)

    def write(self, root: Path, end: bytes = b"\n") -> None:
        """Write the file; a sub-agent's into its session's folder, or next to it in old versions."""
        folder, name = self.project(root), self.id
        if self.agent:
            name = f"agent-{self.agent}"
            folder = folder if self.version < "2.1" else folder / self.id / "subagents"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.jsonl").write_bytes(b"\n".join(self.lines) + end)

    # The story

    def user(self, content: str | list[dict[str, Any]], **fields: Any) -> None:
        """Write a message of the user."""
        self.record("user", message={"role": "user", "content": content}, seconds=20, **fields)

    def assistant(self, *blocks: dict[str, Any], **fields: Any) -> None:
        """Write one API message: one line per block, the stop reason only on the last."""
        message, request = self.token("msg_01", 22), self.token("req_011C", 20)
        for number, block in enumerate(blocks):
            last = number == len(blocks) - 1
            stop = None if not last else "tool_use" if block["type"] == "tool_use" else "end_turn"
            body = {
                "model": MODEL,
                "id": message,
                "type": "message",
                "role": "assistant",
                "content": [block],
                "stop_reason": stop,
                "stop_sequence": None,
                "usage": {
                    "input_tokens": 4,
                    "cache_read_input_tokens": 15550,
                    "output_tokens": 8 + 31 * number,
                },
            }
            self.record("assistant", message=body, requestId=request, seconds=2.5, **fields)

    def say(self, text: str) -> None:
        """Write an answer of the agent."""
        self.assistant({"type": "text", "text": text})

    def call(self, *calls: tuple[str, dict[str, Any], str], text: str = "", thinking: str = "") -> None:
        """Write a message that calls one tool or several, and the result of each."""
        blocks: list[dict[str, Any]] = []
        if thinking:
            blocks.append({"type": "thinking", "thinking": thinking, "signature": self.token("EqQB", 32)})
        if text:
            blocks.append({"type": "text", "text": text})
        ids = [self.token("toolu_01", 22) for _ in calls]
        blocks += [
            {"type": "tool_use", "id": id_, "name": name, "input": given}
            for id_, (name, given, _) in zip(ids, calls, strict=True)
        ]
        self.assistant(*blocks)
        for id_, (name, given, output) in zip(ids, calls, strict=True):
            self.result(id_, output, is_error=output.startswith("Error"))
            if name == "Edit":
                self.file_history(given["file_path"])

    def result(self, call: str, content: Any, *, is_error: bool = False) -> None:
        """Write a tool's result, with the second copy that Claude Code keeps."""
        block: dict[str, Any] = {"tool_use_id": call, "type": "tool_result", "content": content}
        if is_error:
            block["is_error"] = True
        copy = {"stdout": content[:400], "stderr": ""} if isinstance(content, str) else {"content": "..."}
        message = {"role": "user", "content": [block]}
        self.record("user", message=message, toolUseResult=copy, seconds=0.4)

    def file_history(self, path: str = "") -> None:
        """Write a bookkeeping record: which files can be rolled back."""
        own = str(uuid.uuid5(NAMESPACE, f"{self.name}:snapshot:{len(self.lines)}"))
        backups = {path: {"backupFileName": "8f1c@v2", "version": 2}} if path else {}
        snapshot = {"messageId": own, "trackedFileBackups": backups, "timestamp": self.now(0.0)}
        record = {"type": "file-history-snapshot", "messageId": own, "snapshot": snapshot}
        self.raw({**record, "isSnapshotUpdate": bool(path)})

    def progress(self, call: str, output: str) -> None:
        """Write a bookkeeping record: a command that is still running."""
        data = {"type": "bash_progress", "output": output, "elapsedTimeSeconds": 4}
        self.record("progress", data=data, toolUseID=call, parentToolUseID=call, seconds=0.2)

    def attach(self, **attachment: Any) -> None:
        """Write an attachment of Claude Code."""
        self.record("attachment", attachment=attachment)

    def system(self, subtype: str, **fields: Any) -> None:
        """Write an internal message of the program."""
        self.record("system", subtype=subtype, level="info", isMeta=False, **fields)


def todo(*items: Sequence[str]) -> tuple[str, dict[str, Any], str]:
    """Return a call of TodoWrite; each item is (status, text)."""
    todos = [{"content": what, "status": status, "activeForm": what} for status, what in items]
    answer = "Todos have been modified successfully. Ensure that you continue to use the todo list."
    return "TodoWrite", {"todos": todos}, answer

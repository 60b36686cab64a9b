"""Writes session files in Claude Code's own format, the same bytes every time.

A `Session` turns a story (`user`, `think`, `say`, `call`) into records as Claude Code writes them: one API
message split over a line per block, ids and uuids, parents, times, the second copy of each result. A
`Workspace` is the project that the story is about: real code, read, searched and edited for real.
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
    """The files of a project, which the tools of a story really read and change."""

    def __init__(self, root: str, files: dict[str, str]) -> None:
        self.root = root
        self.files = dict(files)

    def path(self, name: str) -> str:
        """The absolute path that a tool is given."""
        return f"{self.root}/{name}"

    def listing(self, name: str, offset: int = 1, limit: int = 2000) -> str:
        """A file as the tool Read shows it, with numbered lines."""
        lines = self.files[name].splitlines()[offset - 1 : offset - 1 + limit]
        return "\n".join(f"{offset + n:6}→{line}" for n, line in enumerate(lines))

    def matches(self, pattern: str) -> str:
        """Every line that matches, as the tool Grep shows it."""
        found = [
            f"{name}:{number}:{line}"
            for name, text in sorted(self.files.items())
            for number, line in enumerate(text.splitlines(), 1)
            if re.search(pattern, line)
        ]
        return "\n".join(found) or "No matches found"

    def replace(self, name: str, old: str, new: str) -> str:
        """Edit a file; return what the tool Edit answers."""
        text = self.files[name]
        if text.count(old) != 1:
            raise ValueError(f"{old!r} stands {text.count(old)} times in {name}")
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
        title: Names the session to us; its id is made from it.
        cwd: The folder that it works in, which also names its project's folder.
        start: When it begins, as ISO 8601 in UTC.
        version: Of Claude Code.
        agent: This is the talk of the sub-agent with this id, of the session with the same title.
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
        """An id that depends on the session's name and on how many were asked for."""
        self._calls += 1
        return prefix + uuid.uuid5(NAMESPACE, f"{self.name}:{prefix}:{self._calls}").hex[:length]

    def now(self, seconds: float = 1.0) -> str:
        """Let time pass, and tell it."""
        self._time += timedelta(seconds=seconds)
        return self._time.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def record(self, kind: str, *, seconds: float = 1.0, **fields: Any) -> dict[str, Any]:
        """Write a record that is part of the tree of messages."""
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
        """Write a record as it is, or bytes that are none; glued to the line before if asked."""
        if isinstance(record, dict):
            record = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
        if glued:
            self.lines[-1] += record
        else:
            self.lines.append(record)

    def copy(self, other: "Session", count: int) -> None:
        """Begin as a resumed session does: with the other's first records, uuids and all."""
        self.lines += other.lines[:count]
        self._last = json.loads(self.lines[-1]).get("uuid")

    def project(self, root: Path) -> Path:
        """The folder that Claude Code would keep this session in."""
        return root / re.sub(r"[^A-Za-z0-9]", "-", self.cwd)

    def write(self, root: Path, end: bytes = b"\n") -> None:
        """Write the file; a sub-agent's in its session's folder, or beside it as older versions do."""
        folder, name = self.project(root), self.id
        if self.agent:
            name = f"agent-{self.agent}"
            folder = folder if self.version < "2.1" else folder / self.id / "subagents"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.jsonl").write_bytes(b"\n".join(self.lines) + end)

    # The story

    def user(self, content: str | list[dict[str, Any]], **fields: Any) -> None:
        """What stands in the user's place."""
        self.record("user", message={"role": "user", "content": content}, seconds=20, **fields)

    def assistant(self, *blocks: dict[str, Any], **fields: Any) -> None:
        """One API message: a line per block, its reason to stop only on the last."""
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
        """What the agent answers."""
        self.assistant({"type": "text", "text": text})

    def call(self, *calls: tuple[str, dict[str, Any], str], text: str = "", thinking: str = "") -> None:
        """A message that calls one tool or several at once, and what each gave back."""
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
                self.snapshot(given["file_path"])

    def result(self, call: str, content: Any, *, is_error: bool = False) -> None:
        """What a tool gave back, with the second copy of it that Claude Code keeps."""
        block: dict[str, Any] = {"tool_use_id": call, "type": "tool_result", "content": content}
        if is_error:
            block["is_error"] = True
        copy = {"stdout": content[:400], "stderr": ""} if isinstance(content, str) else {"content": "..."}
        message = {"role": "user", "content": [block]}
        self.record("user", message=message, toolUseResult=copy, seconds=0.4)

    def snapshot(self, path: str = "") -> None:
        """Book-keeping: which files can be rolled back."""
        own = str(uuid.uuid5(NAMESPACE, f"{self.name}:snapshot:{len(self.lines)}"))
        backups = {path: {"backupFileName": "8f1c@v2", "version": 2}} if path else {}
        snapshot = {"messageId": own, "trackedFileBackups": backups, "timestamp": self.now(0.0)}
        record = {"type": "file-history-snapshot", "messageId": own, "snapshot": snapshot}
        self.raw({**record, "isSnapshotUpdate": bool(path)})

    def progress(self, call: str, output: str) -> None:
        """Book-keeping: a command that still runs."""
        data = {"type": "bash_progress", "output": output, "elapsedTimeSeconds": 4}
        self.record("progress", data=data, toolUseID=call, parentToolUseID=call, seconds=0.2)

    def attach(self, **attachment: Any) -> None:
        """Something that Claude Code attaches to the talk."""
        self.record("attachment", attachment=attachment)

    def system(self, subtype: str, **fields: Any) -> None:
        """A message of the program to itself."""
        self.record("system", subtype=subtype, level="info", isMeta=False, **fields)


def todo(*items: Sequence[str]) -> tuple[str, dict[str, Any], str]:
    """A call of TodoWrite; each item is (status, what)."""
    todos = [{"content": what, "status": status, "activeForm": what} for status, what in items]
    answer = "Todos have been modified successfully. Ensure that you continue to use the todo list."
    return "TodoWrite", {"todos": todos}, answer

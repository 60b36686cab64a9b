"""Writes lines of a made-up session as Claude Code stores them: `primer.jsonl`, which experts have read too.

Their keys are those of versions 1.0 to 2.1, in their order; what they say is made up. The file ships with
sttx. Other lines make other archives, and earlier ones then cannot be read: the shipped file stays.

    python primer_lines.py --out primer.jsonl
"""

import argparse
import base64
import hashlib
import itertools
import json
import pathlib
from collections.abc import Iterator
from typing import Any

Record = dict[str, Any]

SOURCE = '"""Adds numbers."""\n\n\ndef add(first, second):\n    return first + second\n'
CHANGED = SOURCE.replace("first + second", "second + first")
PATH = "/home/user/project/src/add.py"
CREATED = {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 812}


def random_bytes(name: str, size: int = 16) -> bytes:
    """Return bytes that look random, always the same for a name."""
    return hashlib.shake_256(name.encode()).digest(size)


def identifier(prefix: str, name: str) -> str:
    """Return an identifier as the API makes them."""
    letters = base64.b64encode(random_bytes(name, 24), b"xy").decode()
    return f"{prefix}_01{letters[:22]}"


def usages() -> Iterator[Record]:
    """Yield the usage of tokens, as several versions write it."""
    counts = {"input_tokens": 3, "cache_creation_input_tokens": 812, "cache_read_input_tokens": 18_204}
    old = {**counts, "cache_creation": CREATED, "output_tokens": 2, "service_tier": "standard"}
    tools = {"server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0}}
    latest = {**counts, "output_tokens": 187, **tools, "service_tier": "standard", "cache_creation": CREATED}
    latest |= {"inference_geo": "", "iterations": []}
    yield from itertools.cycle([old, {**old, "inference_geo": "not_available"}, old, latest])


def calls() -> Iterator[tuple[str, Record, str, Any]]:
    """Yield the name and input of each call, what it returned as text, and as `toolUseResult`."""
    numbered = "\n".join(f"{number:6d}→{line}" for number, line in enumerate(SOURCE.split("\n"), 1))
    lines = {"numLines": 6, "startLine": 1, "totalLines": 6}
    read = {"type": "text", "file": {"filePath": PATH, "content": SOURCE, **lines}}
    yield "Read", {"file_path": PATH}, numbered, read
    yield "Read", {"file_path": PATH, "offset": 1, "limit": 6}, numbered, read
    hunk = {"oldStart": 3, "oldLines": 3, "newStart": 3, "newLines": 3}
    patch = [" ", " def add(first, second):", "-    return first + second", "+    return second + first"]
    parts = {"old_string": "first + second", "new_string": "second + first"}
    done = f"The file {PATH} has been updated. Here's the result of running `cat -n` on a snippet:\n"
    done += numbered
    edit = {"filePath": PATH, "oldString": "first + second", "newString": "second + first"}
    edit |= {"originalFile": SOURCE, "structuredPatch": [{**hunk, "lines": patch}]}
    edit |= {"userModified": False, "replaceAll": False}
    yield "Edit", {"replace_all": False, "file_path": PATH, **parts}, done, edit
    yield "Edit", {"file_path": PATH, **parts}, done, edit
    output = {"stdout": "3 passed in 0.02s", "stderr": "", "interrupted": False, "isImage": False}
    shell = {"command": "pytest -q", "description": "Run the tests"}
    yield "Bash", shell, "3 passed in 0.02s", output
    yield "Bash", {**shell, "timeout": 60_000}, "3 passed in 0.02s", {**output, "noOutputExpected": False}
    found = {"mode": "content", "numFiles": 0, "filenames": [], "content": "4:def add(", "numLines": 1}
    search = {"pattern": "def add", "path": "/home/user/project", "output_mode": "content", "-n": True}
    yield "Grep", search, "4:def add(", found
    files = {"mode": "files_with_matches", "filenames": ["src/add.py"], "numFiles": 1}
    yield "Grep", {"pattern": "def add"}, "Found 1 file\nsrc/add.py", files
    listed = {"filenames": [PATH], "durationMs": 12, "numFiles": 1, "truncated": False}
    yield "Glob", {"pattern": "**/*.py"}, PATH, listed
    made = {"type": "create", "filePath": PATH, "content": CHANGED}
    made |= {"structuredPatch": [], "originalFile": None}
    yield "Write", {"file_path": PATH, "content": CHANGED}, f"File created successfully at: {PATH}", made
    todo = {"content": "Run the tests", "status": "pending", "activeForm": "Running the tests"}
    changed = {"oldTodos": [], "newTodos": [todo, todo]}
    yield "TodoWrite", {"todos": [todo, todo]}, "Todos have been modified successfully.", changed


class Session:
    """Makes records that follow each other."""

    def __init__(self, version: str, slug: str, agent: str) -> None:
        self._head = {"isSidechain": bool(agent), "userType": "external", "cwd": "/home/user/project"}
        self._head |= {"sessionId": self._uuid(version + agent), "version": version, "gitBranch": "main"}
        self._head |= {"agentId": agent} if agent else {}
        self._head |= {"slug": slug} if slug else {}
        self._parent: str | None = None
        self._name, self._records = version + agent, 0
        self._usages = usages()
        self._turn = 0

    def _uuid(self, name: str) -> str:
        text = random_bytes(name).hex()
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"

    def record(self, middle: Record, end: Record | None = None, *, time_first: bool = False) -> Record:
        """Return a record with this between its head and its end."""
        self._records += 1
        seconds, milliseconds = divmod(self._records * 2_371, 1_000)
        time = f"2026-02-02T04:{seconds // 60:02d}:{seconds % 60:02d}.{milliseconds:03d}Z"
        here = self._uuid(f"{self._name} {self._records}")
        marks = {"timestamp": time, "uuid": here} if time_first else {"uuid": here, "timestamp": time}
        result = {"parentUuid": self._parent, **self._head, **middle, **marks, **(end or {})}
        self._parent = here
        return result

    def says(self, *blocks: Record) -> Iterator[Record]:
        """Yield an answer, a record for each block."""
        self._turn += 1
        name, usage = f"{self._name} {self._turn}", next(self._usages)
        for number, block in enumerate(blocks):
            stop = "tool_use" if "input" in block else "end_turn"
            message = {"model": "claude-opus-4-5-20251101", "id": identifier("msg", name)}
            message |= {"type": "message", "role": "assistant", "content": [block]}
            message |= {"stop_reason": stop if number + 1 == len(blocks) else None, "stop_sequence": None}
            more = {"requestId": f"req_011CX{identifier('', name)[3:22]}", "type": "assistant"}
            yield self.record({"message": {**message, "usage": usage}, **more})

    def asks(self, content: object, **more: object) -> Record:
        """Return what a user says."""
        return self.record({"type": "user", "message": {"role": "user", "content": content}}, dict(more))


def turns(session: Session, *, hooks: bool, caller: bool) -> Iterator[Record]:
    """Yield a session in which each call is made once."""
    thinking = {"maxThinkingTokens": 31_999}
    yield session.asks("Add a test for `add`, and run it.", thinkingMetadata=thinking, todos=[])
    for number, (name, given, text, result) in enumerate(calls()):
        tool = identifier("toolu", f"{name} {number} {hooks} {caller}")
        call = {"type": "tool_use", "id": tool, "name": name, "input": given}
        call |= {"caller": {"type": "direct"}} if caller else {}
        thought = {"type": "thinking", "thinking": "I look at the file first.", "signature": "RXh0cmE="}
        said = {"type": "text", "text": "Let me look at the file first."}
        answer = list(session.says(*([thought] if number % 2 else []), said, call))
        yield from answer
        if hooks:
            for event, first in (("PreToolUse", False), ("PostToolUse", True)):
                data = {"type": "hook_progress", "hookEvent": event, "hookName": f"{event}:{name}"}
                names = {"toolUseID": tool, "parentToolUseID": tool}
                middle = {"type": "progress", "data": {**data, "command": "callback"}}
                middle |= dict(reversed(names.items())) if first else names
                yield session.record(middle, time_first=first)
        block = {"tool_use_id": tool, "type": "tool_result", "content": text}
        block |= {"is_error": False} if name == "Bash" else {}
        yield session.asks([block], toolUseResult=result, sourceToolAssistantUUID=answer[-1]["uuid"])
    tool = identifier("toolu", f"last {hooks}")
    failed = {"type": "tool_result", "content": "Exit code 1", "is_error": True, "tool_use_id": tool}
    yield session.asks([failed], toolUseResult="Error: Exit code 1", sourceToolAssistantUUID=tool)
    yield from session.says({"type": "text", "text": "The test passes."})
    ended = {"type": "system", "subtype": "turn_duration", "durationMs": 31_204}
    yield session.record(ended, {"isMeta": False}, time_first=True)


def lines() -> Iterator[Record]:
    """Yield the records of three sessions, and those of no session between."""
    snapshot = {"trackedFileBackups": {}, "timestamp": "2026-02-02T04:00:00.000Z"}
    name = "8a1f2e60-3c5d-4e7f-a0b1-c2d3e4f50617"
    yield {"type": "summary", "summary": "A test for add", "leafUuid": name}
    snapshot_of = {"messageId": name, "snapshot": {"messageId": name, **snapshot}, "isSnapshotUpdate": False}
    yield {"type": "file-history-snapshot", **snapshot_of}
    yield from turns(Session("2.1.29", "calm-green-river", ""), hooks=True, caller=False)
    yield from turns(Session("1.0.98", "", ""), hooks=False, caller=False)
    yield from turns(Session("2.1.45", "calm-green-river", "a1b2c3d"), hooks=True, caller=True)


def main() -> None:
    """Write the lines."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    text = "".join(json.dumps(one, ensure_ascii=False, separators=(",", ":")) + "\n" for one in lines())
    parser.parse_args().out.write_text(text, "utf-8")


if __name__ == "__main__":
    main()

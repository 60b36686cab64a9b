"""Identifies the session and sub-agent of Claude Code's records, by their file's path or by their parents.

A session is `<project's slug>/<session>.jsonl`. Its sub-agents are `agent-<id>.jsonl` below
`<session>/subagents/`, possibly in another sub-agent's folder there; early versions wrote them next to the
session. The earliest versions wrote them into the session's own file, without an id. No file is opened here.
"""

import re
from pathlib import PurePath
from typing import Any

from sttx_ccsniff.parse.project import session_folder_of_subagent

_SUBAGENT_FILE = re.compile(r"agent-(.+)")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_MOST_RECENT = 32  # latest records that are searched for a parent


def identity_of(origin: str) -> tuple[str, str]:
    """Return the session and sub-agent that a path names, for records that name none.

    >>> identity_of("/projects/slug/0f3c/subagents/agent-a1.jsonl"), identity_of("/projects/slug/0f3c.jsonl")
    (('0f3c', 'a1'), ('0f3c', ''))
    """
    path = PurePath(origin)
    stem = path.name.split(".")[0]
    match = _SUBAGENT_FILE.fullmatch(stem)
    if not match:
        return stem, ""
    folder = session_folder_of_subagent(path)
    return (folder.name if folder else ""), match[1]


def session_folder(origin: str, session: str) -> PurePath | None:
    """Return the folder of a session's extra files; None if the session's name is not a plain file name.

    >>> session_folder("/projects/slug/0f3c.jsonl", "0f3c").as_posix()
    '/projects/slug/0f3c'
    >>> session_folder("/projects/slug/0f3c/subagents/agent-a1.jsonl", "0f3c").as_posix()
    '/projects/slug/0f3c'
    """
    path = PurePath(origin)
    if folder := session_folder_of_subagent(path):
        return folder
    stem = path.name.split(".")[0]
    name = session if _SUBAGENT_FILE.fullmatch(stem) else stem
    return path.parent / name if _PLAIN_NAME.fullmatch(name) else None


class Sidechains:
    """Names the sub-agents that have no id by their first record.

    Such records have `isSidechain`. A sub-agent's first record has no parent record, and each later record
    has one of the sub-agent's own as its parent. So the chain of parents identifies the sub-agent, even if
    several run at once. A sub-agent whose records name the call that started it (`parentToolUseId`) is named
    by that call.

    >>> chains = Sidechains()
    >>> records = [("a", None), ("b", None), ("c", "a"), ("d", "b"), ("e", "c")]
    >>> [chains.subagent_of({"uuid": uuid, "parentUuid": parent}) for uuid, parent in records]
    ['sidechain-a', 'sidechain-b', 'sidechain-a', 'sidechain-b', 'sidechain-a']
    """

    def __init__(self) -> None:
        self._recent: tuple[tuple[str, str], ...] = ()  # (uuid, sub-agent), newest first; never mutated

    def subagent_of(self, record: dict[str, Any]) -> str:
        """Return the sub-agent of a record; asking again returns the same."""
        uuid, parent = record.get("uuid"), record.get("parentUuid")
        if not isinstance(uuid, str) or not uuid:
            return self._recent[0][1] if self._recent else "sidechain"
        known = dict(self._recent)
        if uuid in known:
            return known[uuid]
        subagent = ""
        if isinstance(parent, str) and parent:
            subagent = known.get(parent) or (self._recent[0][1] if self._recent else "")
        subagent = subagent or f"sidechain-{uuid[:8]}"
        self._recent = ((uuid, subagent), *self._recent[: _MOST_RECENT - 1])
        return subagent

    def started_by(self, call: str) -> str:
        """Return the sub-agent that a call started."""
        if not self.has_started(call):
            self._recent = ((call, call), *self._recent[: _MOST_RECENT - 1])
        return call

    def has_started(self, call: str) -> bool:
        """Return whether a call started one of the latest sub-agents."""
        return (call, call) in self._recent

    def state_dict(self) -> tuple[tuple[str, str], ...]:
        """Return the latest records as (uuid, sub-agent), newest first, JSON-able."""
        return self._recent

    def load_state_dict(self, state: list[Any] | tuple[Any, ...]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: The state is invalid.
        """
        recent: list[tuple[str, str]] = []
        for record in state:
            match record:
                case [str(uuid), str(subagent)]:
                    recent.append((uuid, subagent))
                case _:
                    raise ValueError("not a state of sub-agents")
        self._recent = tuple(recent[:_MOST_RECENT])

"""Identifies the session and sub-agent of a Codex rollout, and the items that it copies from another thread.

A thread is a session, a fork of one, or a sub-agent of one; its first `session_meta` line says which. The
file of a fork or sub-agent may start with copies of its parent's items, with new times. A copy is recognized
by its content: the id of a call, or the text. Newer sub-agents give the line where their own history starts,
and newer forks refer to their parent's file without copies. Copies are searched only at the start of a file,
up to the first item that no ancestor has, so what a person repeats later is kept.
"""

import hashlib
import re
from pathlib import PurePath
from typing import Any, TypeGuard

from sttx_ccsniff.parse.content import text_of
from sttx_ccsniff.parse.project import project_of
from sttx_ccsniff.seen import Seen
from sttx_core.traces import AssistantMessage, Meta, Thinking, ToolResult, ToolUse, Trace, UserMessage

_MOST_ANCESTORS = 256  # they are saved in every place
_FILE = re.compile(r"rollout-[0-9T-]{19}-([0-9a-fA-F-]{36})")


def rollout_of(thread: str) -> str:
    """Return what is remembered once an item of a thread's rollout is read."""
    return f"codex rollout {thread}"


class Thread:
    """Facts about a thread from the lines read so far.

    Attributes:
        inherits: Whether the thread continues another thread.
        project: The name of the first folder that it worked in.

    >>> thread = Thread("/x/rollout-2026-01-02T03-04-05-0199aaaa-0000-7000-8000-000000000001.jsonl", Seen())
    >>> thread.meta(1).session
    '0199aaaa-0000-7000-8000-000000000001'
    >>> thread.begin({"id": "child", "source": {"subagent": {"thread_spawn": {"parent_thread_id": "p"}}}})
    >>> thread.meta(7).session, thread.meta(7).subagent, thread.meta(7).parent, thread.meta(7).uid
    ('p', 'child', 'p', 'child:7')
    """

    def __init__(self, origin: str, seen: Seen) -> None:
        name = PurePath(origin).name
        match = _FILE.match(name)
        self._origin = origin
        self._seen = seen
        self._id = match[1] if match else name.split(".")[0]
        self._named = False
        self._session, self._subagent, self._parent = self._id, "", ""
        self._own_from = 0
        self._ancestors: tuple[str, ...] = ()
        self._copying = False
        self.inherits = False
        self.project = ""

    def state_dict(self) -> tuple[Any, ...]:
        """Return everything needed to continue, JSON-able; the objects in it are never mutated."""
        return (
            (self._id, self._session, self._subagent, self._parent, self.project),
            (self._named, self._copying, self.inherits),
            self._own_from,
            self._ancestors,
        )

    def load_state_dict(self, state: Any) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: The state is invalid.
        """
        match state:
            case [
                [str(own), str(session), str(subagent), str(parent), str(project)],
                [bool(named), bool(copying), bool(inherits)],
                int(own_from),
                [*ancestors],
            ] if _are_names(ancestors):
                self._id, self._session, self._subagent, self._parent = own, session, subagent, parent
                self._named, self._copying, self._own_from = named, copying, own_from
                self._ancestors, self.inherits, self.project = tuple(ancestors), inherits, project
            case _:
                raise ValueError("not a state of a Codex thread")

    @property
    def speaker(self) -> tuple[str, str]:
        """Session and sub-agent; the sub-agent is "" for the session itself."""
        return self._session, self._subagent

    def begin(self, payload: dict[str, Any]) -> None:
        """Read a `session_meta`: the first names the thread; a later one of another thread is a copy."""
        own = payload.get("id")
        assert isinstance(own, str)
        if self._named:
            if own != self._id:
                self._copies_from(own)
            return
        self._named = True
        self._id = self._session = own
        self.project = project_of(payload.get("cwd"), "")
        forked = payload.get("forked_from_id")
        by_reference = isinstance(payload.get("history_base"), dict)
        if isinstance(forked, str) and forked and not by_reference:
            self._copies_from(forked)
        self.inherits = self.inherits or by_reference
        self._attribute(payload, text_of(forked))

    def _attribute(self, payload: dict[str, Any], forked: str) -> None:
        source = payload.get("source")
        spawned = source.get("subagent") if isinstance(source, dict) else None
        root, parent = payload.get("session_id"), payload.get("parent_thread_id")
        above = [one for one in (root, parent) if isinstance(one, str) and one not in ("", self._id)]
        if spawned is None and payload.get("thread_source") != "subagent" and not above:
            return
        start = payload.get("subagent_history_start_ordinal")
        self._own_from = start if type(start) is int and start > 0 else 0
        spawn = spawned.get("thread_spawn") if isinstance(spawned, dict) else None
        named = [parent, spawn.get("parent_thread_id") if isinstance(spawn, dict) else ""]
        known = [one for one in (*named, forked, *above) if isinstance(one, str) and one]
        self._parent = known[0] if known else ""
        self._session = root if isinstance(root, str) and root else self._parent or self._id
        if self._session != self._id:
            self._subagent = self._id
        else:
            self._subagent = spawned if isinstance(spawned, str) and spawned else "subagent"

    def _copies_from(self, thread: str) -> None:
        if thread not in self._ancestors:
            self._ancestors = (*self._ancestors, thread)[-_MOST_ANCESTORS:]
        self._copying = self.inherits = True

    def is_copying(self, ordinal: int | None) -> bool:
        """Return whether a line with this ordinal is a copy, judged by the lines before it."""
        return self._copying or (ordinal is not None and ordinal < self._own_from)

    def why_not_new(self, traces: list[Trace], number: int, ordinal: int | None, name: str = "") -> str:
        """Remember an item; return why its traces were delivered before, or "" if they were not.

        Args:
            traces: The traces of the item.
            number: The item's number.
            ordinal: The ordinal of its line, if it has one.
            name: The item's own id, if it has one: a long thread may repeat the item on another line.
        """
        if ordinal is not None and ordinal < self._own_from:
            return "copied record"
        content = _fingerprint(traces)
        if self._copying:
            if any(not self._seen.first_time(f"codex {one} {content}") for one in self._ancestors):
                return "copied record"
            self._copying = False
        self._seen.first_time(f"codex {self._id} {content}")
        self._seen.first_time(rollout_of(self._id))
        key = f"codex {self._id} {number} {content}"
        is_named = name or isinstance(traces[0], (ToolUse, ToolResult)) and traces[0].id
        if ordinal is not None and is_named:  # only versions that write ordinals repeat items
            if self._seen.knows(key):  # the key of every item in earlier versions
                return "duplicate record"
            key = f"codex {self._id} {name} {content} {_digest_of_all(traces)}"
        return "" if self._seen.first_time(key) else "duplicate record"

    def meta(self, number: int, time: float = 0.0, segment: int = 0) -> Meta:
        """Return the `Meta` of the item with this number."""
        return Meta(
            session=self._session,
            project=self.project,
            time=time,
            uid=f"{self._id}:{number}",
            origin=self._origin,
            subagent=self._subagent,
            parent=self._parent,
            segment=segment,
        )


def _are_names(values: list[Any]) -> TypeGuard[list[str]]:
    return all(isinstance(value, str) for value in values)


def _fingerprint(traces: list[Trace]) -> str:
    """Return a digest that an item shares with its copies: of the id of its call, or else of its text."""
    digest = hashlib.blake2b(digest_size=8)
    for trace in traces:
        match trace:
            case ToolUse(id=call) | ToolResult(id=call) if call:
                words = call
            case UserMessage(text=words) | AssistantMessage(text=words) | Thinking(text=words):
                pass
            case ToolResult(output=words):
                pass
            case ToolUse(input=given):
                words = text_of(given)
            case _:
                words = text_of(getattr(trace, "raw", ""))
        digest.update(f"{type(trace).__name__}\0{words}".encode("utf-8", "replace"))
    return digest.hexdigest()


def _digest_of_all(traces: list[Trace]) -> str:
    """Return a digest of everything that an item says."""
    said = [
        [getattr(trace, key) for key in ("text", "id", "input", "output", "raw") if hasattr(trace, key)]
        for trace in traces
    ]
    return hashlib.blake2b(text_of(said).encode("utf-8", "replace"), digest_size=8).hexdigest()

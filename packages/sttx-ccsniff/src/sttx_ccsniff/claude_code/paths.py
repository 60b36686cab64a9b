"""What the path of a Claude Code session file says: session, sub-agent and the folder beside it.

A session is `<project's slug>/<session>.jsonl`. Its sub-agents are `agent-<id>.jsonl` under
`<session>/subagents/`, or under another sub-agent's folder there, and in earlier versions beside the session.
Nothing is opened here.
"""

import re
from pathlib import PurePath

from sttx_ccsniff.parse.project import folder_of_sub_agents

_AGENT_FILE = re.compile(r"agent-(.+)")
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


def identity_of(origin: str) -> tuple[str, str]:
    """Session and sub-agent that a file's path names, for records that do not say.

    >>> identity_of("/projects/slug/0f3c/subagents/agent-a1.jsonl"), identity_of("/projects/slug/0f3c.jsonl")
    (('0f3c', 'a1'), ('0f3c', ''))
    """
    path = PurePath(origin)
    stem = path.name.split(".")[0]
    found = _AGENT_FILE.fullmatch(stem)
    if not found:
        return stem, ""
    folder = folder_of_sub_agents(path)
    return (folder.name if folder else ""), found[1]


def session_folder(origin: str, session: str) -> PurePath | None:
    """Find the folder that a session has beside its file; None where the session has no plain name.

    >>> session_folder("/projects/slug/0f3c.jsonl", "0f3c").as_posix()
    '/projects/slug/0f3c'
    >>> session_folder("/projects/slug/0f3c/subagents/agent-a1.jsonl", "0f3c").as_posix()
    '/projects/slug/0f3c'
    """
    path = PurePath(origin)
    if folder := folder_of_sub_agents(path):
        return folder
    stem = path.name.split(".")[0]
    name = session if _AGENT_FILE.fullmatch(stem) else stem
    return path.parent / name if _PLAIN.fullmatch(name) else None

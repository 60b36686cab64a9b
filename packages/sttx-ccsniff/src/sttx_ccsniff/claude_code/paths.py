"""What the path of a Claude Code session file tells: the session, the sub-agent and the session's folder.

A session is `<project's slug>/<session>.jsonl`. Its sub-agents are `agent-<id>.jsonl` below
`<session>/subagents/`, possibly in another sub-agent's folder there; early versions wrote them next to the
session. No file is opened here.
"""

import re
from pathlib import PurePath

from sttx_ccsniff.parse.project import session_folder_of_subagent

_SUBAGENT_FILE = re.compile(r"agent-(.+)")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


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

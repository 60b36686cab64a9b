"""What the path of one of Claude Code's session files says: session, sub-agent, project, folder beside it.

A session is `<project's slug>/<session>.jsonl`. Its sub-agents are `agent-<id>.jsonl` under
`<session>/subagents/`, or under another sub-agent's folder there, and in earlier versions beside the session.
Nothing is opened here.
"""

import re
from pathlib import PurePath
from typing import Any

_AGENT_FILE = re.compile(r"agent-(.+)")
_HOME = re.compile(r"(?:/(?:home|Users)|[A-Za-z]:[\\/]Users)[\\/][^\\/]+[\\/]?")
_DEEPEST = 3  # folders from a sub-agent's file up to `subagents`
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
    folder = _folder_of_sub_agents(path)
    return (folder.name if folder else ""), found[1]


def project_of(cwd: Any, origin: str) -> str:
    r"""The name of the folder that a session began to work in; where no record says, of its file's folder.

    >>> project_of("C:\\shop\\", ""), project_of(None, "/projects/slug/0f3c/subagents/agent-a1.jsonl")
    ('shop', 'slug')
    >>> project_of("/home/ada", "")  # a home folder's name is a person's
    '~'
    """
    if isinstance(cwd, str) and _HOME.fullmatch(cwd):
        return "~"
    if isinstance(cwd, str) and (name := re.split(r"[\\/]", cwd.rstrip("\\/"))[-1]):
        return name
    path = PurePath(origin)
    return (_folder_of_sub_agents(path) or path).parent.name


def session_folder(origin: str, session: str) -> PurePath | None:
    """Find the folder that a session has beside its file; None where the session has no plain name.

    >>> session_folder("/projects/slug/0f3c.jsonl", "0f3c").as_posix()
    '/projects/slug/0f3c'
    >>> session_folder("/projects/slug/0f3c/subagents/agent-a1.jsonl", "0f3c").as_posix()
    '/projects/slug/0f3c'
    """
    path = PurePath(origin)
    if folder := _folder_of_sub_agents(path):
        return folder
    stem = path.name.split(".")[0]
    name = session if _AGENT_FILE.fullmatch(stem) else stem
    return path.parent / name if _PLAIN.fullmatch(name) else None


def _folder_of_sub_agents(path: PurePath) -> PurePath | None:
    """The folder of the session under which a sub-agent's file is."""
    if not _AGENT_FILE.fullmatch(path.name.split(".")[0]):
        return None
    for parent in path.parents[:_DEEPEST]:
        if parent.name == "subagents":
            return _folder_of_sub_agents(parent.parent) or parent.parent
    return None

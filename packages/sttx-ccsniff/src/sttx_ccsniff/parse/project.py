"""Names the project that a session worked on."""

import re
from pathlib import PurePath
from typing import Any

_HOME = re.compile(r"(?:/(?:home|Users)|[A-Za-z]:[\\/]Users)[\\/][^\\/]+[\\/]?")
_SUBAGENT_FILE = re.compile(r"agent-(.+)")
_DEEPEST = 3  # folders between a sub-agent's file and `subagents`


def project_of(cwd: Any, origin: str) -> str:
    r"""Return the name of a session's working folder, or of its file's folder if no record has one.

    >>> project_of("C:\\shop\\", ""), project_of(None, "/projects/slug/0f3c/subagents/agent-a1.jsonl")
    ('shop', 'slug')
    >>> project_of("/home/ada", "")  # a home folder has a person's name
    '~'
    """
    if isinstance(cwd, str) and _HOME.fullmatch(cwd):
        return "~"
    if isinstance(cwd, str) and (name := re.split(r"[\\/]", cwd.rstrip("\\/"))[-1]):
        return name
    path = PurePath(origin)
    return (session_folder_of_subagent(path) or path).parent.name


def session_folder_of_subagent(path: PurePath) -> PurePath | None:
    """Return the session folder that contains a sub-agent's file; None for any other file."""
    if not _SUBAGENT_FILE.fullmatch(path.name.split(".")[0]):
        return None
    for parent in path.parents[:_DEEPEST]:
        if parent.name == "subagents":
            return session_folder_of_subagent(parent.parent) or parent.parent
    return None

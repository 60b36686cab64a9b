"""The name of the project that a session worked on."""

import re
from pathlib import PurePath
from typing import Any

_HOME = re.compile(r"(?:/(?:home|Users)|[A-Za-z]:[\\/]Users)[\\/][^\\/]+[\\/]?")
_SUB_AGENT_FILE = re.compile(r"agent-(.+)")
_DEEPEST = 3  # folders from a sub-agent's file up to `subagents`


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
    return (folder_of_sub_agents(path) or path).parent.name


def folder_of_sub_agents(path: PurePath) -> PurePath | None:
    """The folder of the session under which a sub-agent's file is."""
    if not _SUB_AGENT_FILE.fullmatch(path.name.split(".")[0]):
        return None
    for parent in path.parents[:_DEEPEST]:
        if parent.name == "subagents":
            return folder_of_sub_agents(parent.parent) or parent.parent
    return None

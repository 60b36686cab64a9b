"""Says whether a call of a tool waits for something: a build, a server, a job in the background.

Polling repeats itself on purpose. Knows names of tools and commands; nothing of prices.
"""

from __future__ import annotations

import json
import re

from sttx_core.traces import ToolUse

_TOOLS = re.compile(
    r"(?i)(?:^|[_.])(?:bash_?output|task_?output|agent_?output|get_?output|wait(?:_?for)?\w*|sleep|poll\w*|monitor"
    r"|browser_wait\w*|write_stdin|schedule_?wakeup)$"
)
"""BashOutput and TaskOutput of Claude Code, write_stdin and wait_agent of Codex, wait_for of browsers."""

_COMMANDS = re.compile(
    r"\b(?:sleep|Start-Sleep|usleep)\s+(?:-\w+\s+)*[\d.$]|\bsleep\(|\bsetTimeout\("
    r"|(?:^|[;&|(]\s*)(?:watch|wait|inotifywait)\b|\s--(?:watch|wait|exit-status)\b(?![= ](?:false|no|0)\b)"
    r"|(?:^|[;&|(\n])(?!\s*(?:\w+=\S*\s+)*git\b)[^;&|(\n]*\s--follow\b|\btail\s+-\w*[fF]\b"
    r"|\bwait-on\b|\bkubectl\s+(?:wait|rollout\s+status)\b|\bgh\s+run\s+watch\b"
)


def waits(call: ToolUse) -> bool:
    """Return whether a call waits, by its tool's name or its command.

    >>> from sttx_core.traces import Meta
    >>> poll = ToolUse(meta=Meta(session="s"), name="Bash", input={"command": "sleep 30; gh run view 7"})
    >>> waits(poll), waits(ToolUse(meta=Meta(session="s"), name="Bash", input={"command": "npm test"}))
    (True, False)
    """
    if _TOOLS.search(call.name):
        return True
    return any(_COMMANDS.search(text) for text in _commands(call.input))


def _commands(value: object) -> list[str]:
    """Return the commands of a call's input: text under a name that means one, or all of another form."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, dict):
        return []
    found = [value[name] for name in ("command", "cmd", "script", "code") if name in value]
    return [one if isinstance(one, str) else json.dumps(one) for one in found]

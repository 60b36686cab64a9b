"""Tool calls as text: which tool a rendered call names, and which shell command it gives, as far as it goes.

A call is rendered as ``Tool call: NAME {json}``. A shell command is a string in that JSON, and what stands
before it is its opening, such as ``{"command":"``. Knows text; neither tokens nor probabilities.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sttx_core.render import render
from sttx_core.traces import ToolUse

HEAD = b"Tool call: "
"""How every rendered call with a name begins."""

LENGTHS = (1, 2, 4)
"""Beginnings of a command that are looked at, in words."""

COMMON = {
    "Bash": (b'{"command":"',),
    "bash": (b'{"command":"',),
    "shell": (b'{"command":["bash","-lc","',),
    "exec_command": (b'{"cmd":"',),
}
"""Shell tools of Claude Code, OpenCode and Codex, and their openings."""

LONGEST_NAME = 64
LONGEST_COMMAND = 160
"""Bytes after which a name or a command is not followed any further."""

_KEYS = ("command", "cmd")
_CONTENT = re.compile(rb'(?:[^"\\]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*')


@dataclass(frozen=True, kw_only=True)
class ShellCommand:
    """A command in a tool call.

    Attributes:
        text: the command, as the shell gets it.
        opening: the call's JSON up to it; empty if that is not known.
    """

    text: str
    opening: bytes


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """What the first bytes of a trace's text say of the call that it may be.

    Attributes:
        is_call: whether the text begins as a call does; if it is shorter than that, False.
        open: whether more text may say more.
        name: the tool's name, if it is complete.
        command: the command so far, if the text has reached it.
        complete: number of words of the command that are complete.
        ended: whether the command is complete.
    """

    is_call: bool = False
    open: bool = False
    name: str | None = None
    command: str | None = None
    complete: int = 0
    ended: bool = False


def shell_command(call: ToolUse) -> ShellCommand | None:
    r"""Return the command of a call of a shell tool; None for other calls.

    It is a string named ``command`` or ``cmd`` in the input, or the last one of a list with that name.

    >>> from sttx_core.traces import Meta
    >>> call = ToolUse(meta=Meta(session="s"), name="Bash", input={"command": "git log", "timeout": 5})
    >>> shell_command(call)
    ShellCommand(text='git log', opening=b'{"command":"')
    """
    if not isinstance(call.input, dict):
        return None
    for key in _KEYS:
        value = call.input.get(key)
        end = b""
        if isinstance(value, list) and value:
            value, end = value[-1], b"]"
        if isinstance(value, str) and value.split():
            body = render(call).encode().removeprefix(HEAD).partition(b"{")[2]
            after = body.find(f'"{key}":'.encode()) + len(key) + 3  # another value may be the same text
            at = body.find(json.dumps(value, ensure_ascii=False).encode(errors="replace") + end, after)
            return ShellCommand(text=value, opening=b"{" + body[:at] + b'"' if at >= 0 else b"")
    return None


def begin(text: str, words: int) -> str:
    """Return the first words of a command, or all if it has fewer.

    >>> begin("git  log -3", 2)
    'git log'
    """
    return " ".join(text.split()[:words])


def read_beginning(text: bytes, openings: Mapping[str, Sequence[bytes]]) -> Beginning:
    r"""Read the first bytes of a trace's text.

    Args:
        text: the bytes; they may end anywhere.
        openings: of each shell tool, what its JSON may begin with, up to the command.

    >>> read_beginning(b'Tool call: Bash {"command":"git sta', COMMON)
    Beginning(is_call=True, open=True, name='Bash', command='git sta', complete=1, ended=False)
    >>> read_beginning(b"Tool call: Rea", COMMON)
    Beginning(is_call=True, open=True, name=None, command=None, complete=0, ended=False)
    """
    if not text.startswith(HEAD):
        return Beginning(open=HEAD.startswith(text))
    rest = text[len(HEAD) :]
    end = next((at for at, byte in enumerate(rest) if byte in b" \n"), None)
    if end is None:
        return Beginning(is_call=True, open=len(rest) < LONGEST_NAME)
    name, body = rest[:end].decode(errors="replace"), rest[end + 1 :]
    for opening in openings.get(name, ()):
        if body.startswith(opening):
            return _in_command(name, body[len(opening) :])
    leads_on = any(opening.startswith(body) for opening in openings.get(name, ()))
    return Beginning(is_call=True, open=leads_on and rest[end] == 32, name=name)


def _in_command(name: str, raw: bytes) -> Beginning:
    content = _CONTENT.match(raw)
    assert content is not None
    ended = raw[content.end() : content.end() + 1] == b'"'
    text = _unquoted(content[0])
    count = len(text.split())
    complete = count if ended or text[-1:].isspace() else count - 1
    is_open = not ended and len(raw) < LONGEST_COMMAND
    return Beginning(
        is_call=True, open=is_open, name=name, command=text, complete=max(complete, 0), ended=ended
    )


def _unquoted(raw: bytes) -> str:
    """Return what a JSON string says whose first bytes these are."""
    text = raw.decode(errors="ignore")
    return text if "\\" not in text else json.loads(f'"{text}"', strict=False)

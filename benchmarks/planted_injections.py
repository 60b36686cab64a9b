"""Reads the prompt injections that the PyPI package agentdojo ships, and plants them in tool results.

The sources of the package are read, never imported or run: goals are the constants `GOAL` of its injection
tasks, templates the strings of its attacks. Knows no model and no score.
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sttx_core.errors import UsageError

UNSEEN_TEMPLATES = frozenset({"DirectAttack", "InjecAgentAttack", "SystemMessageAttack"})
"""Templates that no setting was chosen with."""

UNSEEN_SUITES = frozenset({"slack", "travel"})
"""Suites of the package that no setting was chosen with the goals of."""

_NAMES = {"user": "Emma Johnson", "model": "AI assistant"}
_KINDS = {(False, False): "none", (True, False): "template", (False, True): "goal", (True, True): "both"}
_DRESS = re.compile(r"[ \t]*(?:\d+(?:→|\t|:|-|\|))?[ \t]*")
"""What comes before the text of a line: white space, and the number that tools put before lines of a file."""


@dataclass(frozen=True, kw_only=True)
class Injection:
    """One text that tells an agent to do something.

    Attributes:
        text: the text.
        template: name of the attack that words it.
        unseen: "none", "template", "goal" or "both": which part of it no setting was chosen with.
    """

    text: str
    template: str
    unseen: str


def read_injections(folder: Path) -> list[Injection]:
    """Return every template of the package filled with every goal, and those that have no goal, in order.

    Args:
        folder: the unpacked wheel, or the package itself.

    Raises:
        UsageError: the folder holds no goals or no templates.
    """
    goals = {
        text: path.parent.name in UNSEEN_SUITES
        for path in sorted(folder.rglob("injection_tasks.py"))
        for text in _constants(path, "GOAL").values()
    }
    templates: dict[str, str] = {}
    for path in sorted(folder.rglob("*_attacks.py")):
        templates |= _templates(path)
    if not goals or not templates:
        raise UsageError(
            f"{str(folder)!r} is not the unpacked package agentdojo: run `pip download agentdojo --no-deps`, "
            "and unzip the wheel"
        )
    result = []
    for name, template in sorted(templates.items()):
        for goal, goal_out in sorted(goals.items()) if "{goal}" in template else [("", False)]:
            kind = _KINDS[name in UNSEEN_TEMPLATES, goal_out]
            text = template.format_map({**_NAMES, "goal": goal}).strip()
            result.append(Injection(text=text, template=name, unseen=kind))
    return result


def planted(output: str, injection: str, dice: random.Random) -> tuple[str, int, int]:
    """Return a tool's output with a text in it, and where that text begins and ends.

    It stands as lines of its own, dressed as the line before (white space, a line's number), or within a line
    after a word; both equally often.
    """
    lines = output.split("\n")
    place = dice.randrange(len(lines))
    before, here, after = lines[:place], lines[place], lines[place + 1 :]
    gaps = [match.end() for match in re.finditer(r"\s+", here.rstrip())]
    if gaps and dice.random() < 0.5:
        gap = dice.choice(gaps)
        text = " ".join(injection.split())
        left, right = here[:gap], " " + here[gap:]
    else:
        dress = _DRESS.match(here)
        left = here + "\n"
        text = "\n".join((dress[0] if dress else "") + line for line in injection.split("\n") if line.strip())
        right = ""
    head = "\n".join([*before, left])
    return head + text + "\n".join([right, *after]), len(head), len(head) + len(text)


def _constants(path: Path, name: str) -> dict[str, str]:
    """Return the strings that the classes of a file give a name, by class; f-strings are filled in."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    known = dict(_assigned(tree.body, {}))
    found = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            values = dict(_assigned(node.body, known))
            if name in values:
                found[node.name] = values[name]
    return found


def _assigned(body: list[ast.stmt], known: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    values = dict(known)
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            text = _string(node.value, values)
            if text is not None:
                values[node.targets[0].id] = text
                yield node.targets[0].id, text


def _string(node: ast.expr, known: Mapping[str, str]) -> str | None:
    """Return the text of a string or of an f-string of known names; None if it is something else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if not isinstance(node, ast.JoinedStr):
        return None
    parts = []
    for part in node.values:
        value = part.value if isinstance(part, ast.FormattedValue) else part
        text = known.get(value.id) if isinstance(value, ast.Name) else _string(value, known)
        if text is None:
            return None
        parts.append(text)
    return "".join(parts)


def _templates(path: Path) -> dict[str, str]:
    """Return the template of each attack of a file: a string it passes on, or that it keeps."""
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ClassDef):
            continue
        strings = [
            each.value
            for each in ast.walk(node)
            if isinstance(each, ast.Constant) and isinstance(each.value, str) and "{goal}" in each.value
        ]
        kept = dict(_assigned(node.body, {}))
        strings = [text for text in strings if text != ast.get_docstring(node, clean=False)]
        text = kept.get("_DOS_STRING") or (strings[0] if strings else None)
        if text is not None and "{tools}" not in text:
            found[node.name] = text
    return found

"""Takes a line of JSON apart into a skeleton and its values, and joins them again, exactly.

A skeleton is the line with a sign in place of each value: `{"uuid":_,"usage":{"tokens":_}}`. It keeps keys,
spaces and line ends as they are, so nothing has to be understood to join it. A list of plain values counts as
one value. Knows no state.
"""

import re
from collections.abc import Sequence

VALUE, LIST = "\1", "\2"
"""What stands in a skeleton for a value, and for a list of values."""

CONTROL = re.compile(r"[\x00-\x07]")
"""Characters with a meaning in the encoded text; a line with one of them is kept as it is."""

_STRING = r'"(?:[^"\\]++|\\.)*+"'
_PLAIN = rf"(?:{_STRING}|-?[0-9][0-9.eE+-]*+|true|false|null)"
_TOKEN = re.compile(
    rf"(\[(?:{_PLAIN}(?:,{_PLAIN})*+)?+\]|{_STRING}(?:\s*+:)?+|-?[0-9][0-9.eE+-]*+|true|false|null)"
)
_ITEM = re.compile(_PLAIN)
_CLOSED = re.compile(rf'(?:[^"]++|{_STRING})*+')
_STEP = re.compile(rf"({_STRING})\s*+:|([{{\[])|([}}\]])|([{VALUE}{LIST}])")
_PLACE = re.compile(f"[{VALUE}{LIST}]")
_MOST_KEYS, _MOST_KEY = 6, 48
_MOST_TOKENS = 1 << 15


def take_apart(line: str) -> tuple[str, list[str]] | None:
    """Return the skeleton of a line and its values, as they are written.

    None if a string has no end, or if there are more keys and values than a line of a session has.
    """
    if CONTROL.search(line) or not _CLOSED.fullmatch(line):
        return None
    parts = _TOKEN.split(line, _MOST_TOKENS)
    if len(parts) > 2 * _MOST_TOKENS:
        return None
    tokens = parts[1::2]
    parts[1::2] = [token if token[-1] == ":" else LIST if token[0] == "[" else VALUE for token in tokens]
    return "".join(parts), [token for token in tokens if token[-1] != ":"]


def join(skeleton: str, values: Sequence[str]) -> str:
    """Return the line again; there is a value for each place of the skeleton."""
    parts = [""] * (2 * len(values) + 1)
    parts[::2] = _PLACE.split(skeleton)
    parts[1::2] = values
    return "".join(parts)


def items_of(value: str) -> list[str]:
    """Return the items of a list of plain values, as they are written."""
    return _ITEM.findall(value)


def paths_of(skeleton: str) -> list[str]:
    """Return which keys lead to each place of a skeleton; the same place in other lines has the same name."""
    paths: list[str] = []
    above: list[str] = []
    key = ""
    for step in _STEP.finditer(skeleton):
        name, opens, closes, place = step.groups()
        if name is not None:
            key = name[1:-1][:_MOST_KEY]
        elif opens:
            above.append(key)
            key = opens
        elif closes:
            key = above.pop() if above else ""
        else:
            paths.append("\n".join([*above[-_MOST_KEYS:], key, place]))
    return paths

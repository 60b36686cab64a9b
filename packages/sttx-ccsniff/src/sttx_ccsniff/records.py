"""One line of bytes becomes the JSON objects on it. Knows JSON and its damages, not what a record means.

The fast path is one call of orjson. Whatever it refuses is looked at again, slowly: two objects glued on one
line, a line cut short (and another glued behind the cut), bad UTF-8, lone surrogates in escapes, raw control
characters in strings, NULs that a crash left. What can be read is read; the rest is named.
"""

import json
import re
from collections import Counter
from typing import Any

import orjson

from sttx_core.text import encodable

_DECODER = json.JSONDecoder(strict=False)
_GAP = re.compile(r"[ \t\r\n\x00\ufeff]*")  # JSON's own white space, and what crashes and editors leave
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_RECORD_START = re.compile(r'\{"(?:parentUuid|type|uuid|sessionId|messageId|isSidechain)":')
_RECORD_KEYS = ("uuid", "sessionId", "messageId", "leafUuid")
_MOST_STARTS = 64


def decode_line(line: bytes, noted: Counter[str]) -> tuple[list[Any], str]:
    """Return the JSON values on a line, and why the rest of it could not be read ("" if all could).

    What was repaired on the way is counted in `noted`.

    >>> decode_line(b'{"a":1}{"b":2}', Counter())
    ([{'a': 1}, {'b': 2}], '')
    >>> decode_line(b'{"a":1}{"b":', Counter())
    ([{'a': 1}], 'cut short')
    """
    try:
        return [orjson.loads(line)], ""
    except orjson.JSONDecodeError:
        pass
    try:
        return _decode_slowly(_text(line, noted), noted)
    except RecursionError:
        return [], "nested too deep"


def _text(line: bytes, noted: Counter[str]) -> str:
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError:
        noted["bad UTF-8 replaced"] += 1
        return line.decode("utf-8-sig", "replace")


def _decode_slowly(text: str, noted: Counter[str]) -> tuple[list[Any], str]:
    values, end = _values_from(text, 0)
    problem = ""
    if end < len(text):
        problem = "cut short" if text.startswith("{", end) else "not JSON"
        values += _recover(text, end)
    if len(values) > 1:
        noted["objects glued on one line"] += len(values) - 1
    if _SURROGATE_ESCAPE.search(text):
        values = [_without_lone_surrogates(value, noted) for value in values]
    return values, problem


def _values_from(text: str, at: int) -> tuple[list[Any], int]:
    """Read JSON values one after another; stop where none starts."""
    values: list[Any] = []
    at = _skip_gap(text, at)
    while at < len(text):
        try:
            value, end = _DECODER.raw_decode(text, at)
        except ValueError:
            break
        values.append(value)
        at = _skip_gap(text, end)
    return values, at


def _skip_gap(text: str, at: int) -> int:
    found = _GAP.match(text, at)
    return found.end() if found else at


def _recover(text: str, at: int) -> list[Any]:
    """After an object that was cut short, find whole records glued behind the cut, up to the line's end."""
    for tries, start in enumerate(_RECORD_START.finditer(text, at + 1)):
        if tries == _MOST_STARTS:
            break
        values, end = _values_from(text, start.start())
        if end == len(text) and all(_looks_like_a_record(value) for value in values):
            return values
    return []


def _looks_like_a_record(value: Any) -> bool:
    return isinstance(value, dict) and "type" in value and any(key in value for key in _RECORD_KEYS)


def _without_lone_surrogates(value: Any, noted: Counter[str]) -> Any:
    """JSON can escape half of a surrogate pair, which no UTF-8 can hold: such halves become U+FFFD."""
    match value:
        case str():
            whole = encodable(value)
            if whole is not value:
                noted["lone surrogates replaced"] += 1
            return whole
        case dict():
            return {
                _without_lone_surrogates(key, noted): _without_lone_surrogates(item, noted)
                for key, item in value.items()
            }
        case list():
            return [_without_lone_surrogates(item, noted) for item in value]
        case _:
            return value

"""One line of bytes becomes the JSON objects on it. Knows JSON and its damages, not what a record means.

The fast path is one call of orjson. Whatever it refuses is looked at again, slowly: two objects glued on one
line, a line cut short (and another glued behind the cut), bad UTF-8, lone surrogates in escapes, raw control
characters in strings, NULs that a crash left, numbers beyond every float. What can be read is read; the rest
is named.

Memory is bounded by the line: text takes one to four times its bytes, and a copy or two where it is repaired.
Only many small values take more, forty times their bytes, so a long line may not hold more of them than
`MOST_VALUES`.
"""

import json
import math
import re
from collections import Counter
from typing import Any

import orjson

from sttx_core.text import encodable

MOST_VALUES = 2**18
"""Values that a line over `LARGE` bytes may hold: far more than any record has, of any length."""

LARGE = 2**20
"""Bytes of a line from which its values are counted; the longest seen in the wild has 740,000."""

_GAP = re.compile(r"[ \t\r\n\x00\ufeff]*")  # JSON's own white space, and what crashes and editors leave
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_RECORD_START = re.compile(r'\{"(?:parentUuid|type|uuid|sessionId|messageId|isSidechain)":')
_RECORD_KEYS = ("uuid", "sessionId", "messageId", "leafUuid")
_TO_NEXT_VALUE = re.compile(rb'(?:[^",\[{]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+[,\[{]', re.DOTALL)
_MOST_STARTS = 64


def decode_line(line: bytes, noted: Counter[str]) -> tuple[list[Any], str]:
    """Return the JSON values on a line, and why the rest of it could not be read ("" if all could).

    What was repaired on the way is counted in `noted`.

    >>> decode_line(b'{"a":1}{"b":2}', Counter())
    ([{'a': 1}, {'b': 2}], '')
    >>> decode_line(b'{"a":1}{"b":', Counter())
    ([{'a': 1}], 'cut short')
    """
    if not line:
        return [], ""
    if len(line) > LARGE and _has_too_many_values(line):
        return [], "too many values"
    try:
        return [orjson.loads(line)], ""
    except orjson.JSONDecodeError:
        pass
    try:
        return _decode_slowly(_text(line, noted), noted)
    except RecursionError:
        return [], "nested too deep"


def _has_too_many_values(line: bytes) -> bool:
    """Count what begins a value, first anywhere, then, if that is too many, outside strings."""
    if sum(map(line.count, (b",", b"[", b"{"))) <= MOST_VALUES:
        return False
    at = 0
    for _ in range(MOST_VALUES):
        found = _TO_NEXT_VALUE.match(line, at)
        if found is None:
            return False
        at = found.end()
    return True


def _integer(digits: str) -> int | float | str:
    """Read an integer as orjson does: beyond 64 bits it is a float."""
    if len(digits) <= 20 and -(2**63) <= (number := int(digits)) < 2**64:
        return number
    return _number(digits)


def _number(digits: str) -> float | str:
    """Read a number; one that no float can hold stays as it is written."""
    number = float(digits)
    return number if math.isfinite(number) else digits


_DECODER = json.JSONDecoder(strict=False, parse_int=_integer, parse_float=_number, parse_constant=str)


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
        if len(values) >= MOST_VALUES:
            problem = "too many values"
        else:
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
    while at < len(text) and len(values) < MOST_VALUES:
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

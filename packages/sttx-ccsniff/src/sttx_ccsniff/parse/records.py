"""Decodes one line of bytes into JSON values. Knows damaged JSON, but not what a record means.

The fast path is one call of orjson. A line that orjson rejects is read again by a slow, tolerant decoder. It
handles two objects on one line, a line that was cut (and another object after the cut), bad UTF-8, lone
surrogates in escapes, raw control characters in strings, NULs that a crash left, and numbers beyond any
float. It returns all values that it can read, and the reason for the rest.

Memory is bounded by the line. Text takes one to four times its bytes, and a copy or two when it is repaired.
Many small values take more, about forty times their bytes, so a long line may hold at most `MOST_VALUES`.
"""

import json
import math
import re
from collections import Counter
from typing import Any

import orjson

from sttx_core.text import encodable

MOST_VALUES = 2**18
"""Most values on a line of more than `LARGE` bytes. No real record comes near it."""

LARGE = 2**20
"""Bytes above which a line's values are counted. The longest real line seen has 740,000 bytes."""

TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
"""A string or a bracket on a line of JSON. A string may be cut by the end of the line."""

_GAP = re.compile(r"[ \t\r\n\x00\ufeff]*")  # JSON white space, NULs and byte order marks
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_RECORD_START = re.compile(r'\{"(?:parentUuid|type|uuid|sessionId|messageId|isSidechain)":')
_RECORD_KEYS = ("uuid", "sessionId", "messageId", "leafUuid")
_TO_NEXT_VALUE = re.compile(rb'(?:[^",\[{]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+[,\[{]', re.DOTALL)
_MOST_STARTS = 64


def decode_line(line: bytes, noted: Counter[str]) -> tuple[list[Any], str]:
    """Return the JSON values on a line, and why the rest of it could not be read ("" if nothing is left).

    Repairs are counted in `noted`.

    >>> decode_line(b'{"a":1}{"b":2}', Counter())
    ([{'a': 1}, {'b': 2}], '')
    >>> decode_line(b'{"a":1}{"b":', Counter())
    ([{'a': 1}], 'cut short')
    """
    if not line:
        return [], ""
    if len(line) > LARGE and has_too_many_values(line):
        return [], "too many values"
    try:
        return [orjson.loads(line)], ""
    except orjson.JSONDecodeError:
        pass
    try:
        return _decode_slowly(_text(line, noted), noted)
    except RecursionError:
        return [], "nested too deep"


def has_too_many_values(line: bytes) -> bool:
    """Return whether a line has more than `MOST_VALUES` values.

    A quick count of `,`, `[` and `{` includes those in strings. If it is too high, they are counted exactly.
    """
    if sum(map(line.count, (b",", b"[", b"{"))) <= MOST_VALUES:
        return False
    at = 0
    for _ in range(MOST_VALUES):
        match = _TO_NEXT_VALUE.match(line, at)
        if match is None:
            return False
        at = match.end()
    return True


def _integer(digits: str) -> int | float | str:
    """Parse an integer as orjson does: beyond 64 bits it becomes a float."""
    if len(digits) <= 20 and -(2**63) <= (number := int(digits)) < 2**64:
        return number
    return _number(digits)


def _number(digits: str) -> float | str:
    """Parse a number; one beyond every float stays text."""
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
    """Read consecutive JSON values; return them and the offset where no further value starts."""
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
    match = _GAP.match(text, at)
    return match.end() if match else at


def _recover(text: str, at: int) -> list[Any]:
    """Return the whole records after a cut object on the same line."""
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
    """Replace lone surrogates, which JSON can escape but UTF-8 cannot encode, by U+FFFD."""
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

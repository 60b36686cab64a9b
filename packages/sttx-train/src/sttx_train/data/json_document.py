"""Reads a JSON file that is not JSON lines: an array of texts or of ids, or pretty-printed objects.

The whole file is in memory, so its size is limited. Knows no tokenizer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sttx_core.errors import DataError
from sttx_core.foreign_files import read_at_most
from sttx_train.data.json_lines import JsonEntries, entry_of_value

LARGEST = 1 << 28
"""Bytes; a larger file must be JSON lines."""

_JSON = ".json"
_KEYS = ("text", "values", "input_ids", "ids")
_START = re.compile(
    rb'\s*\[\s*("|\[\s*[-\d\]]|-?\d+\s*,|\{\s*"(KEYS)"\s*:)|\s*\{\s*"(KEYS)"\s*:'.replace(
        b"KEYS", "|".join(_KEYS).encode()
    )
)
_DECODER = json.JSONDecoder()


class DocumentEntries(JsonEntries):
    """The entries of one JSON file in order, each with its number from 1. Iterate over it once.

    An array holds texts, objects with a ``text``, or lists of integers, or is itself one list of integers. An
    object, or several of them, holds one entry each, or a list of them under ``text`` or ``input_ids``.

    Raises:
        DataError: the file is too large, or not JSON.
    """

    unit = "entry"

    def _numbered(self) -> Iterator[tuple[int, str | list[int] | None]]:
        size = self._path.stat().st_size
        if size > LARGEST:
            raise DataError(
                f"{str(self._path)!r} is one JSON document of {size:,} bytes, and at most {LARGEST:,} are "
                "read at once: write it as JSON lines, for example with jq -c '.[]'"
            )
        try:
            values = _values(read_at_most(self._path, LARGEST))
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{str(self._path)!r} is not complete JSON ({error}): write it again, or as JSON lines"
            ) from None
        if self._progress is not None:
            self._progress(size)
        yield from enumerate(_entries(values), start=1)


def is_json_document(path: Path, head: bytes, *, whole: bool) -> bool:
    """Return whether a file is one JSON document of texts or ids.

    Args:
        path: the file; only the suffix counts if the file is longer than the head.
        head: the first part of the file.
        whole: whether the head is the whole file.
    """
    if not whole:
        return path.suffix.lower() == _JSON and _START.match(head.removeprefix(b"\xef\xbb\xbf")) is not None
    entries = _parsed(head, _entries)
    return bool(entries) and any(entry is not None for entry in entries)


def is_json(head: bytes, *, whole: bool) -> bool:
    r"""Return whether a file is JSON, or JSON lines, of whatever content.

    >>> is_json(b'{"a": 1}', whole=True), is_json(b'{"a": 1}\n{"a": ', whole=False)
    (True, True)
    """
    if whole:
        return bool(_parsed(head, lambda values: [isinstance(value, dict | list) for value in values]))
    return bool(_parsed(head.split(b"\n")[0], lambda values: [isinstance(v, dict | list) for v in values]))


def _parsed(data: bytes, view: Callable[[list[Any]], list[Any]]) -> list[Any]:
    """Return a view of the values in JSON; empty if it is not JSON, or if no value is an object or array."""
    try:
        values = _values(data)
    except (ValueError, RecursionError):
        return []
    return view(values) if all(isinstance(value, dict | list) for value in values) else []


def _values(data: bytes) -> list[Any]:
    """Return the values in JSON, one after the other."""
    text, at, values = data.decode("utf-8-sig").strip(), 0, []
    while at < len(text):
        value, at = _DECODER.raw_decode(text, at)
        values.append(value)
        while at < len(text) and text[at].isspace():
            at += 1
    return values


def _entries(values: list[Any]) -> list[str | list[int] | None]:
    """Return the entries in the values of a file; None for other values."""
    entries: list[str | list[int] | None] = []
    for value in values:
        if isinstance(value, dict):
            columns = (column for key in _KEYS if isinstance(column := value.get(key), list))
            column = next((column for column in columns if column and not isinstance(column[0], int)), None)
            entries += [entry_of_value(value)] if column is None else [_entry(item) for item in column]
        elif isinstance(value, list) and entry_of_value(value) is None:
            entries += [_entry(item) for item in value]
        else:
            entries.append(entry_of_value(value))
    return entries


def _entry(value: Any) -> str | list[int] | None:
    return value if isinstance(value, str) else entry_of_value(value)

"""Reads JSON lines as a stream: each line a text or a list of integers. Knows no tokenizer.

A line is ``{"text": "…"}``, or a list of integers, bare or under ``values``, ``input_ids`` or ``ids``; other
keys are ignored.
A file holds one of the two. A line that is neither is damaged: it is left out and counted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from sttx_core.errors import DataError
from sttx_core.foreign_files import open_regular

LINE_LIMIT = 1 << 28
"""Bytes; a longer line counts as damaged and is never in memory whole."""

_NAMED = 10
_LISTS = ("values", "input_ids", "ids")
"""Keys of a list of integers; the first one found counts."""


class JsonEntries:
    """The entries of one file in order, each with its line number. Iterate over it once.

    Args:
        path: the file.
        progress: called after each line with its size in bytes.

    Attributes:
        unit: what is numbered.
        damaged: number of lines left out.
        first_damaged: line numbers of the first ten of them, from 1.
    """

    unit = "line"

    def __init__(self, path: Path, progress: Callable[[int], None] | None = None) -> None:
        self._path, self._progress = path, progress
        self.damaged = 0
        self.first_damaged: list[int] = []

    def __iter__(self) -> Iterator[tuple[int, str | list[int]]]:
        """Yield each line number, from 1, and the line's entry.

        Raises:
            DataError: texts and numbers are mixed, or no line holds either.
        """
        first: Literal["text", "integers"] | None = None
        for number, entry in self._numbered():
            if entry is None:
                self._leave_out(number)
                continue
            kind = "text" if isinstance(entry, str) else "integers"
            first = first or kind
            if kind != first:
                raise DataError(
                    f"{self.unit} {number} of {str(self._path)!r} holds {kind}, the {_plural(self.unit)} "
                    f"before it {first}: put them into two files"
                )
            yield number, entry
        if first is None:
            raise DataError(self._nothing())

    def _numbered(self) -> Iterator[tuple[int, str | list[int] | None]]:
        """Yield each number and entry; None for a damaged one."""
        with open_regular(self._path) as file:
            for number, line in _lines(file, self._progress):
                if line is None or line.strip():
                    yield number, None if line is None else entry_of(line)

    def complaint(self) -> str | None:
        """Return a sentence that names the lines left out; None if there are none."""
        if not self.damaged:
            return None
        numbers = ", ".join(map(str, self.first_damaged)) + (", …" if self.damaged > _NAMED else "")
        many = f"{self.damaged:,} damaged {_plural(self.unit)} were"
        what = f"1 damaged {self.unit} was" if self.damaged == 1 else many
        return f"{str(self._path)!r}: {what} left out: {numbers}"

    def _leave_out(self, number: int) -> None:
        self.damaged += 1
        if self.damaged <= _NAMED:
            self.first_damaged.append(number)

    def _nothing(self) -> str:
        if not self.damaged:
            return f"{str(self._path)!r} is empty: it holds no {self.unit} of JSON"
        first = f"{self.unit} {self.first_damaged[0]}"
        return (
            f"no {self.unit} of {str(self._path)!r} could be read, {first} the first: "
            'each must be {"text": "…"}, a list of integers, or {"values": [a list of integers]}'
        )


def entry_of(line: bytes) -> str | list[int] | None:
    r"""Return the entry of one line: a text, a list of integers, or None if it is neither.

    >>> entry_of(b'{"text": "hi", "id": 7}\n'), entry_of(b"[3, 1]"), entry_of(b'{"values": [4]}')
    ('hi', [3, 1], [4])
    >>> entry_of(b"[0.5]"), entry_of(b'{"text": ')
    (None, None)
    """
    try:
        value: Any = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    return entry_of_value(value)


def entry_of_value(value: Any) -> str | list[int] | None:
    """Return the entry in a JSON value: a text, a list of integers, or None if it is neither."""
    if isinstance(value, dict):
        if isinstance(text := value.get("text"), str):
            return text
        value = next((value[key] for key in _LISTS if key in value), None)
    return value if isinstance(value, list) and all(type(item) is int for item in value) else None


def _plural(unit: str) -> str:
    return "entries" if unit == "entry" else f"{unit}s"


def _lines(file: Any, progress: Callable[[int], None] | None) -> Iterator[tuple[int, bytes | None]]:
    """Yield each line number and line; the line is None if it is too long."""
    number = 0
    while line := file.readline(LINE_LIMIT):
        number += 1
        size, whole = len(line), len(line) < LINE_LIMIT or line.endswith(b"\n")
        rest = line
        while not rest.endswith(b"\n") and (rest := file.readline(LINE_LIMIT)):
            size, whole = size + len(rest), False
        if progress is not None:
            progress(size)
        yield number, line if whole else None

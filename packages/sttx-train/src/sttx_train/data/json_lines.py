"""Reads JSON lines as a stream: each line a text or a list of integers. Knows no tokenizer.

A line is ``{"text": "…"}``, or a list of integers, bare or as ``{"values": […]}``; other keys are ignored.
A file holds one of the two. A line that is neither is damaged: it is left out and counted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from sttx_core.errors import DataError

LINE_LIMIT = 1 << 28
"""Bytes; a longer line counts as damaged and is never in memory whole."""

_NAMED = 10


class JsonEntries:
    """The entries of one file in order, each with its line number. Iterate over it once.

    Args:
        path: the file.
        progress: called after each line with its size in bytes.

    Attributes:
        damaged: number of lines left out.
        first_damaged: line numbers of the first ten of them, from 1.
    """

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
        with self._path.open("rb") as file:
            for number, line in _lines(file, self._progress):
                if line is not None and not line.strip():
                    continue
                entry = None if line is None else entry_of(line)
                if entry is None:
                    self._leave_out(number)
                    continue
                kind = "text" if isinstance(entry, str) else "integers"
                first = first or kind
                if kind != first:
                    raise DataError(
                        f"line {number} of {str(self._path)!r} holds {kind}, the lines before it {first}: "
                        "put them into two files"
                    )
                yield number, entry
        if first is None:
            raise DataError(self._nothing())

    def complaint(self) -> str | None:
        """Return a sentence that names the lines left out; None if there are none."""
        if not self.damaged:
            return None
        numbers = ", ".join(map(str, self.first_damaged)) + (", …" if self.damaged > _NAMED else "")
        what = "1 damaged line was" if self.damaged == 1 else f"{self.damaged:,} damaged lines were"
        return f"{str(self._path)!r}: {what} left out: {numbers}"

    def _leave_out(self, number: int) -> None:
        self.damaged += 1
        if self.damaged <= _NAMED:
            self.first_damaged.append(number)

    def _nothing(self) -> str:
        if not self.damaged:
            return f"{str(self._path)!r} is empty: it holds no line of JSON"
        return (
            f"no line of {str(self._path)!r} could be read, line {self.first_damaged[0]} the first: "
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
    if isinstance(value, dict):
        if isinstance(text := value.get("text"), str):
            return text
        value = value.get("values")
    return value if isinstance(value, list) and all(type(item) is int for item in value) else None


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

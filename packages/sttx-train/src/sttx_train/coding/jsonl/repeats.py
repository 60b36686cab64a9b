"""Finds the lines of a string in the strings before, and writes what is new with references to the rest."""

from __future__ import annotations

from bisect import bisect_right

from sttx_train.coding.jsonl.decoder import NEAR, NEAREST, REPEAT, REPEAT_NEXT
from sttx_train.coding.jsonl.memory import EarlierText

_LEAST = 96
"""Characters that are worth a reference: the experts find shorter repeats themselves, at the same cost."""

_LEAST_LINE = 8


def number_bytes(number: int) -> bytes:
    """Return a number as bytes of six bits each, none of which is a sign."""
    result = bytearray()
    while number > 0x3F:
        result.append(0xC0 | number & 0x3F)
        number >>= 6
    result.append(0x80 | number)
    return bytes(result)


class Repeats:
    """Knows where each line stood last.

    Args:
        text: the strings before.
    """

    def __init__(self, text: EarlierText) -> None:
        self._text = text
        self._places: dict[str, int] = {}  # of a line, counted with those that are forgotten
        self._forgotten = 0

    def write(self, string: str) -> bytes:
        """Return a string with references to lines that stood before, and its end."""
        lines = [f"{line}\n" for line in string.split("\n")]
        lines[-1] = f"{lines[-1][:-1]}\0"
        written: list[bytes] = []
        at, new, expected = 0, 0, -1  # lines from `new` on are not written yet
        while at < len(lines):
            start = self._start_of(lines[at], expected)
            count = self._count(lines, at, start) if start >= 0 else 0
            if count:
                written.append("".join(lines[new:at]).encode())
                written.append(self._reference(start, 0 if at + count == len(lines) else count, expected))
                at = new = at + count
                expected = start + count
            else:
                at += 1
                expected += 1 if expected >= 0 else 0
        written.append("".join(lines[new:]).encode())
        self._note(lines, self._text.forgotten + len(self._text.lines))
        self._text.add(lines)
        return b"".join(written)

    def _start_of(self, line: str, expected: int) -> int:
        """Return where a line stood before, best where it is expected; -1 if it did not."""
        earlier = self._text.lines
        if 0 <= expected < len(earlier) and earlier[expected] == line:
            return expected
        return self._places.get(line, -1) - self._text.forgotten

    def _count(self, lines: list[str], at: int, start: int) -> int:
        """Return how many lines repeat those from ``start`` on; 0 if they are not worth a reference."""
        earlier = self._text.lines
        most = min(len(lines) - at, self._text.starts[-1] - start)
        count = size = 0
        while count < most and earlier[start + count] == lines[at + count]:
            size += len(lines[at + count])
            count += 1
        return count if size >= _LEAST else 0

    def _reference(self, start: int, count: int, expected: int) -> bytes:
        """Return a reference to so many lines; 0 means up to the end of their string."""
        if expected >= 0 and abs(start - expected) <= NEAREST:
            return bytes([REPEAT_NEXT, NEAR + start - expected]) + number_bytes(count)
        starts = self._text.starts
        string = bisect_right(starts, start) - 1
        where = number_bytes(len(starts) - 1 - string) + number_bytes(start - starts[string])
        return bytes([REPEAT]) + where + number_bytes(count)

    def _note(self, lines: list[str], place: int) -> None:
        """Note where lines stand; if the line that encodes them is given up, nothing will be found there."""
        forgotten = self._text.forgotten
        if forgotten > self._forgotten or len(self._places) > 2 * len(self._text.lines) + 1000:
            last = forgotten + len(self._text.lines)
            self._places = {line: at for line, at in self._places.items() if forgotten <= at < last}
            self._forgotten = forgotten
        for number, line in enumerate(lines, place):
            if len(line) >= _LEAST_LINE:
                self._places[line] = number

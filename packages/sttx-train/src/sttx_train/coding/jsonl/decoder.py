"""Reads encoded text and stored bytes, and returns the lines of a file again. Learns what it reads."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator

from sttx_train.coding.jsonl import values
from sttx_train.coding.jsonl.memory import (
    MOST_LINE,
    MOST_LINES,
    MOST_SKELETON,
    Damaged,
    Memory,
    Shape,
)
from sttx_train.coding.jsonl.syntax import join

END, REPEAT_NEXT, REPEAT, RAW, NEW, UNENDED = 0, 1, 2, 3, 4, 5
"""Signs in encoded text. A string ends with `END`. In it, `REPEAT` repeats earlier lines, and `REPEAT_NEXT`
goes on near the end of the repeat before. A line starts with `RAW` if it is kept as it is, with `NEW` if its
template is new, and else with its template; `UNENDED` before all that means that no line end follows."""

NEAR, NEAREST = 0xE0, 30
"""`REPEAT_NEXT` is followed by how far off the next line is, at most so many, as a byte around this."""

MOST_RAW = 1 << 16
"""Most bytes that `RAW` keeps; a longer line takes several."""

_SIGNS = re.compile(rb"[\x00-\x02]")
_MOST_DIGITS = 6
_MOST_CHARACTERS = 3 * MOST_LINE  # of a line, each counted as text and as part of a value
_MOST_WAITING = 4 * MOST_LINE
_TEMPLATES, _MORE_TEMPLATES, _SIX_BITS = 0x80, 0xC0, 0x3F


class _Incomplete(Exception):
    """A line's text or stored bytes have not come yet."""


class LinesDecoder:
    """Returns what `LinesEncoder` was given, from what it returned.

    Attributes:
        memory: what was seen in the lines so far.
    """

    def __init__(self) -> None:
        self.memory = Memory()
        self._text, self._stored = b"", bytearray()
        self._at = self._stored_at = self._size = 0
        self._read: dict[str, Callable[[int], str]] = {
            "=": self._last,
            "D": self._earlier,
            "U": lambda _: values.uuid_text(self._take_stored(16)),
            "I": self._identifier,
            "H": lambda _: f'"{self._take_stored(self._number()).hex()}"',
            "B": self._base64,
            "T": self._time,
            "d": self._integer,
            "N": lambda _: self._run(),
            "S": lambda _: values.escape("S", self._string()),
            "E": lambda _: values.escape("E", self._string()),
            "L": lambda _: values.escape("L", self._string()),
            "#": self._numbered,
            "M": lambda _: values.lines_as_list(self._string()),
            "A": lambda _: f"[{self._string()}]",
            "t": lambda _: "true",
            "f": lambda _: "false",
            "n": lambda _: "null",
        }

    @property
    def is_between_lines(self) -> bool:
        """Whether everything that came was read."""
        return self._at == len(self._text) and not self._stored

    def store(self, data: bytes) -> None:
        """Take stored bytes; they come no later than the text that needs them."""
        self._stored += data

    def feed(self, text: bytes) -> Iterator[bytes]:
        """Take encoded text; yield the bytes of the file, as far as they are known.

        Raises:
            Damaged: it is not what an encoder writes.
        """
        self._text, self._at = self._text[self._at :] + text, 0
        while self._at < len(self._text):
            start = self._at
            self._stored_at = self._size = 0
            try:
                line = self._line()
            except _Incomplete:
                self._at = start
                self.memory.undo()
                self._check_waiting()
                return
            except Damaged:
                raise
            except (ValueError, IndexError, OverflowError) as error:
                raise Damaged(f"an encoded line is damaged: {error}") from error
            self.memory.keep()
            del self._stored[: self._stored_at]
            yield line

    def forget(self) -> None:
        """Forget a line that could not be read, with all that came and was not read."""
        self.memory.undo()
        self._text, self._stored, self._at = b"", bytearray(), 0

    def _check_waiting(self) -> None:
        """Check that what waits for the rest of a line is no more than a line needs."""
        if len(self._text) - self._at > _MOST_WAITING or len(self._stored) > _MOST_WAITING:
            raise Damaged("a line is longer than it may be")

    def _line(self) -> bytes:
        sign = self._byte()
        end = b"\n"
        if sign == UNENDED:
            sign, end = self._byte(), b""
        if sign == RAW:
            if (size := self._number()) > MOST_RAW:
                raise Damaged("a line is longer than it may be")
            return self._take(size)
        shape, modes = self._new_template() if sign == NEW else self._template(sign)
        found = []
        for path, mode in zip(shape.paths, modes, strict=True):
            value = self._value(mode, path)
            self._spend(len(value))
            self.memory.set(path, value, is_new=mode[0] in "UIHSEL")
            found.append(value)
        line = join(shape.skeleton, found).encode() + end
        self.memory.set_modes(shape, modes)
        return line

    def _template(self, sign: int) -> tuple[Shape, tuple[str, ...]]:
        if not _TEMPLATES <= sign < _MORE_TEMPLATES + 32:
            raise Damaged("a line starts with an unknown sign")
        number = sign - _TEMPLATES
        if sign >= _MORE_TEMPLATES:
            number = 64 + (sign - _MORE_TEMPLATES << 6) + (self._byte() & _SIX_BITS)
        return self.memory.templates[number]

    def _new_template(self) -> tuple[Shape, tuple[str, ...]]:
        if number := self._number():
            shape = self.memory.shapes[number - 1]
            modes = list(shape.modes)
            for _ in range(self._number()):
                place = self._number()
                modes[place] = self._mode()
            return shape, tuple(modes)
        skeleton = self._run()
        if len(skeleton) > MOST_SKELETON:
            raise Damaged("a line has more keys than it may have")
        shape = self.memory.new_shape(skeleton)
        return shape, tuple(self._mode() for _ in shape.paths)

    def _mode(self) -> str:
        letter = chr(self._byte())
        if letter == "@":
            return f"@{self._number()}"
        if letter not in self._read:
            raise Damaged("a value is written in an unknown way")
        return letter

    def _value(self, mode: str, path: int) -> str:
        if mode[0] == "@":
            return self._last(int(mode[1:]))
        return self._read[mode](path)

    def _last(self, path: int) -> str:
        if path not in self.memory.last:
            raise Damaged("a value refers to one that is not there")
        return self.memory.last[path]

    def _earlier(self, path: int) -> str:
        recent, back = self.memory.recent, self._number()
        if not 1 <= back <= len(recent):
            raise Damaged("a value refers to one that is not there")
        return recent[-back]

    def _identifier(self, path: int) -> str:
        shared, count = self._number(), self._number()
        last = self._last(path)
        if not 0 < shared <= len(last) or count > 64:
            raise Damaged("an identifier is longer than it may be")
        stored = self._take_stored(values.letters_bytes(count))
        return f'{last[:shared]}{values.unpack_letters(stored, count)}"'

    def _base64(self, path: int) -> str:
        how, stored, size = self._number(), self._number(), self._number()
        self._spend(size)
        return f'"{values.to_base64(values.unpack(how, self._take_stored(stored), size))}"'

    def _time(self, path: int) -> str:
        self.memory.time += int(self._run())
        return values.time_text(self.memory.time)

    def _integer(self, path: int) -> str:
        return str(int(self._last(path)) + int(self._run()))

    def _numbered(self, path: int) -> str:
        way, first = self._number(), self._number()
        lines, rest = self._string(), self._string()
        self._spend(8 * lines.count("\n"))
        return values.escape("S", values.with_numbers(way, first, lines, rest))

    def _string(self) -> str:
        """Read a string, with what it repeats, and remember it."""
        earlier = self.memory.text
        found: list[str] = []
        expected = -1
        while not found or found[-1][-1] != "\0":
            sign = _SIGNS.search(self._text, self._at)
            if sign is None:
                raise _Incomplete
            run = self._text[self._at : sign.start()].decode()
            if len(found) + run.count("\n") > MOST_LINES:
                raise Damaged("a string has more lines than it may have")
            self._at = sign.end()
            if run or sign[0] == b"\0":
                more = [f"{line}\n" for line in run.split("\n")]
                last = more.pop()[:-1]
                if sign[0] == b"\0":
                    more.append(f"{last}\0")
                elif last:
                    raise Damaged("a repeat starts within a line")
                expected += len(more) if expected >= 0 else 0
                found += more
            if sign[0] != b"\0":
                start, count = self._repeat(sign[0][0], expected)
                if len(found) + count > MOST_LINES:
                    raise Damaged("a string has more lines than it may have")
                repeated = earlier.lines[start : start + count]
                self._spend(sum(map(len, repeated)))
                found += repeated
                expected = start + count
        earlier.add(found)
        return "".join(found)[:-1]

    def _repeat(self, sign: int, expected: int) -> tuple[int, int]:
        """Return where the lines start that are repeated, and their number."""
        starts = self.memory.text.starts
        if sign == REPEAT_NEXT:
            start = expected + self._byte() - NEAR
        else:
            back, line = self._number(), self._number()
            if not 1 <= back < len(starts):
                raise Damaged("a repeat refers to a string that is not there")
            start = starts[-1 - back] + line
        if not 0 <= start < starts[-1] or (sign == REPEAT_NEXT and expected < 0):
            raise Damaged("a repeat refers to lines that are not there")
        most = self._end_of(start) - start
        count = self._number() or most
        if count > most:
            raise Damaged("a repeat goes on after its string")
        return start, count

    def _end_of(self, line: int) -> int:
        """Return where the string of a line ends."""
        starts = self.memory.text.starts
        return starts[bisect_right(starts, line)]

    def _spend(self, size: int) -> None:
        """Count characters of a line.

        Raises:
            Damaged: they are more than a line may have.
        """
        self._size += size
        if self._size > _MOST_CHARACTERS:
            raise Damaged("a line is longer than it may be")

    def _byte(self) -> int:
        if self._at >= len(self._text):
            raise _Incomplete
        self._at += 1
        return self._text[self._at - 1]

    def _number(self) -> int:
        number = 0
        for place in range(_MOST_DIGITS):
            byte = self._byte()
            if byte < 0x80:
                raise Damaged("a number in an encoded line is damaged")
            number |= (byte & _SIX_BITS) << 6 * place
            if byte < 0xC0:
                return number
        raise Damaged("a number in an encoded line is damaged")

    def _take(self, size: int) -> bytes:
        if self._at + size > len(self._text):
            raise _Incomplete
        self._at += size
        return self._text[self._at - size : self._at]

    def _take_stored(self, size: int) -> bytes:
        if self._stored_at + size > len(self._stored):
            raise _Incomplete
        self._stored_at += size
        return bytes(self._stored[self._stored_at - size : self._stored_at])

    def _run(self) -> str:
        """Read text up to its end, without repeats."""
        end = self._text.find(b"\0", self._at)
        if end < 0:
            raise _Incomplete
        run = self._text[self._at : end].decode()
        self._at = end + 1
        return run

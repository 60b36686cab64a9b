"""Takes the lines of a file apart, and writes each as encoded text and stored bytes that a decoder can read.

What is written is read again at once, by the decoder whose memory both share. If that gives other bytes, the
line is kept as it is: so the encoder may choose whatever looks best.
"""

from __future__ import annotations

from sttx_train.coding.jsonl import values
from sttx_train.coding.jsonl.decoder import END, MOST_RAW, NEW, RAW, UNENDED, LinesDecoder
from sttx_train.coding.jsonl.memory import LONGEST_LAST, MOST_LINE, MOST_SKELETON, Damaged, Shape
from sttx_train.coding.jsonl.repeats import Repeats, number_bytes
from sttx_train.coding.jsonl.syntax import take_apart

_END = bytes([END])
_SHORTEST_COPIED = 7
"""Characters of a value that is worth a reference to another path."""

_SHORTEST_HEX = 18


def is_json_lines(start: bytes) -> bool:
    """Return whether a file that starts so looks like lines of JSON objects."""
    line, found, _ = start.partition(b"\n")
    return line.startswith(b"{") and (not found or line.rstrip().endswith(b"}"))


class LinesEncoder:
    """Encodes a file, which should have lines of JSON; anything comes back exactly."""

    def __init__(self) -> None:
        self._decoder = LinesDecoder()
        self._memory = self._decoder.memory
        self._repeats = Repeats(self._memory.text)
        self._shapes: dict[str, Shape] = {}
        self._codes: dict[tuple[int, tuple[str, ...]], bytes] = {}
        self._where: dict[str, int] = {}  # the path where a value stands, or stood
        self._source: dict[int, int] = {}  # the path that the value of a path was copied from
        self._recent: dict[str, int] = {}  # place among the recent values, counted with those forgotten
        self._noted = 0
        self._line, self._is_long = bytearray(), False
        self._text: list[bytes] = []
        self._stored: list[bytes] = []

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Take the next bytes of the file; return encoded text and stored bytes, of whole lines."""
        written: list[bytes] = []
        stored: list[bytes] = []
        parts = data.split(b"\n")
        for part in parts[:-1]:
            self._line += part
            self._end_line(written, stored, b"\n")
        self._line += parts[-1]
        if self._is_long or len(self._line) > MOST_LINE:
            self._is_long = True
            written.append(_raw(bytes(self._line)))
            self._line.clear()
        return b"".join(written), b"".join(stored)

    def finish(self) -> tuple[bytes, bytes]:
        """Return the last line, if it has no line end."""
        written: list[bytes] = []
        stored: list[bytes] = []
        if self._line:
            self._end_line(written, stored, b"")
        return b"".join(written), b"".join(stored)

    def _end_line(self, written: list[bytes], stored: list[bytes], end: bytes) -> None:
        line = bytes(self._line)
        self._line.clear()
        if self._is_long or len(line) > MOST_LINE or not self._encode(line, end):
            written.append(_raw(line + end))
        else:
            written += self._text
            stored += self._stored
        self._is_long = False

    def _encode(self, line: bytes, end: bytes) -> bool:
        """Write a line to ``_text`` and ``_stored``; return whether it comes back exactly."""
        try:
            taken = take_apart(line.decode())
        except UnicodeDecodeError:
            return False
        if taken is None or len(taken[0]) > MOST_SKELETON:
            return False
        self._text, self._stored = [b"" if end else bytes([UNENDED]), b""], []
        skeleton, found = taken
        shape = self._shapes.get(skeleton) or self._memory.new_shape(skeleton)
        modes = []
        for value, path in zip(found, shape.paths, strict=True):
            modes.append(mode := self._mode(value, path))
            self._memory.set(path, value, is_new=mode[0] in "UIHSEL")
            self._note(value, path)
        self._text[1] = self._template(shape, tuple(modes))
        self._memory.undo()
        if not self._comes_back(line + end):
            return False
        self._index()
        return True

    def _comes_back(self, line: bytes) -> bool:
        """Return whether the decoder reads the line again; it learns it if so."""
        self._decoder.store(b"".join(self._stored))
        try:
            again = list(self._decoder.feed(b"".join(self._text)))
        except Damaged:
            again = []
        if again == [line] and self._decoder.is_between_lines:
            return True
        self._decoder.forget()
        return False

    def _index(self) -> None:
        """Note what the decoder learned from a line."""
        memory = self._memory
        for place in range(max(self._noted, memory.forgotten), memory.forgotten + len(memory.recent)):
            self._recent[memory.recent[place - memory.forgotten]] = place
        self._noted = memory.forgotten + len(memory.recent)
        if len(self._recent) > 2 * len(memory.recent) + 1000:
            self._recent = {
                value: place for value, place in self._recent.items() if place >= memory.forgotten
            }
        if len(self._shapes) < len(memory.shapes):
            self._shapes[memory.shapes[-1].skeleton] = memory.shapes[-1]
        if len(self._codes) < len(memory.templates):
            shape, modes = memory.templates[-1]
            self._codes[shape.number, modes] = _template_code(len(self._codes))

    def _note(self, value: str, path: int) -> None:
        """Note at which path a value stands."""
        if _SHORTEST_COPIED <= len(value) <= LONGEST_LAST:
            self._where[value] = path
            if len(self._where) > 4 * len(self._memory.last) + 1000:
                self._where = {value: path for path, value in self._memory.last.items()}

    def _template(self, shape: Shape, modes: tuple[str, ...]) -> bytes:
        """Return the start of a line: its template, if that is known."""
        if (code := self._codes.get((shape.number, modes))) is not None:
            return code
        if shape.number < 0:
            start = number_bytes(0) + shape.skeleton.encode() + _END
            return bytes([NEW]) + start + b"".join(map(_mode_bytes, modes))
        changed = [n for n, pair in enumerate(zip(modes, shape.modes, strict=True)) if pair[0] != pair[1]]
        start = number_bytes(shape.number + 1) + number_bytes(len(changed))
        return bytes([NEW]) + start + b"".join(number_bytes(n) + _mode_bytes(modes[n]) for n in changed)

    def _mode(self, value: str, path: int) -> str:
        """Write a value; return the mode in which it is written."""
        last = self._memory.last
        if last.get(path) == value:
            return "="
        if len(value) >= _SHORTEST_COPIED and (mode := self._reference(value, path)):
            return mode
        if value[0] == '"':
            return self._identifier(value, path) or self._time(value) or self._string(value)
        if value[0] == "[":
            lines = values.list_as_lines(value)
            self._text.append(self._repeats.write(value[1:-1] if lines is None else lines))
            return "A" if lines is None else "M"
        return value[0] if value[0] in "tfn" else self._digits(value, path)

    def _reference(self, value: str, path: int) -> str:
        """Refer to the same value elsewhere, if it is there."""
        memory = self._memory
        for source in (self._source.get(path, -1), self._where.get(value, -1)):
            if memory.last.get(source) == value:
                self._source[path] = source
                return f"@{source}"
        place = self._recent.get(value, -1) - memory.forgotten
        if not (0 <= place < len(memory.recent) and memory.recent[place] == value):
            return ""
        self._text.append(number_bytes(len(memory.recent) - place))
        return "D"

    def _identifier(self, value: str, path: int) -> str:
        """Store an identifier that looks random, if the value is one."""
        if len(value) == 38 and values.UUID.fullmatch(value):
            self._stored.append(bytes.fromhex(value[1:-1].replace("-", "")))
            return "U"
        if len(value) >= _SHORTEST_HEX and values.HEX.fullmatch(value):
            self._text.append(number_bytes(len(value) // 2 - 1))
            self._stored.append(bytes.fromhex(value[1:-1]))
            return "H"
        if values.IDENTIFIER.fullmatch(value):
            last = self._memory.last.get(path, "")
            shared = min(values.shared_prefix(value, last), len(value) - 1)
            if shared > value.index("_"):
                rest = value[shared:-1]
                self._text.append(number_bytes(shared) + number_bytes(len(rest)))
                self._stored.append(values.pack_letters(rest))
                return "I"
        return ""

    def _time(self, value: str) -> str:
        """Write how long after the time before a time is, if the value is one."""
        if not values.TIME.fullmatch(value):
            return ""
        try:
            time = values.time_of(value)
        except ValueError:
            return ""
        self._text.append(str(time - self._memory.time).encode() + _END)
        self._memory.time = time
        return "T"

    def _string(self, value: str) -> str:
        data = values.from_base64(value[1:-1])
        if data is not None:
            how, packed = values.pack(data)
            self._text += [number_bytes(how), number_bytes(len(packed)), number_bytes(len(data))]
            self._stored.append(packed)
            return "B"
        letter, text = values.unescape(value)
        if letter == "S" and (numbered := values.without_numbers(text)):
            way, first, lines, rest = numbered
            self._text += [number_bytes(way), number_bytes(first)]
            self._text += [self._repeats.write(lines), self._repeats.write(rest)]
            return "#"
        self._text.append(self._repeats.write(text))
        return letter

    def _digits(self, value: str, path: int) -> str:
        """Write a number, or how much more it is than the last one if that is shorter."""
        last = self._memory.last.get(path, "")
        if values.INTEGER.fullmatch(value) and values.INTEGER.fullmatch(last):
            more = str(int(value) - int(last))
            if len(more) <= len(value) - 2:
                self._text.append(more.encode() + _END)
                return "d"
        self._text.append(value.encode() + _END)
        return "N"


def _raw(data: bytes) -> bytes:
    parts = (data[start : start + MOST_RAW] for start in range(0, len(data), MOST_RAW))
    return b"".join(bytes([RAW]) + number_bytes(len(part)) + part for part in parts)


def _template_code(number: int) -> bytes:
    return (
        bytes([0x80 + number]) if number < 64 else bytes([0xC0 + (number - 64 >> 6), 0x80 + (number & 0x3F)])
    )


def _mode_bytes(mode: str) -> bytes:
    return b"@" + number_bytes(int(mode[1:])) if mode[0] == "@" else mode.encode()

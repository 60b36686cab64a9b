"""What is remembered of the lines before: shapes, templates, last and recent values, and text. All bounded.

A line is read in one go or not at all: `undo` forgets what came since `keep`. The encoder reads what it
writes, so both sides learn the same in the same order, and the decoder knows whatever a line refers to.
"""

from __future__ import annotations

from sttx_train.coding.jsonl.syntax import paths_of

MOST_LINE = 1 << 23
"""Most bytes of a line that is taken apart, and most characters that an encoded one becomes."""

MOST_LINES = 1 << 17
"""Most lines of a string that is written without escapes."""

LONGEST_LAST = 1 << 12
"""Characters of a value that later ones can refer to."""

MOST_SKELETON = 1 << 16
MOST_TEMPLATES = 64 + 32 * 64
"""As many as have a code of one or two bytes."""

_MOST_SHAPES, _MOST_SKELETONS = 1 << 12, 1 << 22
_MOST_PLACES = 1 << 9
_MOST_PATHS = 1 << 12
_MOST_RECENT = 1 << 15
_SHORTEST_RECENT, _LONGEST_RECENT = 12, 200
_MOST_TEXT = 12 << 20
_EACH_LINE = 48  # bytes that a line needs besides its characters


class Damaged(ValueError):
    """The encoded text is not what an encoder writes."""


class Shape:
    """A skeleton, where its values belong, and how they were written.

    Attributes:
        number: of a shape that is kept; -1 of another one.
        skeleton: a line with signs in place of values.
        paths: number of the path of each value.
        modes: how each value of its latest line is written.
    """

    __slots__ = ("modes", "number", "paths", "skeleton")

    def __init__(self, skeleton: str, paths: list[int]) -> None:
        self.number, self.skeleton, self.paths = -1, skeleton, paths
        self.modes: tuple[str, ...] = ()


class EarlierText:
    """The lines of the strings before, for repeating them.

    Attributes:
        lines: each with its line end, or with NUL if its string ends there.
        starts: where each string starts in ``lines``, and where the next one will.
        forgotten: number of lines that stood before these.
    """

    __slots__ = ("_kept", "_size", "forgotten", "lines", "starts")

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.starts = [0]
        self.forgotten = self._size = 0
        self._kept = (0, 1, 0)

    def add(self, lines: list[str]) -> None:
        """Add a string."""
        self.lines += lines
        self.starts.append(len(self.lines))
        self._size += _size(lines)

    def keep(self) -> None:
        """Keep what was added; the older half is forgotten if all of it has become too much."""
        if self._size > _MOST_TEXT:
            self._forget()
        self._kept = len(self.lines), len(self.starts), self._size

    def _forget(self) -> None:
        strings = 0
        while self._size > _MOST_TEXT // 2:
            first, last = self.starts[strings : strings + 2]
            self._size -= _size(self.lines[first:last])
            strings += 1
        lines = self.starts[strings]
        del self.lines[:lines]
        self.starts = [start - lines for start in self.starts[strings:]]
        self.forgotten += lines

    def undo(self) -> None:
        """Forget what was added since the last `keep`."""
        lines, starts, self._size = self._kept
        del self.lines[lines:], self.starts[starts:]


def _size(lines: list[str]) -> int:
    return sum(map(len, lines)) + _EACH_LINE * len(lines)


class Memory:
    """What was seen in the lines so far.

    Attributes:
        text: lines of strings.
        last: the latest value at each path, as it is written there.
        recent: values that may come again, the latest at the end.
        forgotten: number of values that stood before these.
        time: the latest timestamp, in milliseconds.
        templates: shapes with the modes of their values, as they were first seen.
        shapes: those that are kept.
    """

    def __init__(self) -> None:
        self.text = EarlierText()
        self.last: dict[int, str] = {}
        self.recent: list[str] = []
        self.forgotten = self.time = 0
        self.templates: list[tuple[Shape, tuple[str, ...]]] = []
        self.shapes: list[Shape] = []
        self._known: set[tuple[int, tuple[str, ...]]] = set()
        self._paths: dict[str, int] = {}
        self._characters = 0  # of skeletons
        self._before: list[tuple[int, str | None]] = []  # what `last` was at paths that were set
        self._kept = (0, 0, 0)

    def new_shape(self, skeleton: str) -> Shape:
        """Return a shape that was not seen before."""
        paths = self._paths
        return Shape(
            skeleton, [paths.setdefault(path, len(paths) % _MOST_PATHS) for path in paths_of(skeleton)]
        )

    def set(self, path: int, value: str, *, is_new: bool) -> None:
        """Note a value at a path; if it is a new string, also among the recent ones."""
        self._before.append((path, self.last.get(path)))
        if len(value) <= LONGEST_LAST:
            self.last[path] = value
        else:
            self.last.pop(path, None)
        if is_new and _SHORTEST_RECENT <= len(value) <= _LONGEST_RECENT:
            self.recent.append(value)

    def set_modes(self, shape: Shape, modes: tuple[str, ...]) -> None:
        """Note how the values of a line were written, as a template if there is room for one."""
        if shape.number < 0:
            size = self._characters + len(shape.skeleton)
            if len(self.shapes) == _MOST_SHAPES or size > _MOST_SKELETONS or len(modes) > _MOST_PLACES:
                return
            self._characters, shape.number = size, len(self.shapes)
            self.shapes.append(shape)
        shape.modes = modes
        if (shape.number, modes) not in self._known and len(self.templates) < MOST_TEMPLATES:
            self._known.add((shape.number, modes))
            self.templates.append((shape, modes))

    def keep(self) -> None:
        """Keep what was learned since the last call."""
        self.text.keep()
        self._before.clear()
        if len(self.recent) > _MOST_RECENT:
            self.forgotten += len(self.recent) // 2
            del self.recent[: len(self.recent) // 2]
        self._kept = len(self.recent), len(self._paths), self.time

    def undo(self) -> None:
        """Forget what was learned since the last `keep`; modes must not have been set."""
        self.text.undo()
        recent, paths, self.time = self._kept
        del self.recent[recent:]
        while len(self._paths) > paths:
            self._paths.popitem()
        for path, value in reversed(self._before):
            if value is None:
                self.last.pop(path, None)
            else:
                self.last[path] = value
        self._before.clear()

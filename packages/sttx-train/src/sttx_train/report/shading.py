"""A passage as segments to print: each with one shade, folded where it repeats. Knows no page."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sttx_core.text import encodable
from sttx_train.report.passages import REPEAT, Passage
from sttx_train.report.words import next_character

_ESCAPE = re.compile(rb"\x1b\[[0-?]{0,64}[ -/]*[@-~]")
_COLOR = re.compile(r"\x1b\[[0-9;:]{0,64}m")
_LABEL = re.compile(rb"User: |Assistant: (?:<think>)?|Tool (?:call|result|error):")
_BLANKS = re.compile(rb"^[ \t]+|[ \t]*\n[ \t\n]*|[ \t]{2,}")  # white space that is not shaded
_JOINERS = "\u200c\u200d"
_SHORT = 48  # characters of a repeat that are shown


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of text with one shade.

    Attributes:
        text: it.
        level: how surprising it is, 0 to 6.
        marked: whether it is new information.
        folded: bytes of a repeat that follow and are left out.
    """

    text: str
    level: int
    marked: bool = False
    folded: int = 0


def segments(passage: Passage) -> list[Segment]:
    """Return a passage as segments, without what marks its trace and without terminal escapes.

    Nothing in the text can hide: control characters and invisible ones become visible signs.
    """
    data = np.frombuffer(passage.data, np.uint8)
    marked_B = np.zeros(len(data), bool)
    for mark in passage.marks:
        marked_B[mark.start : mark.end] = True
    keep = np.ones(len(data), bool)
    keep[: _label_size(passage)] = False
    for escape in _ESCAPE.finditer(passage.data):
        keep[escape.start() : escape.end()] = False
    text, levels_B, marked_B = data[keep].tobytes().rstrip(b"\n"), passage.levels_B[keep], marked_B[keep]
    if passage.trace.kind == "thinking":
        text = text.removesuffix(b"</think>")
    for blank in _BLANKS.finditer(text):
        levels_B[blank.start() : blank.end()] *= levels_B[blank.start() : blank.end()] == REPEAT
    changes = (np.diff(levels_B.astype(np.int16)) != 0) | np.diff(marked_B)
    cuts = [0, *(next_character(text, at) for at in (np.flatnonzero(changes) + 1).tolist()), len(text)]
    result = [
        _segment(text[start:end], int(levels_B[start]), bool(marked_B[start]))
        for start, end in pairwise(cuts)
        if end > start
    ]
    return _with_folded(result, passage.folded)


def _label_size(passage: Passage) -> int:
    """Return how many bytes of a passage only say who speaks: for a tool, with its name as it is rendered."""
    label = _LABEL.match(passage.data) if passage.start == 0 else None
    if label is None:
        return 0
    size = label.end()
    if label[0].startswith(b"Tool"):
        name = b"".join(b" " + word.encode() for word in encodable(passage.trace.tool).split())
        size += len(name) if passage.data.startswith(name, size) else 0
        size += passage.data[size : size + 1] in (b" ", b"\n")
    return size


def visible_text(text: str) -> str:
    r"""Return a text in which control characters and invisible ones are escapes, as on a terminal.

    >>> print(visible_text("a\x07b\u202e"), visible_text("two\nlines"))
    a\x07b\u202e two
    lines
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_sign(character, at, text) for at, character in enumerate(text))


def _sign(character: str, at: int, text: str) -> str:
    if character in "\n\t":
        return character
    code = ord(character)
    if 0x20 <= code < 0x7F:
        return character
    if character in _JOINERS and not text[at - 1 : at].isascii() and not text[at + 1 : at + 2].isascii():
        return character
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp"):
        return character.encode("unicode_escape").decode("ascii")
    return character


def visible_name(name: str) -> str:
    r"""Return the name of a session or a project, without colors and with escapes, as on a terminal.

    >>> print(visible_name("\x1b[31mred\x07"))
    red\x07
    """
    return visible_text(_COLOR.sub("", name))


def _segment(data: bytes, level: int, marked: bool) -> Segment:
    text = visible_text(data.decode("utf-8", "replace"))
    if level != REPEAT:
        return Segment(text, level, marked)
    return (
        Segment(text[:_SHORT], 0, marked, max(len(data) - _SHORT, 0))
        if len(text) > _SHORT
        else Segment(text, 0)
    )


def _with_folded(result: Sequence[Segment], folded: int) -> list[Segment]:
    if not folded or not result:
        return list(result)
    last = result[-1]
    return [*result[:-1], Segment(last.text, last.level, last.marked, last.folded + folded)]

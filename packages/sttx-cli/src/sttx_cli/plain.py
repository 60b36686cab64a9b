r"""Makes untrusted text safe to show: no terminal obeys it, and nothing in it is invisible.

Names, messages and traces hold what programs printed and what strangers wrote. Control characters, invisible
characters, marks that change the direction of writing, and bytes that are not text become escapes.
"""

import re

_INVISIBLE = (  # Default_Ignorable_Code_Point of Unicode, less the joiners and the selectors U+FE00 to U+FE0F
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_ESCAPED = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 and C1 controls, except tabs and line ends
    f"\u2028\u2029\ufff9-\ufffb{_INVISIBLE}"  # line separators, annotations
    "\ud800-\udfff"  # bytes of file names that are not text
)
_JOINERS = "\u200c\u200d"
_BESIDE_JOINER = re.compile(f"[^\x00-\x7f{_ESCAPED}{_JOINERS}]")
"""Letters and emoji that a joiner may stand between, as in Persian words and emoji of families."""

_UNSAFE = re.compile(f"[{_ESCAPED}{_JOINERS}]")
_COLOR = re.compile(r"\x1b\[[0-9;:]{0,64}m")


def visible(text: str) -> str:
    r"""Return a text with an escape for each character that a terminal would obey or hide; lines stay lines.

    >>> print(visible("a\x1b]52;c;aGk=\x07b\u202e"))
    a\x1b]52;c;aGk=\x07b\u202e
    """
    return _UNSAFE.sub(_escape, text)


def visible_line(text: str) -> str:
    r"""Return the same on one line: a line end is an escape too, so that no text can forge another line.

    >>> print(visible_line("done\nsaved"))
    done\nsaved
    """
    return visible(text).replace("\n", "\\n")


def visible_json(line: str) -> str:
    r"""Return equal JSON in which each such character is written as JSON's own escape.

    >>> print(visible_json('["\x7f\u009b\U000e0041"]'))
    ["\u007f\u009b\udb40\udc41"]
    """
    return _UNSAFE.sub(_json_escape, line)


class VisiblePieces:
    r"""Returns `visible` of a text that comes in pieces: a joiner waits for the character that it joins.

    >>> pieces = VisiblePieces()
    >>> [len(pieces.add(piece)) for piece in ("👩", "\u200d", "👧", "a\u200d", "\n")]
    [1, 0, 2, 1, 7]
    """

    def __init__(self) -> None:
        self._before = self._held = ""

    def add(self, piece: str) -> str:
        """Add a piece; return what is certain now."""
        text = self._before + self._held + piece
        certain = text.rstrip(_JOINERS)
        shown = visible(certain)[len(visible(self._before)) :]
        self._before, self._held = certain[-1:], text[len(certain) :]
        return shown


def plain(text: str) -> str:
    r"""Return what a program printed as lines to read: colors are removed, the rest is visible.

    >>> plain("\x1b[31mred\x1b[0m\r\nbell\x07")
    'red\nbell\\x07'
    """
    return visible(_COLOR.sub("", text).replace("\r\n", "\n").replace("\r", "\n"))


def one_line(text: str, most: int) -> str:
    r"""Return the first characters of a text on one line, and how many more there are.

    >>> one_line("a  b\nc", 60), one_line("x" * 70, 60)[-25:]
    ('a b c', 'xxx… (10 more characters)')
    """
    prefix = " ".join(plain(text[: 4 * most]).split())
    if len(prefix) <= most and len(text) <= 4 * most:
        return prefix
    shown = prefix[:most]
    return f"{shown}… ({max(len(text) - most, 1):,} more characters)"


def _escape(match: re.Match[str]) -> str:
    return match[0] if _joins(match) else match[0].encode("unicode_escape").decode("ascii")


def _json_escape(match: re.Match[str]) -> str:
    if _joins(match):
        return match[0]
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def _joins(match: re.Match[str]) -> bool:
    """Return whether this is a joiner that stands where its script needs it."""
    text, at = match.string, match.start()
    beside = (text[at - 1 : at], text[at + 1 : at + 2])
    return match[0] in _JOINERS and all(map(_BESIDE_JOINER.match, beside))

r"""Removes the escapes of a text, and maps positions in the result back to the escaped text.

Tool inputs and results often hold JSON within JSON: a private key whose line ends are a backslash and an `n`,
a password between escaped quotes, a `-` written as six characters. All levels of escapes are removed at once,
rules see the result, and their matches are mapped back. This file does not know what a secret is.
"""

import re
from bisect import bisect_right

# A run of backslashes (longer where nesting is deeper) and what it escapes.
_ESCAPE = re.compile(r"(?<!\\)\\++(?:u([0-9a-fA-F]{4})|([nrtbf\"'/]))")
_CHARACTERS = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}


class Unescaped:
    r"""A text without its escapes, as `text`.

    >>> plain = Unescaped('{\\"a\\": \\"b\\nc\\"}')
    >>> plain.text
    '{"a": "b\nc"}'
    >>> plain.raw_span(plain.text.index("b"), plain.text.index("c") + 1)
    (10, 14)
    """

    def __init__(self, raw: str) -> None:
        self._raw = raw
        pieces: list[str] = []
        # Offsets in `text`, and in `raw`, from where both are the same again up to the next escape.
        self._text_offsets: list[int] = [0]
        self._raw_offsets: list[int] = [0]
        at = length = 0
        for match in _ESCAPE.finditer(raw):
            start, end = match.span()
            code, letter = match.groups()
            character = chr(int(code, 16)) if code else _CHARACTERS.get(letter, letter)
            pieces += (raw[at:start], character)
            length += start - at
            self._text_offsets += (length, length + 1)
            self._raw_offsets += (start, end)
            at, length = end, length + 1
        pieces.append(raw[at:])
        self.text = "".join(pieces)

    def raw_span(self, start: int, end: int) -> tuple[int, int]:
        """Return the span of the escaped text that a span of `text` comes from."""
        return self._raw_offset(start), self._raw_offset(end - 1, end=True)

    def depth(self, at: int) -> int:
        r"""Return by how many backslashes a character of `text` was escaped.

        >>> plain = Unescaped(r'{\"a\": \"b\\\"c\"}')
        >>> plain.text, [plain.depth(at) for at in (1, 6, 8, 10)]
        ('{"a": "b"c"}', [1, 1, 3, 1])
        """
        raw = self._raw_offset(at)
        escaped = self._raw[raw : self._raw_offset(at, end=True)]
        return len(escaped) - len(escaped.lstrip("\\")) if len(escaped) > 1 else 0

    def _raw_offset(self, at: int, *, end: bool = False) -> int:
        """Return where a character starts in the escaped text, or with `end` where it ends."""
        last = bisect_right(self._text_offsets, at) - 1
        raw = self._raw_offsets[last] + at - self._text_offsets[last]
        if not end:
            return raw
        escaped = (
            last + 1 < len(self._text_offsets)
            and self._text_offsets[last + 1] == at + 1
            and self._raw_offsets[last + 1] > raw + 1
        )
        return self._raw_offsets[last + 1] if escaped else raw + 1


def has_escapes(text: str) -> bool:
    """Return whether unescaping would change a text."""
    return "\\" in text and _ESCAPE.search(text) is not None

r"""Removes the escapes of a text, and maps positions in the result back to the escaped text.

Tool inputs and results often hold JSON within JSON: a private key whose line ends are a backslash and an `n`,
a password between escaped quotes, a `-` written as six characters. All levels of escapes are removed at once,
rules see the result, and their matches are mapped back. This file does not know what a secret is.
"""

import re
from bisect import bisect_right
from functools import cached_property

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
        self.text = _ESCAPE.sub(_character, raw)

    @cached_property
    def _offsets(self) -> tuple[list[int], list[int]]:
        """Offsets in `text`, and in `raw`, from where both are the same again up to the next escape."""
        in_text, in_raw = [0], [0]
        shorter = 0  # by how many characters the text was shortened so far
        for match in _ESCAPE.finditer(self._raw):
            start, end = match.span()
            at = start - shorter
            in_text += (at, at + 1)
            in_raw += (start, end)
            shorter += end - start - 1
        return in_text, in_raw

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
        in_text, in_raw = self._offsets
        last = bisect_right(in_text, at) - 1
        raw = in_raw[last] + at - in_text[last]
        if not end:
            return raw
        escaped = last + 1 < len(in_text) and in_text[last + 1] == at + 1 and in_raw[last + 1] > raw + 1
        return in_raw[last + 1] if escaped else raw + 1


def _character(match: re.Match[str]) -> str:
    code, letter = match.groups()
    return chr(int(code, 16)) if code else _CHARACTERS.get(letter, letter)


def has_escapes(text: str) -> bool:
    """Return whether unescaping would change a text."""
    return "\\" in text and _ESCAPE.search(text) is not None

r"""A text as it would read without its escapes, and where each of its places stands in the escaped one.

Tool inputs and results often hold JSON within JSON: a private key whose line ends are a backslash and an `n`,
a password between escaped quotes, a `-` written as six characters. Rules see such texts unescaped, once for
all depths; what they find is mapped back. Knows nothing of secrets.
"""

import re
from bisect import bisect_right

# A run of backslashes (as long as the nesting is deep) and what it escapes.
_ESCAPE = re.compile(r"(?<!\\)\\++(?:u([0-9a-fA-F]{4})|([nrtbf\"'/]))")
_MEANT = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}


class Unescaped:
    r"""A text without its escapes.

    >>> seen = Unescaped('{\\"a\\": \\"b\\nc\\"}')
    >>> seen.text
    '{"a": "b\nc"}'
    >>> seen.raw_span(seen.text.index("b"), seen.text.index("c") + 1)
    (10, 14)
    """

    def __init__(self, raw: str) -> None:
        pieces: list[str] = []
        self._seen: list[int] = [0]
        """Places in `text` from which on it runs parallel to `raw` again ..."""
        self._raw: list[int] = [0]
        """... and the same places in `raw`."""
        at = length = 0
        for found in _ESCAPE.finditer(raw):
            start, end = found.span()
            code, letter = found.groups()
            meant = chr(int(code, 16)) if code else _MEANT.get(letter, letter)
            pieces += (raw[at:start], meant)
            length += start - at
            self._seen += (length, length + 1)
            self._raw += (start, end)
            at, length = end, length + 1
        pieces.append(raw[at:])
        self.text = "".join(pieces)

    def raw_span(self, start: int, end: int) -> tuple[int, int]:
        """Return where a span of `text` stands in the escaped text."""
        return self._place(start), self._place(end - 1, after=True)

    def _place(self, at: int, *, after: bool = False) -> int:
        """Return the place of a character; `after`: that where it ends, which is later for an escaped one."""
        last = bisect_right(self._seen, at) - 1
        raw = self._raw[last] + at - self._seen[last]
        if not after:
            return raw
        escaped = (
            last + 1 < len(self._seen) and self._seen[last + 1] == at + 1 and self._raw[last + 1] > raw + 1
        )
        return self._raw[last + 1] if escaped else raw + 1


def has_escapes(text: str) -> bool:
    """Say whether unescaping would change a text."""
    return "\\" in text and _ESCAPE.search(text) is not None

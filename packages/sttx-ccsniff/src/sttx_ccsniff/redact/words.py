"""Finds any of many words in one pass over a text. Knows nothing about secrets.

A regex of many words is slow, because most letters of a text start some word. So each word is searched from
its rarest letter, and what is before and after that letter is compared only there.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

# From rare to frequent in sessions of coding agents, measured on 8 MB; letters not listed are the rarest.
_FREQUENT = "q$zj}{x_(=v=k)wyb:01?fg.-/hupmdlcaniroste "


class Words:
    """Words to search, all in lower case and ASCII.

    >>> sorted(Words([b"token", b"key", b"oken"]).find(b"a key, a token"))
    [(2, b'key'), (9, b'token'), (10, b'oken')]
    """

    def __init__(self, words: Iterable[bytes]) -> None:
        # By the rarest letter: the words, and where that letter first is in each.
        self._by_letter: dict[int, list[tuple[bytes, int]]] = defaultdict(list)
        for word in sorted(set(words)):
            letter = min(word, key=lambda byte: _FREQUENT.find(chr(byte)))
            self._by_letter[letter].append((word, word.index(letter)))
        either = "|".join(_alternatives(letter, found) for letter, found in sorted(self._by_letter.items()))
        self._regex = re.compile(either.encode()) if either else None

    def find(self, low: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the position of each word, and the word.

        Args:
            low: A text in lower case, one byte per character.
        """
        if self._regex is None:
            return
        match = self._regex.search(low)
        while match:
            at = match.start()
            for word, offset in self._by_letter[low[at]]:
                if at >= offset and low.startswith(word, at - offset):
                    yield at - offset, word
            match = self._regex.search(low, at + 1)


def _alternatives(letter: int, words: list[tuple[bytes, int]]) -> str:
    """Return the regex of a letter, then the rest of any of its words, then a look back at the whole word."""
    ends = [
        re.escape(word[offset + 1 :].decode()) + (f"(?<={re.escape(word.decode())})" if offset else "")
        for word, offset in sorted(words, key=lambda one: one[1] - len(one[0]))
    ]
    return f"{re.escape(chr(letter))}(?:{'|'.join(ends)})"

"""Finds any of many words in one pass over a text. Knows nothing about secrets.

A regex of many words is slow, because most letters of a text start some word. So a few letters are chosen, as
rare as possible, of which every word has one; what is before and after a letter is compared only there.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

# How many of 1,000 characters of coding agents' sessions, measured on 8 MB; of characters not listed, one.
_OFTEN = {" ": 138, "e": 77, "t": 61, "s": 49, "o": 45, "r": 45, "i": 44, "n": 43, "a": 42, "c": 30, "l": 27}
_OFTEN |= (
    dict.fromkeys("dmp\nuh/-g", 19) | dict.fromkeys('.f?":01b2ywk,v', 9) | dict.fromkeys("()=_x3456789`*", 5)
)
_SHORT = 600  # characters of a text in which searching several times would cost more


class Words:
    """Words to search, all in lower case and ASCII.

    >>> sorted(Words([b"token", b"key", b"oken"]).find(b"a key, a token"))
    [(2, b'key'), (9, b'token'), (10, b'oken')]
    """

    def __init__(self, words: Iterable[bytes]) -> None:
        # A word of one letter would make every one of its letters a place to compare.
        self._runs = sorted(word for word in set(words) if len(set(word)) == 1)
        words = sorted(set(words).difference(self._runs))
        chosen = _letters(words)
        # By the letter to search: the words, and where that letter first is in each.
        by_letter: dict[int, list[tuple[bytes, int]]] = defaultdict(list)
        for word in words:
            letter = min(chosen.intersection(word), key=_cost)
            by_letter[letter].append((word, word.index(letter)))
        # By what a regex matches, the rest of a word from its letter: all words that may be there.
        self._by_rest = {
            word[offset:]: [one for one in found if word[offset:].startswith(one[0][one[1] :])]
            for found in by_letter.values()
            for word, offset in found
        }
        each = [_alternatives(letter, found) for letter, found in sorted(by_letter.items())]
        self._each = [re.compile(regex.encode()) for regex in each]
        self._any = re.compile("|".join(each).encode()) if each else None

    def may_find(self, low: bytes) -> bool:
        """Return False if a text has none of the words, which is quickly seen in a short one."""
        if len(low) >= _SHORT or self._any is None:
            return True
        return self._any.search(low) is not None or any(word in low for word in self._runs)

    def find(self, low: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the position of each word, and the word; those of more than one letter in ascending order.

        Args:
            low: A text in lower case, one byte per character.
        """
        for word in self._runs:
            at = low.find(word)
            while at >= 0:
                yield at, word
                at = low.find(word, at + 1)
        if self._any is None:
            return
        if len(low) < _SHORT:
            yield from self._found(self._any, low)
            return
        # A search for one letter is much faster than one for any of several.
        yield from sorted(found for regex in self._each for found in self._found(regex, low))

    def _found(self, regex: re.Pattern[bytes], low: bytes) -> Iterator[tuple[int, bytes]]:
        match = regex.search(low)
        while match:
            at = match.start()
            for word, offset in self._by_rest[match[0]]:
                if at >= offset and low.startswith(word, at - offset):
                    yield at - offset, word
            match = regex.search(low, at + 1)


def _cost(letter: int) -> tuple[int, int]:
    return _OFTEN.get(chr(letter), 1), letter


def _letters(words: list[bytes]) -> set[int]:
    """Return letters, together as rare as possible, of which every word has one."""
    chosen: set[int] = set()
    left = [frozenset(word) for word in words]
    while left:
        counts = Counter(letter for word in left for letter in word)
        best = min(counts, key=lambda letter: (_cost(letter)[0] / counts[letter], letter))
        chosen.add(best)
        left = [word for word in left if best not in word]
    for letter in sorted(chosen, key=_cost, reverse=True):  # those that later ones made superfluous
        if all(chosen.intersection(word) - {letter} for word in words):
            chosen.remove(letter)
    return chosen


def _alternatives(letter: int, words: list[tuple[bytes, int]]) -> str:
    """Return the regex of a letter, then the rest of any of its words, then a look back at the whole word."""
    ends = [
        re.escape(word[offset + 1 :].decode()) + (f"(?<={re.escape(word.decode())})" if offset else "")
        for word, offset in sorted(words, key=lambda one: one[1] - len(one[0]))
    ]
    return f"{re.escape(chr(letter))}(?:{'|'.join(ends)})"

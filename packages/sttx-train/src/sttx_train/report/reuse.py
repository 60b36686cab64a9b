"""Where the words of a session were first read, and how many bits that saves when they are used again.

A word is looked up together with the word before it, and alone if the two are new. What its later use saves
is what the frozen network pays for it beyond everything that predicts. A long verbatim copy is a repeat and
not a use: all its words together count like a few. Knows words and prices, not traces; its memory is bounded.

The constants were chosen with `benchmarks/report.py` on the sessions and kinds of facts for choosing, see
docs/log.md.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import numpy as np

from sttx_train.report.words import Words, looks_random

_ORDINARY = 6.0  # bits that any word may cost when it is first read; only what is beyond them is new
_MOST_NEW = 30.0  # bits of new information of a word: a name or a number has no more
_MARGIN = 2.0  # bits of a use that are not counted as saved: the frozen network is worse at any word
_USES = 3  # uses that count
_FULL = 2  # words of a copy that count in full; of a longer one each counts for a share
_MOST = 2**19  # places that one generation remembers, about 60 MB


class Place(NamedTuple):
    """A word in a text: the number of the text, and that of the word in it."""

    text: int
    word: int


class Use(NamedTuple):
    """A later use of a word.

    Attributes:
        place: where the word was first read.
        saved: bits that the use cost less than the frozen network would have paid, less a margin and less if
            it is part of a copy.
    """

    place: Place
    saved: float


class News:
    """Bits of new information of the words of a text: what they cost, as far as later uses save it.

    Hashes and other random strings have none, also where they are printed again.

    Attributes:
        uses_W: how often each of the W words was used later.
    """

    def __init__(self, words: Words) -> None:
        self._cost_W = np.clip(words.paid_W - _ORDINARY, 0, _MOST_NEW)
        self._cost_W[[looks_random(name) for name in words.names]] = 0
        self._saved_W = np.zeros(len(words.names), np.float32)
        self.uses_W = np.zeros(len(words.names), np.int32)

    def add(self, use: Use) -> None:
        """Count a use of one of the words."""
        word = use.place.word
        if self.uses_W[word] < _USES:
            self._saved_W[word] += use.saved
        self.uses_W[word] += 1

    @property
    def bits_W(self) -> np.ndarray:
        """Bits of new information of each word."""
        return np.minimum(self._cost_W, self._saved_W)


class Reuse:
    """Remembers where words were first read.

    Args:
        most: places of one generation; when it is full the generation before is forgotten.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._young: dict[int, Place] = {}
        self._old: dict[int, Place] = {}

    def read(self, session: Hashable, text: int, words: Words) -> list[Use]:
        """Read the next text of a session; return which words of earlier texts it uses.

        Args:
            session: whose words count.
            text: a number for this text, unlike those before.
            words: the words of the text.
        """
        uses: list[Use] = []
        copy: list[tuple[Place, float]] = []
        before = b"\n"
        saved_W = (words.frozen_W - words.paid_W).tolist()
        for number, (name, saved) in enumerate(zip(words.names, saved_W, strict=True)):
            place = self._first((session, before, name), (session, name), Place(text, number))
            before = name
            if place is None or place.text == text:
                uses += _shared(copy)
                continue
            if copy and place != (copy[-1][0].text, copy[-1][0].word + 1):
                uses += _shared(copy)
            copy.append((place, max(saved - _MARGIN, 0.0)))
        return uses + _shared(copy)

    def _first(self, pair: Hashable, alone: Hashable, here: Place) -> Place | None:
        """Return where a word was first read, and remember what is new about it."""
        pair_key, key = hash(pair), hash(alone)
        place = self._get(pair_key)
        known = self._get(key)
        if place is None:
            self._put(pair_key, here)
        if known is None:
            self._put(key, here)
        return known if place is None else place

    def _get(self, key: int) -> Place | None:
        place = self._young.get(key)
        return self._old.get(key) if place is None else place

    def _put(self, key: int, place: Place) -> None:
        if len(self._young) >= self._most:
            self._old, self._young = self._young, {}
        self._young[key] = place


def _shared(copy: list[tuple[Place, float]]) -> list[Use]:
    """Return the words of a copy as uses, and empty it."""
    share = min(1.0, _FULL / len(copy)) if copy else 1.0
    uses = [Use(place, share * saved) for place, saved in copy]
    copy.clear()
    return uses

"""The words of a priced text, and what each of them costs. Does not know where else a word occurs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_LETTER = (
    rb"(?:[0-9A-Za-z_]"
    rb"|[\xc3-\xdf][\x80-\xbf]"
    rb"|(?!\xe2[\x80-\xaf])[\xe0-\xef][\x80-\xbf]{2}"  # without U+2000 to U+2BFF: dashes, arrows, lines
    rb"|[\xf0-\xf4][\x80-\xbf]{3})"
)
_WORD = re.compile(
    rb"\x1b\[[0-?]*[ -/]*[@-~]"  # a terminal escape, in which there are no words
    rb"|\[user\]|\[(?:REDACTED [a-z0-9-]+|email|ip) [0-9a-f]{8}\]"  # what redaction leaves
    rb"|([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}|" + _LETTER + rb"+)"
)
_CHANGES = re.compile(rb"[0-9](?=[A-Za-z])|[A-Za-z](?=[0-9])")
_SHORTEST, _FEWEST = 7, 3  # bytes of a random string, and changes between letters and digits in it


@dataclass(frozen=True, kw_only=True, eq=False)
class PricedText:
    """A text of T tokens with their prices in bits.

    Attributes:
        data: its bytes, UTF-8.
        ends_T: the byte at which each token ends.
        paid_T: the price by everything that predicts; 0 where it is not paid for.
        frozen_T: the price by the frozen network alone.
    """

    data: bytes
    ends_T: np.ndarray
    paid_T: np.ndarray
    frozen_T: np.ndarray

    def over_bytes(self, price_T: np.ndarray) -> np.ndarray:
        """Return what the first n bytes cost, for each n ``[len(data) + 1]``; bytes share a token's price.

        >>> text = priced_text([0, 1], np.array([4, 1]), np.zeros(2), [b"ab", b"c"])
        >>> text.over_bytes(text.paid_T).tolist()
        [0.0, 2.0, 4.0, 5.0]
        """
        if not len(price_T):
            return np.zeros(1)
        ends = np.concatenate([[0], self.ends_T])
        sums = np.concatenate([[0.0], np.cumsum(price_T, dtype=np.float64)])
        return np.interp(np.arange(len(self.data) + 1), ends, sums)


@dataclass(frozen=True, kw_only=True, eq=False)
class Words:
    """The W words of a text: runs of letters, digits and underscores, and UUIDs.

    Attributes:
        names: their bytes.
        starts_W, ends_W: where they start and end in the text.
        paid_W, frozen_W: what they cost, with the bytes between them and the word before.
    """

    names: Sequence[bytes]
    starts_W: np.ndarray
    ends_W: np.ndarray
    paid_W: np.ndarray
    frozen_W: np.ndarray


def priced_text(
    ids: Sequence[int], paid_T: np.ndarray, frozen_T: np.ndarray, tokens: Sequence[bytes]
) -> PricedText:
    """Return tokens and their prices as a text.

    Args:
        ids: the tokens.
        paid_T: what each costs.
        frozen_T: what each costs by the frozen network.
        tokens: the bytes of every token of the vocabulary.
    """
    pieces = [tokens[token] for token in ids]
    ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int32)
    prices = {"paid_T": paid_T.astype(np.float32), "frozen_T": frozen_T.astype(np.float32)}
    return PricedText(data=b"".join(pieces), ends_T=ends, **prices)


def words_of(text: PricedText) -> Words:
    r"""Return the words of a text.

    >>> text = priced_text([0, 1], np.array([2, 6]), np.array([3, 9]), [b"on ", b"port 80\n"])
    >>> words = words_of(text)
    >>> [(name, round(paid, 1)) for name, paid in zip(words.names, words.paid_W.tolist(), strict=True)]
    [(b'on', 1.3), (b'port', 3.7), (b'80', 2.2)]
    """
    spans = [match.span(1) for match in _WORD.finditer(text.data) if match[1] and _has_letters(match[1])]
    starts, ends = np.array(spans, dtype=np.int32).reshape(-1, 2).T
    cuts = np.concatenate([[0], ends]).astype(np.int64)
    return Words(
        names=[text.data[start:end] for start, end in spans],
        starts_W=starts,
        ends_W=ends,
        paid_W=np.diff(text.over_bytes(text.paid_T)[cuts]).astype(np.float32),
        frozen_W=np.diff(text.over_bytes(text.frozen_T)[cuts]).astype(np.float32),
    )


def _has_letters(name: bytes) -> bool:
    """Whether a run is not only signs, such as emoji."""
    return name.isalnum() or any(map(str.isalnum, name.decode("utf-8", "ignore")))


def looks_random(name: bytes) -> bool:
    """Whether a word looks like a hash or an identifier drawn at random, which nobody wants to remember.

    >>> [looks_random(name) for name in (b"2ab2a96", b"8fae94c33300", b"sha256", b"48213", b"utf8_to_16")]
    [True, True, False, False, False]
    """
    return len(name) >= _SHORTEST and len(_CHANGES.findall(name)) >= _FEWEST


def next_character(data: bytes, at: int) -> int:
    """Return the next place, from ``at`` on, that is not inside a character.

    >>> next_character("aé".encode(), 2), next_character(b"ab", 1)
    (3, 1)
    """
    while at < len(data) and data[at] & 0xC0 == 0x80:
        at += 1
    return at

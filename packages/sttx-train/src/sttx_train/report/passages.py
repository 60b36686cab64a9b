"""A trace's text cut into passages: a few lines, how surprising each byte is, and what was new in it.

A passage is what a person reads at once, so passages and not traces are ranked: a long output is not first
only because it is long. Knows one text at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from sttx_train.report.repeats import repeats
from sttx_train.report.words import PricedText, Words

LEVELS = (1, 3, 5, 7, 9, 11)
"""Bits of a token from which on it has level 1, 2, …; less is level 0. Two bits are a factor of four."""

REPEAT = 255
"""The level of bytes that repeat what was read before."""

_LONGEST = 320  # bytes of a passage
DAMPING = 100  # bytes that every passage is taken to be longer, so that single words are not always first
_CLEAR = 5.0  # bits of new information from which on a word is marked
_SURPRISE = 0.1  # what a bit of surprise counts beside a bit of new information, in choosing what is shown
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")


@dataclass(frozen=True, kw_only=True, eq=False)
class TraceInfo:
    """A trace without its text.

    Attributes:
        number: its place among the traces of its session.
        uid: its identity; "" if it has none.
        kind: its type, such as ``tool_result``.
        tool: name of the tool; "" if there is none.
        subagent: the sub-agent that spoke; "" for the session itself.
        time: Unix seconds; 0 if unknown.
        bytes: of its text that is paid for.
        paid, frozen: its price by everything that predicts, and by the frozen network.
        news: bits of new information: what it cost and later uses of its words save.
    """

    number: int
    uid: str
    kind: str
    tool: str
    subagent: str
    time: float
    bytes: int
    paid: float
    frozen: float
    news: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Mark:
    """A word, or several without a space between, whose first reading was new information.

    Attributes:
        start, end: where it is in the passage, in bytes.
        news: bits.
        uses: how often a word of it was used later.
    """

    start: int
    end: int
    news: float
    uses: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Passage:
    """Some lines of a trace.

    Attributes:
        trace: where they are from.
        start: their first byte in it.
        data: their bytes, UTF-8.
        levels_B: how surprising each byte is: a level of :data:`LEVELS`, or :data:`REPEAT`.
        marks: words that were new information.
        paid, frozen: their price.
        news: bits of new information.
        folded: bytes after these that repeat what was read before, and are left out; the price includes them.
    """

    trace: TraceInfo
    start: int
    data: bytes
    levels_B: np.ndarray
    marks: tuple[Mark, ...]
    paid: float
    frozen: float
    news: float
    folded: int = 0

    @property
    def bytes(self) -> int:
        """How long it is, with what is folded."""
        return len(self.data) + self.folded

    @property
    def rank(self) -> float:
        """New information for its length: what passages are ranked by."""
        return self.news / (len(self.data) + DAMPING)

    @property
    def worth(self) -> float:
        """What decides whether it is shown: new information first, then surprise; a person's words twice."""
        worth = (self.news + _SURPRISE * self.paid) / (len(self.data) + DAMPING)
        return 2 * worth if self.trace.kind == "user_message" else worth

    @property
    def repeated(self) -> int:
        """Bytes that repeat what was read before."""
        return int((self.levels_B == REPEAT).sum()) + self.folded


def cut_passages(
    trace: TraceInfo, text: PricedText, words: Words, news_W: np.ndarray, uses_W: np.ndarray
) -> list[Passage]:
    """Return the passages of a trace's text.

    Args:
        trace: the trace.
        text: its text.
        words: the words of the text.
        news_W: bits of new information of each word.
        uses_W: how often each was used later.
    """
    lengths = np.diff(np.concatenate([[0], text.ends_T]))
    levels_B = np.repeat(np.digitize(text.paid_T, LEVELS).astype(np.uint8), lengths)
    for start, end in repeats(text):
        levels_B[start:end] = REPEAT
    paid, frozen = text.over_bytes(text.paid_T), text.over_bytes(text.frozen_T)
    news = np.concatenate([[0.0], np.cumsum(news_W)])
    marks = _marks(text.data, words, news_W, uses_W)
    passages: list[Passage] = []
    for start, end in spans(text.data):
        first, last = np.searchsorted(words.ends_W, [start, end], side="right")
        own = [mark for mark in marks if start <= mark.start and mark.end <= end] if marks else []
        passages.append(
            Passage(
                trace=trace,
                start=start,
                data=text.data[start:end],
                levels_B=levels_B[start:end],
                marks=tuple(
                    Mark(start=mark.start - start, end=mark.end - start, news=mark.news, uses=mark.uses)
                    for mark in own
                ),
                paid=float(paid[end] - paid[start]),
                frozen=float(frozen[end] - frozen[start]),
                news=float(news[last] - news[first]),
            )
        )
    return _folded(passages)


def _folded(passages: list[Passage]) -> list[Passage]:
    """Fold passages that repeat what was read before into the first of them."""
    result: list[Passage] = []
    for passage in passages:
        repeated = passage.repeated == len(passage.data) and not passage.marks
        if repeated and result and result[-1].repeated == result[-1].bytes:
            first = result[-1]
            result[-1] = replace(
                first,
                paid=first.paid + passage.paid,
                frozen=first.frozen + passage.frozen,
                news=first.news + passage.news,
                folded=first.folded + len(passage.data),
            )
        else:
            result.append(passage)
    return result


def spans(data: bytes, longest: int = _LONGEST) -> Iterator[tuple[int, int]]:
    r"""Yield where the passages of a text start and end: whole lines if they fit, and whole characters.

    >>> list(spans(b"one\ntwo\nthree and four\n", 8))
    [(0, 8), (8, 16), (16, 23)]
    """
    start = end = 0
    for line in _LINE.finditer(data):
        if line.end() - start > longest and end > start:
            yield start, end
            start = end
        end = line.end()
        while end - start > longest:
            cut = _between_words(data, start + longest, longest // 4)
            yield start, cut
            start = cut
    if end > start:
        yield start, end


def _between_words(data: bytes, at: int, most: int) -> int:
    """Return a place up to `at`, at most `most` before: where a word ends, or else where a character does."""
    window = data[at - most : at]
    line, space = window.rfind(b"\\n"), window.rfind(b" ")  # a line end in JSON
    if max(line, space) >= 0:
        return at - most + (line + 2 if line >= 0 else space + 1)
    inside = [back for back in range(min(most, 4)) if data[at - back] & 0xC0 != 0x80]
    return at - inside[0] if inside else at


def _marks(data: bytes, words: Words, news_W: np.ndarray, uses_W: np.ndarray) -> list[Mark]:
    """Return the words with clear new information, as one where only a sign is between them."""
    marks: list[Mark] = []
    for word in np.flatnonzero(news_W >= _CLEAR).tolist():
        start, end = int(words.starts_W[word]), int(words.ends_W[word])
        news, uses = float(news_W[word]), int(uses_W[word])
        before = marks[-1] if marks else None
        if before and start - before.end == 1 and not data[before.end : start].isspace():
            marks[-1] = Mark(
                start=before.start, end=end, news=before.news + news, uses=max(before.uses, uses)
            )
        else:
            marks.append(Mark(start=start, end=end, news=news, uses=uses))
    return marks

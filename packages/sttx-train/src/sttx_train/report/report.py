"""A report in the making: priced traces in, what each session cost and what was new in it. Draws nothing.

New information is a word that cost bits when it was first read, and saves bits when it is used later in its
session. A random string is never used again, so it is not new information, however surprising.
The text of traces is held until their words are old; then only the passages worth showing are kept.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sttx_core.tokenizers import Tokenizer
from sttx_core.traces import ToolResult, ToolUse, trace_type
from sttx_train.byte_lengths import every_token
from sttx_train.evaluate import ScoredTrace
from sttx_train.report.cells import Cell, Cells
from sttx_train.report.passages import Passage, TraceInfo, cut_passages
from sttx_train.report.reuse import News, Reuse
from sttx_train.report.session import SessionReport
from sttx_train.report.words import PricedText, Words, priced_text, words_of

TEXT = 300_000
"""Bytes of session text that a page shows, of all sessions together."""

_LEAST_TEXT, _MOST_TEXT = 800, 40_000  # of one session
_MOST_TOKENS = 2**20  # of traces whose words are still looked for, about 30 MB
_MOST_SESSIONS = 400
_FEW = 3  # sessions


@dataclass(kw_only=True, eq=False)
class _Open:
    """A trace whose words are still looked for."""

    session: SessionReport
    scored: ScoredTrace
    text: PricedText
    words: Words
    news: News


class Report:
    """What a stream cost and what was new in it, in memory that does not grow with the stream.

    Args:
        tokenizer: the model's.
        most_tokens: tokens of traces whose words are looked for; beyond it the oldest trace is finished.
        most_sessions: sessions that are kept; beyond it the one with the least new information is left out.

    Attributes:
        sessions: by name, in the order in which they begin.
        traces, bytes, paid, frozen: sums over all traces with text, those of sessions left out included.
        news, repeated: bits of new information, and repeated bytes, of all.
        cells: sums along the stream; without new information, which is known later.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        most_tokens: int = _MOST_TOKENS,
        most_sessions: int = _MOST_SESSIONS,
    ) -> None:
        self._tokens = every_token(tokenizer, tokenizer.vocab_size)
        self._most_tokens, self._most_sessions = most_tokens, most_sessions
        self.sessions: OrderedDict[str, SessionReport] = OrderedDict()
        self.traces = self.bytes = self.repeated = 0
        self.paid = self.frozen = self.news = 0.0
        self.cells = Cells()
        self._reuse = Reuse()
        self._open: deque[_Open] = deque()
        self._open_tokens = 0
        self._first_open = 0  # number of the oldest open trace
        self._left_out: set[str] = set()
        self._most_open = 2 * most_sessions  # sessions, until some are left out again

    @property
    def left_out(self) -> int:
        """How many sessions are left out. One that comes back later is not, though its first part is."""
        return len(self._left_out)

    @property
    def text_each(self) -> int:
        """Bytes of text that a page shows of each session."""
        return min(_MOST_TEXT, max(_LEAST_TEXT, TEXT // max(len(self.sessions), 1)))

    def add(self, scored: ScoredTrace) -> None:
        """Take in the next trace."""
        meta, base = scored.trace.meta, scored.prices.frozen
        if np.isnan(base).any():  # a run that did without the frozen network
            base = scored.prices.network
        text = priced_text(scored.ids, scored.prices.bits, base, self._tokens)
        words = words_of(text)
        number = self._first_open + len(self._open)
        for use in self._reuse.read(meta.session, number, words):
            if use.place.text >= self._first_open:
                self._open[use.place.text - self._first_open].news.add(use)
        session = self.sessions.setdefault(meta.session, SessionReport(meta.session, meta.project))
        self._left_out.discard(meta.session)
        opened = _Open(
            session=session,
            scored=scored,
            text=text,
            words=words,
            news=News(words),
        )
        self._open.append(opened)
        self._open_tokens += len(scored.ids)
        self._count(scored, float(base.sum()))
        while self._open_tokens > self._most_tokens:
            self._close()
        if len(self.sessions) > self._most_open:
            self._drop_sessions()
            self._most_open = 2 * max(len(self.sessions), self._most_sessions)

    def finish(self) -> Report:
        """Finish every trace; return the report."""
        while self._open:
            self._close()
        self._drop_sessions()
        return self

    def newest(self, most: int) -> list[tuple[SessionReport, Passage]]:
        """Return the traces with most new information for their length, of all sessions."""
        each = (
            most if len(self.sessions) <= _FEW else -(-most // _FEW)
        )  # so that one session does not fill all
        found = [(session, passage) for session in self.sessions.values() for passage in session.newest(each)]
        return sorted(found, key=lambda each: -each[1].rank)[:most]

    def _count(self, scored: ScoredTrace, frozen: float) -> None:
        self.traces += 1
        self.bytes += scored.bytes
        self.paid += scored.bits
        self.frozen += frozen
        self.cells.add(Cell(bytes=scored.bytes, paid=scored.bits, frozen=frozen))

    def _close(self) -> None:
        """Finish the oldest trace."""
        oldest = self._open.popleft()
        self._first_open += 1
        self._open_tokens -= len(oldest.scored.ids)
        trace, meta = oldest.scored.trace, oldest.scored.trace.meta
        news_W = oldest.news.bits_W
        info = TraceInfo(
            number=oldest.session.traces,
            uid=meta.uid,
            kind=trace_type(trace),
            tool=trace.name if isinstance(trace, ToolUse | ToolResult) else "",
            subagent=meta.subagent,
            time=meta.time,
            bytes=oldest.scored.bytes,
            paid=oldest.scored.bits,
            frozen=float(oldest.text.frozen_T.sum()),
            news=float(news_W.sum()),
        )
        passages = cut_passages(info, oldest.text, oldest.words, news_W, oldest.news.uses_W)
        self.news += info.news
        self.repeated += sum(passage.repeated for passage in passages)
        oldest.session.close(info, passages, self.text_each)

    def _drop_sessions(self) -> None:
        """Leave out the sessions with the least new information, if there are too many."""
        extra = len(self.sessions) - self._most_sessions
        if extra <= 0:
            return
        open_ones = {id(each.session) for each in self._open}
        closed = [(name, each) for name, each in self.sessions.items() if id(each) not in open_ones]
        for name, _ in sorted(closed, key=lambda item: item[1].news)[:extra]:
            del self.sessions[name]
            self._left_out.add(name)
        for session in self.sessions.values():
            session.trim(self.text_each)


def make_report(scored: Iterable[ScoredTrace], tokenizer: Tokenizer) -> Report:
    """Return the report of priced traces, as `score_traces` yields them.

    Args:
        scored: the traces, in the order of the stream.
        tokenizer: the model's.
    """
    report = Report(tokenizer)
    for one in scored:
        report.add(one)
    return report.finish()

"""What a stream costs: a line of JSON for each trace, or tables of sessions and surprising traces."""

import heapq
import itertools
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from sttx_cli.output import number
from sttx_cli.plain import one_line, plain
from sttx_core.tokenizers import Tokenizer
from sttx_core.traces import ToolResult, ToolUse, Trace, trace_type

if TYPE_CHECKING:
    from sttx_train.evaluate import ScoredTrace

_PRICES = ("bits", "network_bits", "frozen_bits")
_MOST_SURPRISING = 5
_DAMPING = 100  # bytes that every trace gets for nothing, so that the shortest traces are not always first
_BEFORE, _AFTER = 8, 24  # tokens of an excerpt around the most surprising one
_EXCERPT = 64


def trace_line(scored: "ScoredTrace", tokenizer: Tokenizer, *, tokens: bool) -> bytes:
    r"""Return the line of one trace.

    Args:
        scored: The trace.
        tokenizer: The model's.
        tokens: Whether to add ``tokens``: text, bits and frozen bits of each. Bytes that are not a complete
            UTF-8 character appear as ``\xNN``.
    """
    trace, prices = scored.trace, scored.prices
    row: dict[str, Any] = {
        "session": trace.meta.session,
        "document": trace.document,
        "type": trace_type(trace),
        "tool": _tool(trace),
        "uid": trace.meta.uid,
        "bytes": scored.bytes,
    }
    row |= {name: _finite(getattr(scored, name)) for name in _PRICES}
    if tokens:
        pieces = (tokenizer.decode_bytes([token]) for token in scored.ids)
        texts = [piece.decode("utf-8", "backslashreplace") for piece in pieces]
        frozen = map(_finite, prices.frozen.tolist())
        row["tokens"] = list(zip(texts, prices.bits.tolist(), frozen, strict=True))
    return json.dumps(row, allow_nan=False).encode()


@dataclass
class _Sum:
    traces: int = 0
    bytes: int = 0
    prices: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_PRICES, 0.0))

    def add(self, traces: int, size: int, prices: Iterable[float]) -> None:
        self.traces += traces
        self.bytes += size
        for name, price in zip(_PRICES, prices, strict=True):
            self.prices[name] += price

    def cells(self) -> list[str]:
        rates = (_finite(price / self.bytes) if self.bytes else None for price in self.prices.values())
        return [f"{self.traces:,}", f"{self.bytes:,}", *map(number, rates)]


@dataclass(order=True)
class _Surprise:
    rate: float
    order: int  # the first of two equal ones comes first
    cells: list[str] = field(compare=False)


class Scores:
    """Sums of a stream, in memory that grows with the number of sessions alone.

    Args:
        tokenizer: The model's.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._sessions: dict[str, _Sum] = {}
        self._surprises: list[_Surprise] = []
        self._order = itertools.count()

    @property
    def traces(self) -> int:
        """Number of traces so far."""
        return sum(each.traces for each in self._sessions.values())

    @property
    def sessions(self) -> int:
        """Number of sessions so far."""
        return len(self._sessions)

    def add(self, scored: "ScoredTrace") -> None:
        """Count a trace."""
        into = self._sessions.setdefault(scored.trace.meta.session, _Sum())
        into.add(1, scored.bytes, (getattr(scored, name) for name in _PRICES))
        rate = scored.bits / (scored.bytes + _DAMPING)
        if scored.bytes and (len(self._surprises) < _MOST_SURPRISING or rate > self._surprises[0].rate):
            heapq.heappush(self._surprises, _Surprise(rate, -next(self._order), self._cells(scored)))
            if len(self._surprises) > _MOST_SURPRISING:
                heapq.heappop(self._surprises)

    def by_session(self) -> Table:
        """Lay out the sessions, and all of them together."""
        table = _table(("session",), ("traces", "bytes", "paid", "network", "frozen"))
        total = _Sum()
        for name, each in self._sessions.items():
            table.add_row(Text(one_line(name, 80)), *each.cells())
            total.add(each.traces, each.bytes, each.prices.values())
        if len(self._sessions) > 1:
            table.add_row("(total)", *total.cells())
        return table

    def surprising(self) -> Table:
        """Lay out the traces that cost most for their length, each with the place that costs most."""
        table = _table(("session", "trace"), ("bytes", "paid"))
        table.add_column("where it was least expected", overflow="fold")
        for each in sorted(self._surprises, reverse=True):
            table.add_row(*map(Text, each.cells))
        return table

    def _cells(self, scored: "ScoredTrace") -> list[str]:
        trace, place = scored.trace, int(scored.prices.bits.argmax())
        start = max(place - _BEFORE, 0)
        excerpt = self._tokenizer.decode_bytes(list(scored.ids[start : place + _AFTER]))
        text = ("…" if start else "") + excerpt.decode("utf-8", "ignore")
        return [
            one_line(trace.meta.session, 40),
            one_line(f"{trace_type(trace)} {_tool(trace)}", 40),
            f"{scored.bytes:,}",
            number(scored.bits / scored.bytes),
            plain(text).replace("\n", "\\n")[:_EXCERPT],
        ]


def _table(words: tuple[str, ...], numbers: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in words:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _tool(trace: Trace) -> str:
    return trace.name if isinstance(trace, ToolUse | ToolResult) else ""


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

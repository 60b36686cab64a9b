"""Watched rounds as people and programs see them: a live table, lines of JSON, a sentence for an alarm."""

import json
import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from sttx_cli.output import count, number
from sttx_cli.plain import one_line
from sttx_cli.transcript import clock, short_names

if TYPE_CHECKING:
    from sttx_train.watch import Watched

MOST_AGENTS = 1024  # of which the last round is kept
_NAME, _TOOL, _PROJECT = 40, 24, 24  # most characters that are shown


def round_facts(watched: "Watched") -> dict[str, Any]:
    """Return a round as a JSON-able object: the line of `--json`, and what the hook gets."""
    one, verdict = watched.round, watched.verdict
    return {
        "session": one.session,
        "agent": one.agent,
        "project": one.project,
        "round": one.number,
        "tool": one.tool,
        "uid": one.uid,
        "time": one.time,
        "bytes": one.bytes,
        "bits": one.bits,
        "network_bits": _finite(one.network_bits),
        "frozen_bits": _finite(one.frozen_bits),
        "usual": verdict.usual,
        "answered": one.answered,
        "failed": one.failed,
        "waits": one.waits,
        "level": verdict.level,
        "repeats": verdict.repeats,
        "looping": verdict.looping,
        "alarm": verdict.fires,
    }


def round_line(watched: "Watched") -> bytes:
    """Return the line of `--json` of a round."""
    return json.dumps(round_facts(watched), allow_nan=False).encode()


def alarm_sentence(watched: "Watched") -> str:
    """Say that an agent is in a loop."""
    one, verdict = watched.round, watched.verdict
    where = f" in {one_line(one.project, _PROJECT)}" if one.project else ""
    return (
        f"loop: session {one_line(one.name, 80)}{where} has brought nothing new for "
        f"{count(verdict.repeats, 'round')}, the last one {one_line(one.tool, _TOOL) or 'a tool'}, round "
        f"{one.number:,}: {_rate(one.bits, one.bytes)} bits per byte, usually {number(verdict.usual)}"
    )


@dataclass
class _Row:
    watched: "Watched"
    alarms: int = 0


class RoundsTable:
    """The last round of each agent, the most recent first.

    Attributes:
        agents: Number of agents so far; one that is forgotten and comes back counts again.
        rounds: Number of rounds so far.
        alarms: Number of alarms so far.
        bytes: Bytes priced so far, of rounds.
        bits: What they cost.
    """

    def __init__(self) -> None:
        self._rows: OrderedDict[str, _Row] = OrderedDict()
        self.agents = self.rounds = self.alarms = self.bytes = 0
        self.bits = 0.0

    def add(self, watched: "Watched") -> None:
        """Take a round."""
        one = watched.round
        self.agents += one.name not in self._rows
        row = self._rows.setdefault(one.name, _Row(watched))
        row.watched = watched
        row.alarms += watched.verdict.fires
        self._rows.move_to_end(one.name)
        while len(self._rows) > MOST_AGENTS:
            self._rows.popitem(last=False)
        self.rounds += 1
        self.alarms += watched.verdict.fires
        self.bytes += one.bytes
        self.bits += one.bits

    @property
    def rows(self) -> int:
        """Number of agents whose last round is kept."""
        return len(self._rows)

    def table(self, most: int | None = None) -> Table:
        """Lay out the agents, those in a loop first.

        Args:
            most: Most rows; None for all.
        """
        table = Table(box=None, pad_edge=False)
        # Only columns that may wrap give up width, so numbers stay whole; a live table cuts words off.
        for name in ("session", "project", "at", "tool"):
            table.add_column(name, overflow="fold", min_width=len(name), no_wrap=name == "at")
        for name in ("round", "bytes", "bits", "rate", "usual"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("loop", no_wrap=True)
        rows = list(reversed(self._rows.values()))
        rows.sort(key=lambda row: not row.watched.verdict.looping)
        short = short_names(row.watched.round.session for row in rows)
        for row in rows[:most]:
            style = "bold red" if row.watched.verdict.looping else ""
            table.add_row(*(_cell(cell, style, cut=most is not None) for cell in self._cells(row, short)))
        if most is not None and len(rows) > most:
            table.add_row(Text(f"({len(rows) - most:,} more)", "dim"))
        return table

    def _cells(self, row: _Row, short: dict[str, str]) -> Iterator[str]:
        one, verdict = row.watched.round, row.watched.verdict
        name = short[one.session] + (f"/{one.agent}" if one.agent else "")
        yield one_line(name, _NAME)
        yield one_line(one.project, _PROJECT)
        yield clock(one.time, "%H:%M:%S")
        yield one_line(one.tool, _TOOL)
        yield f"{one.number:,}"
        yield f"{one.bytes:,}"
        yield f"{one.bits:,.0f}"
        yield _rate(one.bits, one.bytes)
        yield number(verdict.usual)
        yield count(verdict.repeats, "round") if verdict.looping else _past(row.alarms)


def _cell(text: str, style: str, cut: bool) -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis") if cut else Text(text, style)


def _past(alarms: int) -> str:
    return count(alarms, "alarm") if alarms else ""


def _rate(bits: float, size: int) -> str:
    return number(bits / size if size else None)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

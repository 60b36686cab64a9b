"""What a person and a machine are told: data on standard output, talk and progress on standard error.

Knows numbers and words; neither models nor files.
"""

import json
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

PLAIN_LINES = 20  # over a run of known length, where standard error is no terminal
PLAIN_SECONDS = 10.0
PANEL_COLUMNS = 5


def say(text: str) -> None:
    """Tell the person something, on standard error."""
    click.echo(text, err=True)


def emit_json(value: Mapping[str, Any]) -> None:
    """Print the one object of `--json`, strict JSON, on standard output."""
    click.echo(json.dumps(value, allow_nan=False))


def emit_table(title: str, table: Table) -> None:
    """Print a table on standard output, as wide as the terminal; 120 columns where there is none."""
    click.echo(title)
    width = None if sys.stdout.isatty() else 120
    console = Console(file=sys.stdout, width=width, highlight=False, markup=False)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def quoted(text: str) -> str:
    r"""Write a text in quotes on one line; bytes that are no text stay ``\xNN``.

    >>> print(quoted('one\ntwo'))
    "one\ntwo"
    """
    return json.dumps(text, ensure_ascii=False).replace("\\\\x", "\\x")


def facts(rows: Mapping[str, object]) -> Table:
    """Lay out names and values as a table of two columns."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, str(value))
    return table


class ProgressView:
    """Shows the steps of a run: a living panel on a terminal, now and then a line elsewhere.

    Args:
        steps: how many there will be; 0 if nobody knows.
        done: how many there were before this run.
    """

    def __init__(self, steps: int, done: int = 0) -> None:
        self._steps, self._first = steps, done + 1
        self._live: Live | None = None
        console = Console(stderr=True)
        if console.is_terminal:
            self._live = Live(console=console, refresh_per_second=4, transient=True)
        self._told = time.monotonic()
        self._rates = {"tokens_per_second": 0.0, "bytes_per_second": 0.0}

    def __enter__(self) -> "ProgressView":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, metrics: Mapping[str, Any]) -> None:
        """Take in one step's metrics."""
        step = metrics["step"]
        for name, before in self._rates.items():
            weight = 1.0 if step == self._first else 0.1
            self._rates[name] = before + weight * (metrics[name] - before)
        if self._live is not None:
            self._live.update(self._panel(metrics))
        elif self._is_due(step):
            self._told = time.monotonic()
            say(" · ".join(f"{name} {value}" for name, value in self._cells(metrics).items()))

    def _is_due(self, step: int) -> bool:
        every = max(self._steps // PLAIN_LINES, 1) if self._steps else 0
        waited = time.monotonic() - self._told >= PLAIN_SECONDS
        return step in (self._first, self._steps) or waited or bool(every and step % every == 0)

    def _panel(self, metrics: Mapping[str, Any]) -> Group:
        """Lay out names over values in two rows of five, which fits a terminal of 80 columns."""
        cells = list(self._cells(metrics).items())
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        for _ in range(PANEL_COLUMNS):
            table.add_column(justify="right", no_wrap=True, min_width=9)
        for start in range(0, len(cells), PANEL_COLUMNS):
            names, values = zip(*cells[start : start + PANEL_COLUMNS], strict=True)
            table.add_row(*names, style="bold")
            table.add_row(*values)
        if not self._steps:
            return Group(table)
        bar = Table.grid()  # a bar by itself does not end its line
        bar.add_row(ProgressBar(total=self._steps, completed=metrics["step"], width=60))
        return Group(bar, table)

    def _cells(self, metrics: Mapping[str, Any]) -> dict[str, str]:
        bpb = metrics["bpb"]
        step = f"{metrics['step']}/{self._steps}" if self._steps else str(metrics["step"])
        return {
            "step": step,
            "bpb": number(bpb["now"]),
            "average": number(bpb["paid"]),
            "frozen": number(bpb["frozen"]),
            "tokens/s": f"{self._rates['tokens_per_second']:,.0f}",
            "bytes/s": f"{self._rates['bytes_per_second']:,.0f}",
            "phrases": f"{metrics['phrases']}{'' if metrics['phrases_on'] else ' (off)'}",
            "replay": str(metrics["replay"]),
            "|grad S0|": number(metrics["grad_s0"]),
            "memory": f"{metrics['memory_mb']:,.0f} MB",
        }


def number(value: float | None) -> str:
    """Write a figure as a person reads it; a dash where there is none.

    >>> number(2.34567), number(None)
    ('2.346', '-')
    """
    return "-" if value is None else f"{value:.3f}"

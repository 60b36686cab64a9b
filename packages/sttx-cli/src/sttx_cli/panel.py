"""The steps of a run as a person watches them: a live panel on a terminal, a line now and then elsewhere."""

import contextlib
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table

from sttx_cli.output import SCREEN, number, say
from sttx_cli.progress import LINE_EVERY, progress_bar

_LINES = 20  # over a run of known length, where standard error is not a terminal
_COLUMNS = 5
_NEW_RATE_WEIGHT = 0.1


class StepPanel:
    """Shows each step's metrics. Until the first one comes, it says that the first step is being prepared.

    Args:
        steps: How many steps there will be; 0 if that is unknown.
        done: How many steps there were before this run.
        verbose: Whether to show also what helps in finding faults: replay and the gradient of S0.
    """

    def __init__(self, steps: int, done: int = 0, *, verbose: bool = False) -> None:
        self._steps, self._first, self._verbose = steps, done + 1, verbose
        self._preparing = contextlib.ExitStack()
        self._closed, self._trial = False, False
        self._lock = threading.Lock()  # a signal's thread may close the panel while a step is shown
        self._last_line = time.monotonic()
        self._tokens_per_second = 0.0

    def __enter__(self) -> "StepPanel":
        self._preparing.enter_context(progress_bar("reading the first window and preparing the first step"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the panel away for good. May be called again, and from another thread."""
        with self._lock:
            self._closed = True
            self._preparing.close()
            SCREEN.clear()

    def show(self, metrics: Mapping[str, Any], *, trial: bool = False) -> None:
        """Show one step's metrics; ``trial`` says that phrases, where on, are only tried."""
        with self._lock:
            if not self._closed:
                self._preparing.close()
                self._trial = trial
                self._show(metrics)

    def _show(self, metrics: Mapping[str, Any]) -> None:
        step = metrics["step"]
        weight = 1.0 if step == self._first else _NEW_RATE_WEIGHT
        self._tokens_per_second += weight * (metrics["tokens_per_second"] - self._tokens_per_second)
        if SCREEN.is_terminal:
            SCREEN.show(self._table(metrics))
        elif self._is_due(step):
            self._last_line = time.monotonic()
            say(" · ".join(f"{name} {value}" for name, value in self._cells(metrics).items()))

    def _is_due(self, step: int) -> bool:
        every = max(self._steps // _LINES, 1) if self._steps else 0
        waited = time.monotonic() - self._last_line >= LINE_EVERY
        return step in (self._first, self._steps) or waited or bool(every and step % every == 0)

    def _table(self, metrics: Mapping[str, Any]) -> Group:
        """Lay out names over values in rows of five, which fits a terminal of 80 columns."""
        cells = list(self._cells(metrics).items())
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        for _ in range(_COLUMNS):
            table.add_column(justify="right", no_wrap=True, min_width=9)
        for start in range(0, len(cells), _COLUMNS):
            names, values = zip(*cells[start : start + _COLUMNS], strict=True)
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
        cells = {
            "step": step,
            "bpb": number(bpb["now"]),
            "paid": number(bpb["paid"]),
            "network": number(bpb["network"]),
            "frozen": number(bpb["frozen"]),
            "tokens/s": f"{self._tokens_per_second:,.0f}",
            "phrases": _phrases(metrics["phrases"], used=metrics["phrases_on"], trial=self._trial),
            "memory": f"{metrics['memory_mb']:,.0f} MB",
        }
        if self._verbose:
            cells |= {"replay": str(metrics["replay"]), "|grad S0|": number(metrics["grad_s0"])}
        return cells


def _phrases(found: int, *, used: bool, trial: bool) -> str:
    if not found:
        return "none"
    if not used:
        return f"{found} found, not used"
    return f"{found} (trial)" if trial else str(found)

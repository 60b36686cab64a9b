"""Progress of anything that may take more than two seconds, on standard error.

On a terminal it is a bar or a spinner, elsewhere a line after two seconds and then now and then. What takes
less time shows nothing. A thread of its own draws it, so that work which reports nothing is visible too.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import RenderableType
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from sttx_cli.output import SCREEN, say
from sttx_cli.plain import visible_line

LINE_AFTER = 2.0  # seconds until the first line, where standard error is not a terminal
LINE_EVERY = 10.0  # seconds between lines
_BAR_AFTER = 0.5  # seconds until the bar, on a terminal: shorter work would only flicker
_REDRAW_EVERY = 0.25
_BAR_WIDTH = 30
_MB, _KB = 1e6, 1e3


@contextmanager
def progress_bar(
    title: str, total: int | None = None, unit: str = "", *, poll: Callable[[], int] | None = None
) -> Iterator[Callable[[int], None]]:
    """Show progress while the block runs; yield a function that takes how much more is done.

    Args:
        title: What is done, such as "reading".
        total: How much there is to do; None if that is unknown.
        unit: What is counted; "bytes" are shown as kB or MB. Empty: nothing is counted, only time passes.
        poll: Returns how much is done, where the work counts for itself.
    """
    meter = _Meter(title, total, unit, poll)
    done = threading.Event()
    drawing = threading.Thread(
        target=_draw if SCREEN.is_terminal else _write_lines,
        args=(meter, done),
        name="sttx-progress",
        daemon=True,
    )
    drawing.start()
    try:
        yield meter.advance
    finally:
        done.set()
        drawing.join()


class _Meter:
    """How much of one piece of work is done, and how fast."""

    def __init__(self, title: str, total: int | None, unit: str, poll: Callable[[], int] | None) -> None:
        self.title, self.total = title, total
        self._unit, self._poll = unit, poll
        self._done, self._started = 0, time.monotonic()

    def advance(self, more: int) -> None:
        """Count what was done since the last call."""
        self._done += more

    @property
    def done(self) -> int:
        return self._done if self._poll is None else self._poll()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def amount(self) -> str:
        """Write how much is done and the mean rate so far; empty if nothing is counted."""
        if not self._unit:
            return ""
        scale, unit, digits = 1.0, self._unit, 0
        if unit == "bytes":
            large = max(self.total or 0, self.done) >= _MB
            scale, unit, digits = (_MB, "MB", 1) if large else (_KB, "kB", 0)
        done, rate = self.done / scale, self.done / scale / max(self.seconds, 1e-9)
        of = "" if self.total is None else f" of {self.total / scale:,.{digits}f}"
        return f"{done:,.{digits}f}{of} {unit}, {rate:,.{digits}f} {unit}/s"


def _write_lines(meter: _Meter, done: threading.Event) -> None:
    if done.wait(LINE_AFTER):
        return
    say(f"{meter.title}: {meter.amount()}" if meter.amount() else f"{meter.title} …")
    while meter.amount() and not done.wait(LINE_EVERY):
        say(f"{meter.title}: {meter.amount()}")


def _draw(meter: _Meter, done: threading.Event) -> None:
    if done.wait(_BAR_AFTER):
        return
    spinner = Spinner("dots")
    while True:
        SCREEN.show(_row(meter, spinner))
        if done.wait(_REDRAW_EVERY):
            break
    SCREEN.clear()


def _row(meter: _Meter, spinner: Spinner) -> Table:
    row = Table.grid(padding=(0, 1))
    cells: list[RenderableType] = [spinner, visible_line(meter.title)]
    if meter.total:
        cells.append(ProgressBar(total=meter.total, completed=min(meter.done, meter.total), width=_BAR_WIDTH))
    if amount := meter.amount():
        cells.append(amount)
    minutes, seconds = divmod(int(meter.seconds), 60)
    cells.append(Text(f"{minutes}:{seconds:02}", style="dim"))
    row.add_row(*cells)
    return row

"""A bar on standard error while something long is done; now and then a line where there is no terminal."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sttx_cli.output import PLAIN_SECONDS, say


@contextmanager
def progress_bar(title: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    """Show how much is done, and give a function that is told how much more was.

    Args:
        title: What is done.
        total: How much there is; None if nobody knows.
        unit: Of what.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _PlainLines(title, total, unit)
        return
    amount = TextColumn("{task.fields[amount]}")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        amount,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=total, amount="")
        done = 0

        def advance(more: int) -> None:
            nonlocal done
            done += more
            progress.update(task, completed=done, amount=_amount(done, total, unit))

        yield advance


class _PlainLines:
    """Says a line now and then."""

    def __init__(self, title: str, total: int | None, unit: str) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._done, self._told = 0, time.monotonic()

    def __call__(self, more: int) -> None:
        self._done += more
        if time.monotonic() - self._told >= PLAIN_SECONDS:
            self._told = time.monotonic()
            say(f"{self._title}: {_amount(self._done, self._total, self._unit)}")


def _amount(done: int, total: int | None, unit: str) -> str:
    return f"{done:,} {unit}" if total is None else f"{done:,} of {total:,} {unit}"

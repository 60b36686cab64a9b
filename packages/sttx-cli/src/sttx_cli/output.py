"""Data goes to standard output; messages, progress and the live panel go to standard error.

One object, `SCREEN`, owns standard error. It knows whether a live display is on, so that a message is printed
above the display and never into it. Knows nothing of models, files or runs.
"""

import json
import sys
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sttx_core.errors import SttxWarning

_REFRESHES_PER_SECOND = 4


class Screen:
    """Standard error: lines of text, and at most one live display below them."""

    def __init__(self) -> None:
        self._live: Live | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether standard error is a terminal, where a display can be redrawn."""
        return Console(stderr=True).is_terminal

    def say(self, text: str) -> None:
        """Print a message; above the live display, if there is one."""
        if self._live is None:
            click.echo(text, err=True)
        else:
            self._live.console.print(Text(text), soft_wrap=True)

    def show(self, display: RenderableType) -> None:
        """Show a live display, or replace the one that is shown. Only on a terminal."""
        if self._live is not None:
            self._live.update(display)
            return
        live = Live(
            display,
            console=Console(stderr=True, highlight=False),
            refresh_per_second=_REFRESHES_PER_SECOND,
            transient=True,
            redirect_stdout=False,  # standard output carries data, which must not end up in the display
        )
        live.start(refresh=True)
        self._live = live

    def clear(self) -> None:
        """Take the live display away, and leave no trace of it on the screen."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()


SCREEN = Screen()
"""The standard error of this process."""


def say(text: str) -> None:
    """Print a message on standard error."""
    SCREEN.say(text)


def note(text: str) -> None:
    """Print something that a person should know, on standard error."""
    say(f"note: {text}")


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Print each `SttxWarning` as a note; leave other warnings to Python."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_as_note(message: Any, category: Any, *place: Any, **more: Any) -> None:
            if issubclass(category, SttxWarning):
                note(str(message))
            else:
                show(message, category, *place, **more)

        warnings.showwarning = show_as_note
        yield


def emit_json(value: Mapping[str, Any]) -> None:
    """Print the one object of `--json`, strict JSON, on standard output."""
    click.echo(json.dumps(value, allow_nan=False))


def emit_text(text: str, *, err: bool = False) -> None:
    """Print lines on standard output; on a terminal, wrap them between words at its width.

    Args:
        text: The lines.
        err: Whether to print on standard error instead.
    """
    if not (sys.stderr if err else sys.stdout).isatty():
        click.echo(text, err=err)
        return
    width = Console(stderr=err).width
    for line in text.splitlines():
        wrapped = textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False)
        click.echo("\n".join(wrapped), err=err)


def emit_table(title: str, table: Table) -> None:
    """Print a table on standard output, as wide as the terminal; 120 columns where there is none."""
    click.echo(title)
    width = None if sys.stdout.isatty() else 120
    console = Console(file=sys.stdout, width=width, highlight=False, markup=False)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def facts(rows: Mapping[str, object]) -> Table:
    """Lay out names and values as a table of two columns."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, str(value))
    return table


def quoted(text: str) -> str:
    r"""Write a text in quotes on one line; bytes that are not valid text stay ``\xNN``.

    >>> print(quoted('one\ntwo'))
    "one\ntwo"
    """
    return json.dumps(text, ensure_ascii=False).replace("\\\\x", "\\x")


def number(value: float | None) -> str:
    """Write a number with three decimals; a dash if there is none.

    >>> number(2.34567), number(None)
    ('2.346', '-')
    """
    return "-" if value is None else f"{value:.3f}"


def skipped_files(files: Sequence[Path]) -> str:
    """Write how many files were skipped because they are not text, and name the first.

    >>> skipped_files([Path("a.bin")])
    "skipped (not text): 1 file, such as 'a.bin'"
    """
    return f"skipped (not text): {count(len(files), 'file')}, such as {str(files[0])!r}"


def count(amount: int, noun: str) -> str:
    """Write how many of something there are.

    >>> count(1, "session"), count(1200, "session")
    ('1 session', '1,200 sessions')
    """
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"

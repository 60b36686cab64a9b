"""Data goes to standard output; messages, progress and the live panel go to standard error.

The one place that writes to either: every text, cell and label is made visible here.
`SCREEN` owns standard error. It knows whether a live display is on, so that a message is printed above the
display and never into it. Knows nothing of models, files or runs.
"""

import json
import sys
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.live import Live
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from sttx_cli.plain import VisiblePieces, visible, visible_json, visible_line
from sttx_cli.streams import ReaderLeft, Stream, guarded_streams, unguarded
from sttx_core.errors import SttxWarning, UsageError

_REFRESHES_PER_SECOND = 4


class _Console(Console):
    """Writes styles and cursor movements of its own, and makes visible those in what it renders."""

    def __init__(self, stream: TextIO, **options: Any) -> None:
        plain_text: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
        super().__init__(file=unguarded(stream), **plain_text, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Make a string visible before it is measured and wrapped."""
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Make visible what is rendered; only rich's own control segments stay."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


class Drawn:
    """A display that is laid out once for each width: a screen asks for it several times a second.

    Args:
        display: What is shown.
    """

    def __init__(self, display: RenderableType) -> None:
        self._display = display
        self._width, self._segments = -1, list[Segment]()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Segment]:
        """Return the segments of the display."""
        if options.max_width != self._width:
            self._width, self._segments = options.max_width, list(console.render(self._display, options))
        return self._segments


class _Inset:
    """A display that leaves room for the echo of Ctrl-C, which would wrap a full line and tear it."""

    def __init__(self, display: RenderableType) -> None:
        self._display = display

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Segment]:
        inset = options.update_width(max(options.max_width - len("^C"), 1))
        for line in console.render_lines(self._display, inset, pad=False, new_lines=True):
            yield from line


class Screen:
    """Standard error: lines of text, and at most one live display below them.

    Attributes:
        silent: Whether nothing is written, because another process of the same run reports.
    """

    def __init__(self) -> None:
        self.silent = False
        self._live: Live | None = None
        self._unfinished = ""

    @property
    def is_terminal(self) -> bool:
        """Whether standard error is a terminal, where a display can be redrawn."""
        return not self.silent and _Console(sys.stderr).is_terminal

    @property
    def rows(self) -> int:
        """Most rows of a table that a live display has room for, below its heading and above a message."""
        return max(_Console(sys.stderr).height - 4, 3)

    def say(self, text: str) -> None:
        """Print a message on one line; above the live display, if there is one."""
        self.put(f"{visible_line(text)}\n")

    def put(self, text: str) -> None:
        """Write text that was made safe; above the live display, as soon as its line is complete."""
        if self.silent:
            return
        if self._live is None:
            stream = unguarded(sys.stderr)
            stream.write(text)
            stream.flush()
            return
        *lines, self._unfinished = (self._unfinished + text).split("\n")
        for line in lines:
            self._live.console.print(line, soft_wrap=True)

    def show(self, display: RenderableType) -> None:
        """Show a live display, or replace the one that is shown. Only on a terminal."""
        if self._live is not None:
            self._live.update(_Inset(display))
            return
        live = Live(
            _Inset(display),
            console=_Console(sys.stderr),
            refresh_per_second=_REFRESHES_PER_SECOND,
            transient=True,
            redirect_stdout=False,  # standard output carries data, which must not end up in the display
            redirect_stderr=False,  # while a command runs, its guard puts what others write above the display
        )
        live.start(refresh=True)
        self._live = live

    def clear(self) -> None:
        """Take the live display away, and leave no trace of it on the screen."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()
        unfinished, self._unfinished = self._unfinished, ""
        if unfinished:
            self.put(unfinished)


SCREEN = Screen()
"""The standard error of this process."""


def say(text: str) -> None:
    """Print a message on standard error."""
    SCREEN.say(text)


def note(text: str) -> None:
    """Print something that a person should know, on standard error."""
    say(f"note: {text}")


def guarded_output() -> AbstractContextManager[Stream]:
    """Guard both standard streams inside the block, so that what others write is made visible too."""
    return guarded_streams(SCREEN.put)


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


def out_is_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return unguarded(sys.stdout).isatty()


def emit_json(value: Mapping[str, Any]) -> None:
    """Print the one object of `--json`, strict JSON in ASCII, on standard output."""
    _write(f"{json.dumps(value, allow_nan=False)}\n")


def emit_json_lines(lines: Iterable[bytes]) -> None:
    """Print JSON lines in UTF-8, with JSON's escapes for what a terminal would obey.

    Raises:
        ReaderLeft: Nobody reads them any more.
    """
    stream = unguarded(sys.stdout)
    for line in lines:
        if not line.isascii() or b"\x7f" in line:
            line = visible_json(line.decode()).encode()
        if isinstance(stream, Stream):
            stream.write_bytes(line + b"\n")
        else:
            stream.write(f"{line.decode()}\n")
        _check_reader()


def emit_styled(lines: Iterable[Text]) -> None:
    """Print lines of styled text, unwrapped.

    Raises:
        ReaderLeft: Nobody reads them any more.
    """
    console = _Console(sys.stdout)
    for line in lines:
        console.print(line, soft_wrap=True)
        _check_reader()


def emit_line(text: str) -> None:
    """Print one line on standard output."""
    _write(f"{visible_line(text)}\n")


class PieceOutput:
    """Prints the parts of a text on standard output, each at once."""

    def __init__(self) -> None:
        self._visible = VisiblePieces()

    def emit(self, piece: str) -> None:
        """Print the next part.

        Raises:
            ReaderLeft: Nobody reads it any more.
        """
        _write(self._visible.add(piece))
        _check_reader()


def emit_text(text: str, *, err: bool = False) -> None:
    """Print lines on standard output; on a terminal, wrap them between words at its width.

    Args:
        text: The lines.
        err: Whether to print on standard error instead.
    """
    stream = sys.stderr if err else sys.stdout
    width = _Console(stream).width if unguarded(stream).isatty() else None
    for line in visible(text).split("\n"):
        wrapped = [line] if width is None else _wrapped(line, width)
        _write("".join(f"{part}\n" for part in wrapped), err=err)


def emit_table(title: str, table: Table) -> None:
    """Print a table on standard output, as wide as the terminal; 120 columns where there is none."""
    emit_line(title)
    console = _Console(sys.stdout, width=None if out_is_terminal() else 120)
    with console.capture() as captured:
        console.print(table)
    _write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def _wrapped(line: str, width: int) -> list[str]:
    return textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]


def _write(text: str, *, err: bool = False) -> None:
    if err:
        SCREEN.put(text)
        return
    stream = unguarded(sys.stdout)
    stream.write(text)
    stream.flush()


def _check_reader() -> None:
    if getattr(unguarded(sys.stdout), "left", False):
        raise ReaderLeft


def facts(rows: Mapping[str, object]) -> Table:
    """Lay out names and values as a table of two columns; a list of values has a line for each."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        lines = value if isinstance(value, list) else [value]
        table.add_row(visible_line(name), "\n".join(visible_line(str(line)) for line in lines))
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


class BinaryOut:
    """Standard output for bytes.

    Raises:
        UsageError: it is a terminal.
    """

    def __init__(self) -> None:
        if out_is_terminal():
            raise UsageError("standard output is a terminal: redirect it, or name a file with -o")
        self._stream = unguarded(sys.stdout)

    def write(self, data: bytes, /) -> int:
        """Write the bytes.

        Raises:
            ReaderLeft: nobody reads them any more.
        """
        stream = self._stream
        (stream.write_bytes if isinstance(stream, Stream) else cast(Any, stream).buffer.write)(data)
        if getattr(stream, "left", False):
            raise ReaderLeft
        return len(data)

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()

    def fileno(self) -> int:
        """Return the number of the stream's file."""
        return self._stream.fileno()

"""Progress on standard error: nothing for short work, a bar on a terminal, lines elsewhere."""

import io
import time

import pytest

from sttx_cli import progress
from sttx_cli.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(progress, "LINE_AFTER", 0.01)
    monkeypatch.setattr(progress, "LINE_EVERY", 0.01)
    monkeypatch.setattr(progress, "_BAR_AFTER", 0.01)
    monkeypatch.setattr(progress, "_REDRAW_EVERY", 0.01)


def wait_for(written, text):
    """Wait until a text is written; return all that was."""
    deadline, everything = time.monotonic() + 20, ""
    while text not in everything:
        assert time.monotonic() < deadline, everything
        everything += written()
        time.sleep(0.005)
    return everything


def test_short_work_prints_nothing(capsys):
    with progress_bar("writing", 1000, "ids") as advance:
        advance(1000)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("total", "unit", "line"),
    [
        (1000, "ids", "writing: 400 of 1,000 ids, "),
        (None, "ids", "writing: 400 ids, "),
        (2_500_000, "bytes", "writing: 0.0 of 2.5 MB, "),
        (2_000, "bytes", "writing: 0 of 2 kB, "),
        (None, "bytes", "writing: 0 kB, "),
        (None, "", "writing …\n"),
    ],
)
def test_a_line_now_and_then_without_a_terminal(at_once, capsys, total, unit, line):
    with progress_bar("writing", total, unit) as advance:
        advance(400)
        err = wait_for(lambda: capsys.readouterr().err, line)
    assert err.startswith(line) and err.endswith("\n")
    assert not unit or f"{'' if unit == 'bytes' else unit}/s\n" in err.replace("kB", "").replace("MB", "")
    assert capsys.readouterr().out == ""


def test_work_that_counts_for_itself_is_asked(at_once, capsys):
    with progress_bar("reading", 10, "files", poll=lambda: 7):
        wait_for(lambda: capsys.readouterr().err, "reading: 7 of 10 files, ")


@pytest.mark.parametrize(("total", "shown"), [(1000, "400 of 1,000 ids"), (None, "400 ids")])
def test_a_bar_on_a_terminal_that_is_removed_at_the_end(at_once, monkeypatch, total, shown):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with progress_bar("writing", total, "ids") as advance:
        advance(400)
        wait_for(terminal.getvalue, shown)
    assert ("━" in terminal.getvalue()) == (total is not None)
    assert terminal.getvalue().endswith("\x1b[2K"), "the last thing written removes the bar"


def test_an_error_ends_the_progress(at_once, capsys):
    with pytest.raises(ValueError, match="x"), progress_bar("writing"):
        raise ValueError("x")
    before = capsys.readouterr().err
    time.sleep(0.05)
    assert capsys.readouterr().err == "" and "Traceback" not in before

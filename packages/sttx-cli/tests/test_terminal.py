"""`sttx train` and `sttx watch` on a real terminal (a pty): Ctrl-C leaves no torn panel or table behind."""

import os
import re
import subprocess
import sys
import time

import pytest

if sys.platform == "win32":
    pytest.skip("a pty needs a Unix system", allow_module_level=True)

import fcntl
import pty
import select
import struct
import termios

COLUMNS, ROWS = 80, 24
_TOKEN = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\x1b.|([^\x1b])", re.DOTALL)


def screen(written: str) -> list[str]:
    """Return the lines that a terminal shows after some output; knows the sequences that rich writes."""
    lines, row, column = [""], 0, 0
    for count, command, char in (match.groups() for match in _TOKEN.finditer(written)):
        if command == "A":
            row = max(row - int(count or 1), 0)
        elif command == "K":
            lines[row] = "" if count == "2" else lines[row][:column]
        elif char == "\r":
            column = 0
        elif char == "\n" or (char and column == COLUMNS):
            row, column = row + 1, column if char == "\n" else 0
            lines += [""] * (row + 1 - len(lines))
        if char and char not in "\r\n":
            lines[row] = lines[row].ljust(column)[:column] + char + lines[row][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines]


def test_the_screen_follows_cursor_movements():
    assert screen("one\r\ntwo\r\x1b[2K\x1b[1A\x1b[2KX\r\nY") == ["X", "Y"]
    assert screen("abc\rX") == ["Xbc"]


@pytest.fixture
def on_terminal(tiny_model, sessions, monkeypatch):
    """Return a function that starts a command on a terminal; it returns the process and the other end."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    monkeypatch.delenv("NO_COLOR", raising=False)
    started = []

    def start(command, *arguments):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        line = [command, "--from", sessions, "--model", tiny_model, *arguments]
        process = subprocess.Popen(
            [sys.executable, "-m", "sttx_cli", *map(str, line)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        started.append((process, ours))
        return process, ours

    yield start
    for process, ours in started:
        process.kill()
        process.wait()
        os.close(ours)


def read(ours: int, until: str | None = None, seconds: float = 300) -> str:
    """Read the terminal until a text appears, or until the process ends."""
    written, deadline = b"", time.monotonic() + seconds
    while until is None or until not in written.decode("utf-8", "ignore"):
        assert time.monotonic() < deadline, written.decode("utf-8", "ignore")
        if select.select([ours], [], [], 0.1)[0]:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # Linux reports the closed other end so
                break
            if not piece:
                break
            written += piece
    return written.decode("utf-8", "ignore")


def test_ctrl_c_is_readable_and_leaves_no_torn_panel(on_terminal, tmp_path):
    line = ["--follow", "--device", "cpu", "--window", 32, "--steps", 100_000]
    process, ours = on_terminal("train", *line, "--checkpoint-dir", tmp_path / "run")
    written = read(ours, until="tokens/s") + read(ours, until="\x1b[2K")
    assert "━" in written, "the panel was never shown"
    os.write(ours, b"\x03")
    written += read(ours)
    assert process.wait(300) == 0
    lines = screen(written)
    assert "finishing this step, then saving; interrupt again to end at once" in lines, lines
    shown = "\n".join(lines)
    assert "━" not in shown and "tokens/s" not in shown and "^C" not in shown, shown
    assert "Interrupted." in shown and "Checkpoint:" in shown
    summary = lines[next(at for at, line in enumerate(lines) if line.startswith("Interrupted.")) :]
    assert all(len(line) <= COLUMNS for line in summary if "/" not in line)
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l"), "the cursor is visible again"


def test_a_table_is_shown_while_watching_and_taken_away_at_the_end(on_terminal):
    process, ours = on_terminal("watch", "--since", "2020-01-01", "--threads", 1)
    written = read(ours, until="two") + read(ours, until="\x1b[2K")
    assert "project" in written, "the table was never shown"
    os.write(ours, b"\x03")
    written += read(ours)
    assert process.wait(300) == 0
    shown = "\n".join(screen(written))
    assert "project" not in shown and "^C" not in shown, shown
    assert "Watched " in shown and "rounds of 2 agents" in shown
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l"), "the cursor is visible again"

"""A reader of standard output or error may leave at any time: quietly, and with the same exit code."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sttx_ccsniff
from sttx_cli import app, run
from sttx_cli.streams import Stream

SAMPLE = Path(sttx_ccsniff.__file__).parent / "sample"
LINES = {
    "help": "--help",
    "help of a command": "traces --help",
    "version": "--version",
    "sessions": "traces SAMPLE",
    "one session": "traces show 1c9e SAMPLE",
    "traces": "traces --json SAMPLE",
    "counts": "validate-data SAMPLE",
    "counts as JSON": "validate-data --json SAMPLE",
    "a run": "inspect RUN",
    "phrases": "merge-stats RUN",
    "data": "data show TEXT --tokenizer bytes",
    "an empty source": "validate-data EMPTY",
    "a mistake": "traces MISSING",
    "no such command": "trian",
}


@pytest.fixture
def words(tmp_path, finished):
    """Return a function that puts paths in place of the names in a command line."""
    (tmp_path / "text.txt").write_text("some words " * 9)
    (tmp_path / "empty.jsonl").touch()
    places = {
        "SAMPLE": SAMPLE,
        "RUN": finished,
        "TEXT": tmp_path / "text.txt",
        "EMPTY": tmp_path / "empty.jsonl",
    }
    return lambda line: [str(places.get(word, word)) for word in line.split()]


@pytest.fixture
def pipe(request, monkeypatch):
    """Return a function that makes a standard stream a pipe that nobody reads, and returns its text layer."""

    def make(name):
        ours, theirs = os.pipe()
        os.close(ours)
        stream = open(theirs, "w", encoding="utf-8")  # noqa: SIM115
        request.addfinalizer(stream.close)
        monkeypatch.setattr(f"sys.{name}", stream)
        return stream

    return make


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_a_reader_who_leaves_changes_no_exit_code(sttx, words, pipe, capsys, line):
    code = sttx(*words(line)).code
    out = pipe("stdout")
    assert run(words(line)) == code
    out.flush()  # as Python does at exit
    err = capsys.readouterr().err
    assert "Traceback" not in err and "roken" not in err
    pipe("stdout")
    pipe("stderr").write("unread")
    assert run(words(line)) == code
    sys.stderr.flush()


def test_a_stream_of_traces_ends_when_nobody_reads_it(pipe, monkeypatch, capsys):
    read = []

    def endless(source):
        for trace in source:
            while len(read) < 10_000:
                read.append(trace)
                yield trace
        pytest.fail("it read on")

    monkeypatch.setattr("sttx_cli.commands.traces.session_traces", lambda source, session: endless(source))
    pipe("stdout")
    assert run(["traces", "show", "1c9e", "--json", str(SAMPLE)]) == 0
    assert len(read) < 1000
    assert "\n".join(capsys.readouterr().err.splitlines()).startswith("source: ")


class Failing(io.StringIO):
    """A stream that cannot be written."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, text: str) -> int:
        raise OSError(self.number, os.strerror(self.number))


def test_a_full_disk_is_an_error_on_standard_output_only(sttx, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout", Failing(errno.ENOSPC))
    assert run(["validate-data", str(SAMPLE)]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("sttx: the disk is full: free some space")
    monkeypatch.setattr("sys.stdout", io.StringIO())
    monkeypatch.setattr("sys.stderr", Failing(errno.ENOSPC))
    assert run(["validate-data", str(SAMPLE)]) == 0


@pytest.mark.parametrize(("terminal", "left"), [(True, True), (False, False)])
def test_a_terminal_that_is_gone_is_no_damaged_disk(terminal, left):
    gone = Failing(errno.EIO)
    gone.isatty = lambda: terminal
    stream = Stream(gone, optional=False)
    if left:
        stream.write("x")
    else:
        with pytest.raises(OSError, match="error"):
            stream.write("x")
    assert stream.left and stream.write("y") == 1


def test_another_pipe_that_closes_is_a_failure(sttx, monkeypatch):
    def fail(*_, **__):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("sttx_cli.commands.validate_data.open_source", fail)
    result = sttx("validate-data", SAMPLE)
    assert (result.code, result.out) == (1, "")
    assert result.err == "sttx: a program that sttx started has closed its pipe\n"


def test_a_shell_may_ask_for_completions(sttx, monkeypatch):
    def complete(*_, **__):
        sys.exit(0)

    monkeypatch.setattr(app.cli, "main", complete)
    assert sttx() == (0, "", "")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a Unix shell")
@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("{sttx} traces {sample} >&- 2>&-", 0),
        ("{sttx} traces nowhere <&- >&- 2>&-", 2),
        ("{sttx} validate-data {empty} | :; exit ${{PIPESTATUS[0]}}", 1),
        ("{sttx} traces {sample} > /dev/full", 1),
    ],
)
def test_the_exit_code_of_the_process(tmp_path, command, code):
    (
        tmp_path / "empty.jsonl"
    ).touch()  # not the null device: where that is a file, it holds what others wrote
    line = command.format(sttx=f"{sys.executable} -m sttx_cli", sample=SAMPLE, empty=tmp_path / "empty.jsonl")
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr and "Errno" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a Unix shell")
def test_no_file_takes_the_number_of_a_closed_stream():
    code = (
        "import os; from sttx_cli.streams import open_closed_streams as fix; fix(); "
        "os._exit(0 if os.open('/dev/null', 0) > 2 and all(map(os.get_inheritable, (0, 1, 2))) else 1)"
    )
    assert (
        subprocess.run(["bash", "-c", f'{sys.executable} -c "{code}" <&- >&- 2>&-'], check=False).returncode
        == 0
    )


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal needs a Unix system")
def test_a_terminal_that_closes_is_no_damaged_disk():
    ours, theirs = os.openpty()
    with open(theirs, "w", encoding="utf-8") as terminal:
        stream = Stream(terminal, optional=False)
        os.close(ours)
        stream.write("x")
        stream.flush()
        assert stream.left and not terminal.isatty()

"""The list of commands, help and how fast it is, and exit codes of errors."""

import resource
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest

from sttx_cli import COMMANDS, app, commands
from sttx_core.errors import DataError, UsageError

FOLDER = Path(commands.__file__).parent


def test_each_line_is_the_first_sentence_of_the_commands_help():
    lines = {}
    for name in COMMANDS:
        command = app.cli.get_command(click.Context(app.cli), name)
        assert command is not None
        lines[name] = (command.help or "").splitlines()[0].split(". ")[0].rstrip(".") + "."
    assert lines == COMMANDS


def test_every_module_is_a_command():
    modules = {path.stem.replace("_", "-") for path in FOLDER.glob("*.py")} - {"--init--"}
    assert modules == set(COMMANDS)
    for name in COMMANDS:
        assert import_module(f"sttx_cli.commands.{name.replace('-', '_')}").command.name == name


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(sttx, name, option):
    result = sttx(name, option)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"Usage: sttx {name} ")
    assert COMMANDS[name].rstrip(".") in result.out


def test_help_lists_every_command(sttx):
    result = sttx("--help")
    assert result.code == 0
    assert all(line in result.out for line in COMMANDS.values())


def test_help_answers_at_once():
    """In processor time, which a busy machine does not change, and at best of three."""
    took = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "sttx_cli", "--help"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(took) < 0.5


@pytest.mark.parametrize("line", [["--help"], ["--version"], ["validate-data", "--help"], ["nonsense"]])
def test_commands_without_a_model_do_not_import_torch(line):
    code = f"import sys; from sttx_cli import run; run({line!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_version(sttx):
    assert sttx("--version").out.startswith("sttx, version ")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["trian"], "No such command 'trian'. Did you mean 'train'"),
        (["data", "bild"], "No such command 'bild'. Did you mean 'build'?"),
        (["train", "--lr-stat", "1"], "No such option '--lr-stat'"),
        (["doctor", "--jso"], "Did you mean '--json'?"),
        (["train"], "--checkpoint-dir"),
        (["train", "--nonsense"], "No such option"),
        (["train", "--lr", "0.1"], "no option --lr: did you mean --lr-state, --lr-hypernet, --lr-bias, "),
        (["inspect"], "no path is named: give the folder of a run, or --checkpoint RUN/latest, or a model: "),
        (["plot"], "no run is named"),
        (["pretrain", "--out", "x"], "no data is named"),
        (["inspect", "a", "b"], "unexpected extra argument"),
        (["validate-data"], "no source is named"),
        (["merge-stats", ".", "--top", "many"], "not a valid integer"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_command_line_exits_with_2(sttx, line, message):
    result = sttx(*line)
    assert (result.code, result.out) == (2, "")
    assert message in result.err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UsageError("no such thing"), 2, "sttx: no such thing\n"),
        (DataError("it is torn"), 1, "sttx: it is torn\n"),
        (
            PermissionError(13, "Permission denied", "/x"),
            1,
            "sttx: permission denied ('/x'): change its permissions, or name another place\n",
        ),
        (
            OSError(28, "No space left on device"),
            1,
            "sttx: the disk is full: free some space, or name another place\n",
        ),
        (KeyboardInterrupt(), 130, "sttx: interrupted before there was anything to save\n"),
        (click.Abort(), 130, "sttx: interrupted before there was anything to save\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_exit_codes_of_errors(sttx, monkeypatch, error, code, message):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(app.cli, "main", fail)
    assert sttx("doctor") == (code, "", message)


def test_a_bug_shows_a_traceback(sttx, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(app.cli, "main", fail)
    with pytest.raises(ZeroDivisionError):
        sttx("doctor")


def test_main_exits_with_the_code(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["sttx", "nonsense"])
    with pytest.raises(SystemExit) as exit:
        app.main()
    assert exit.value.code == 2


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["table", "json"])
def test_a_reader_that_closes_the_pipe_is_not_an_error(start, sessions, options):
    with start("validate-data", sessions, *options) as process:
        process.stdout.close()
        process.stdin.close()
        err = process.stderr.read()
        assert process.wait(300) == 0
    assert "Traceback" not in err and "BrokenPipe" not in err and "Exception ignored" not in err

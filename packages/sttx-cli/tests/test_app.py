"""Which commands there are, how quickly they explain themselves, and what ends with which exit code."""

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


def test_the_lines_are_the_commands_own():
    said = {}
    for name in COMMANDS:
        command = app.cli.get_command(click.Context(app.cli), name)
        assert command is not None
        said[name] = (command.help or "").splitlines()[0].split(". ")[0].rstrip(".") + "."
    assert said == COMMANDS


def test_every_module_is_a_command():
    there = {path.stem.replace("_", "-") for path in FOLDER.glob("*.py")} - {"--init--"}
    assert there == set(COMMANDS)
    for name in COMMANDS:
        assert import_module(f"sttx_cli.commands.{name.replace('-', '_')}").command.name == name


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(sttx, name, option):
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
def test_what_needs_no_model_loads_no_torch(line):
    code = f"import sys; from sttx_cli import run; run({line!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_version(sttx):
    assert sttx("--version").out.startswith("sttx, version ")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["train"], "--checkpoint-dir"),
        (["train", "--nonsense"], "No such option"),
        (["inspect"], "Missing argument 'PATH'"),
        (["inspect", "a", "b"], "unexpected extra argument"),
        (["validate-data"], "Missing argument"),
        (["merge-stats", ".", "--top", "many"], "not a valid integer"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_ends_with_2(sttx, line, said):
    result = sttx(*line)
    assert (result.code, result.out) == (2, "")
    assert said in result.err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("no such thing"), 2, "sttx: no such thing\n"),
        (DataError("it is torn"), 1, "sttx: it is torn\n"),
        (PermissionError(13, "Permission denied", "/x"), 1, "sttx: [Errno 13] Permission denied: '/x'\n"),
        (KeyboardInterrupt(), 130, "sttx: interrupted before there was anything to save\n"),
        (click.Abort(), 130, "sttx: interrupted before there was anything to save\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_what_ends_with_which_code(sttx, monkeypatch, error, code, said):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(app.cli, "main", fail)
    assert sttx("doctor") == (code, "", said)


def test_our_own_bugs_show_themselves(sttx, monkeypatch):
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
def test_a_reader_who_has_gone_is_no_crash(start, sessions, options):
    with start("validate-data", sessions, *options) as process:
        process.stdout.close()
        process.stdin.close()
        said = process.stderr.read()
        assert process.wait(60) == 0
    assert "Traceback" not in said and "BrokenPipe" not in said and "Exception ignored" not in said

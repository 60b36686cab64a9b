"""The `sttx` command: which commands there are, and how every outcome becomes an exit code.

A command's module is imported only when the command runs, so that `sttx --help` answers at once.

Exit codes: 0 done, 1 something failed, 2 the command line must change, 130 interrupted before there was
anything to save; docs/cli.md has the rule. Expected failures are one sentence. A traceback is a bug in sttx.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

import click

from sttx_cli.environment import wait_passively
from sttx_cli.failures import error_sentence
from sttx_cli.options import SuggestingGroup
from sttx_cli.output import warnings_as_notes
from sttx_core.errors import SttxError

COMMANDS = {
    "train": "Learn from a stream of traces, and keep what was learned.",
    "inspect": "Explain a run, a checkpoint or a model.",
    "merge-stats": "Show the phrases that a run has found.",
    "plot": "Draw the curves of runs as PNG or SVG.",
    "validate-data": "Count what a source of traces holds.",
    "traces": "List the sessions of a source, or show one.",
    "data": "Pack data to pretrain on, or show what it holds.",
    "pretrain": "Train a base model on text, numbers or sessions.",
    "vocab": "Learn a vocabulary from text files.",
    "doctor": "Check what works on this machine.",
}
"""Every command with its one line, listed here so that help imports no command; a test compares the two."""


class _Commands(SuggestingGroup):
    """A group that imports a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, the most important first."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; return None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        return import_module(f"sttx_cli.commands.{cmd_name.replace('-', '_')}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("sttx-cli"), prog_name="sttx")
def cli() -> None:
    """A language model that keeps learning from your coding agent's sessions.

    Streams traces through an RWKV-7 model, pays for what it did not expect, and learns from exactly that.
    """


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code; never exits."""
    try:
        with warnings_as_notes():
            result = cli.main(arguments, prog_name="sttx", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except SttxError as error:
        return _failed(error_sentence(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _failed("interrupted before there was anything to save", 130)
    except BrokenPipeError:  # the reader has closed the pipe; flushing the rest at exit would fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit:  # click exits so on a closed pipe, and for no other reason here
        return 0
    except OSError as error:
        return _failed(error_sentence(error), 1)


def main() -> None:
    """Run the command line of this process and exit."""
    wait_passively()  # before any command loads PyTorch
    sys.exit(run())


def _failed(message: str, code: int) -> int:
    click.echo(f"sttx: {message}", err=True)
    return code

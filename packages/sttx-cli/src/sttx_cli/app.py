"""The `sttx` command: which commands there are, and how every outcome becomes an exit code.

A command's module is imported only when the command runs, so that `sttx --help` answers at once.

Exit codes: 0 done, 1 something failed, 2 the command line must change, 3 a loop alarm, 130 interrupted before
there was anything to save; docs/cli.md has the rule. Expected failures are one sentence. A traceback is a bug
in sttx.
"""

import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any

import click

from sttx_cli.environment import wait_passively
from sttx_cli.failures import error_sentence
from sttx_cli.options import SuggestingGroup
from sttx_cli.output import SCREEN, guarded_output, say, warnings_as_notes
from sttx_cli.streams import ReaderLeft, open_closed_streams
from sttx_core.errors import SourceError, SttxError

COMMANDS = {
    "train": "Learn from a stream of traces, and keep what was learned.",
    "eval": "Measure what each part of the predictor is worth.",
    "score": "Price sessions, trace by trace.",
    "report": "Show what was new in sessions, on one page.",
    "next": "Show the likeliest next tool calls and shell commands.",
    "generate": "Generate text after a prompt, or answers in a chat.",
    "tune": "Tune a state on pairs, chats or texts.",
    "memory": "Test memories of many states.",
    "export": "Write what was learned as files of other programs.",
    "serve": "Serve a model to programs that speak OpenAI's API.",
    "service": "Follow sessions, learn and serve in the background.",
    "watch": "Watch live sessions, and warn of loops.",
    "inspect": "Explain a run, a checkpoint or a model.",
    "merge-stats": "Show the phrases that a run has found.",
    "plot": "Draw the curves of runs as PNG or SVG.",
    "validate-data": "Count what a source of traces holds.",
    "traces": "List the sessions of a source, or show one.",
    "compress": "Compress files and folders into an archive, without loss.",
    "decompress": "Restore the files of an archive, or those named NAME.",
    "list": "List the files in an archive.",
    "test": "Check that an archive is whole, by decoding all of it.",
    "info": "Measure information in texts, in bits by the predictor.",
    "data": "Pack data to pretrain on, or show what it holds.",
    "pretrain": "Train a base model on text, numbers or sessions.",
    "compress-model": "Store a model's weights in fewer bytes, and price them.",
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

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; for a pipe that breaks, click would end without a word.

        Raises:
            SourceError: A pipe broke that is not standard output: nobody needs to read that.
        """
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise SourceError("a program that sttx started has closed its pipe") from error

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
    """Run a command line and return its exit code; never exits.

    A reader who leaves, such as `head`, changes no exit code.
    """
    with guarded_output() as out:
        code = _outcome(arguments)
        try:
            out.flush()
        except OSError as error:
            return _failed(error_sentence(error), 1)
        return code


def main() -> None:
    """Run the command line of this process and exit."""
    open_closed_streams()
    wait_passively()  # before any command loads PyTorch
    try:
        code = run()
    except Exception:  # noqa: BLE001  a bug in sttx; Python itself would print the error's text raw
        with guarded_output():
            traceback.print_exc()
        code = 1
    sys.exit(code)


def _outcome(arguments: Sequence[str] | None) -> int:
    """Run a command line; put every expected failure into one sentence."""
    try:
        with warnings_as_notes():
            result = cli.main(arguments, prog_name="sttx", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except ReaderLeft:
        return 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except SttxError as error:
        return _failed(error_sentence(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _failed("interrupted before there was anything to save", 130)
    except SystemExit as ended:  # a shell asked for completions
        return int(ended.code or 0)
    except OSError as error:
        return _failed(error_sentence(error), 1)


def _failed(message: str, code: int) -> int:
    SCREEN.silent = False  # every process of a run says why it fails
    say(f"sttx: {message}")
    return code

"""The options of every command that reads traces: whether secrets are redacted, and by which rules."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from sttx_ccsniff.redact import Redactor, read_config
from sttx_cli.options import PathName
from sttx_cli.output import note, say
from sttx_core.errors import UsageError

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

OFF = (
    "redaction is off (--no-redact): keys, tokens, passwords, user names and e-mail addresses stay in the "
    "traces, and in everything made from them"
)


def redact_options(command: Decorated) -> Decorated:
    """Add `--no-redact` and `--redact-rules`, as `no_redact` and `redact_rules`."""
    for decorate in (
        click.option(
            "--redact-rules",
            type=PathName(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="A TOML file with your own redaction rules and exceptions.",
        ),
        click.option(
            "--no-redact",
            is_flag=True,
            help="Leave keys, tokens, passwords, user names and e-mail addresses in the traces.",
        ),
    ):
        command = decorate(command)
    return command


def chosen_redaction(no_redact: bool, redact_rules: Path | None) -> Redactor | bool:
    """Return what `open_source` takes as `redact`, and warn if nothing is redacted.

    Raises:
        UsageError: The rules are invalid, or would have no effect.
    """
    if no_redact and redact_rules is not None:
        raise UsageError("--redact-rules would have no effect with --no-redact: leave one of them out")
    if no_redact:
        say(f"warning: {OFF}")
        return False
    if redact_rules is None:
        return True
    return Redactor(read_config(redact_rules), say=note)


def redaction_of_sessions(
    sessions: Sequence[str], no_redact: bool, redact_rules: Path | None
) -> Redactor | bool:
    """Return the same for a command whose data may include sessions; nothing else is redacted.

    Raises:
        UsageError: An option was given but there are no sessions, or the rules are invalid.
    """
    if not sessions and (no_redact or redact_rules is not None):
        option = "--no-redact" if no_redact else "--redact-rules"
        raise UsageError(f"{option} would have no effect: there are no sessions in the data; leave it out")
    return chosen_redaction(no_redact, redact_rules) if sessions else True

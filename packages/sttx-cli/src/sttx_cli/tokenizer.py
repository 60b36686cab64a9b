"""The option that names a tokenizer, and what is used without it."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from sttx_cli.options import Name
from sttx_cli.output import say
from sttx_core.errors import UsageError
from sttx_core.tokenizers import AnyTokenizer

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

SPECS = (
    "bytes, integer:MAX (whole numbers from 0 to MAX), angle (0 to 359), trie:FILE (an RWKV vocabulary) or "
    "hf:FILE (a tokenizer.json)"
)


def tokenizer_option(default: str) -> Callable[[Decorated], Decorated]:
    """Add `--tokenizer` as `tokenizer`.

    Args:
        default: A sentence for the help: what is used if the option is not given.
    """
    return click.option(
        "--tokenizer", type=Name(), default=None, metavar="SPEC", help=f"One of {SPECS}. {default}"
    )


def chosen_tokenizer(
    spec: str | None, data: Iterable[Path] = (), talk: Callable[[str], None] = say
) -> AnyTokenizer:
    """Return the named tokenizer, or that of the model that comes with sttx, and say so.

    Args:
        spec: The tokenizer's spec; None if none was named.
        data: What it is for: numbers need a tokenizer that is named, which says what they are.
        talk: prints a message.

    Raises:
        UsageError: The spec does not name a tokenizer, or numbers come without one.
        DataError: Its file is not a vocabulary.
    """
    if spec is not None:
        from sttx_train import load_tokenizer

        return load_tokenizer(spec)
    from sttx_train.data import holds_numbers

    for path in data:
        if holds_numbers(path):
            raise UsageError(
                f"{str(path)!r} holds numbers: say what they are with --tokenizer, integer:MAX or angle for "
                "values, or the vocabulary whose ids they are"
            )
    from sttx_train import load_model  # PyTorch comes with it

    loaded = load_model()
    talk(f"tokenizer: that of {loaded.id}, none named")
    return loaded.tokenizer


def say_numbering(tokenizer: AnyTokenizer | None) -> None:
    """Say which id of a `tokenizer.json` stands for what."""
    if numbering := getattr(tokenizer, "numbering", None):
        say(f"tokenizer: {numbering}")

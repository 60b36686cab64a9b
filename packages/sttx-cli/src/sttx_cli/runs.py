"""How commands name a run: a path, or `--checkpoint PATH` as users of streamtts write it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sttx_cli.options import Name
from sttx_core.errors import UsageError

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_POINTER = "latest"


def checkpoint_option(command: Decorated) -> Decorated:
    """Add `--checkpoint` to a command."""
    return click.option(
        "--checkpoint",
        type=Name(),
        default=None,
        metavar="PATH",
        help="The folder of a run or of one checkpoint, or RUN/latest; another way to write the argument.",
    )(command)


def named_run(argument: str | None, checkpoint: str | None) -> str:
    """Return the one path that was named, either way; RUN/latest is RUN.

    Raises:
        UsageError: None or two were named.
    """
    if argument is not None and checkpoint is not None:
        raise UsageError(f"two paths are named, {argument!r} and --checkpoint {checkpoint!r}: give one")
    path = argument if checkpoint is None else checkpoint
    if path is None:
        raise UsageError("no path is named: give the folder of a run, or --checkpoint RUN/latest")
    return without_pointer(path)


def without_pointer(path: str) -> str:
    """Return the run's folder if a path names the pointer in it, RUN/latest; else the path itself."""
    pointer = Path(path)
    if pointer.name == _POINTER and pointer.is_file():
        return str(pointer.parent)
    return path

"""How commands name runs and models, and what is wrong with a name, found before anything is loaded.

A run is a path, given as an argument or as `--checkpoint PATH`.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sttx_cli.options import Name
from sttx_core.errors import UsageError

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_POINTER = "latest"
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def checkpoint_option(command: Decorated) -> Decorated:
    """Add `--checkpoint` to a command."""
    return click.option(
        "--checkpoint",
        type=Name(),
        default=None,
        metavar="PATH",
        help="The folder of a run or of one checkpoint, or RUN/latest; another way to write the argument.",
    )(command)


def named_run(argument: str | None, checkpoint: str | None, *, models: bool = False) -> str:
    """Return the one path that was named, either way; RUN/latest is RUN.

    Args:
        argument: The path as an argument.
        checkpoint: The path as `--checkpoint`.
        models: Whether a model may be named too; for the message.

    Raises:
        UsageError: None or two were named.
    """
    if argument is not None and checkpoint is not None:
        raise UsageError(f"two paths are named, {argument!r} and --checkpoint {checkpoint!r}: give one")
    path = argument if checkpoint is None else checkpoint
    if path is None:
        more = ", or a model: its folder, its file, or an id on the Hugging Face hub" if models else ""
        raise UsageError(f"no path is named: give the folder of a run, or --checkpoint RUN/latest{more}")
    return without_pointer(path)


def without_pointer(path: str) -> str:
    """Return the run's folder if a path names the pointer in it, RUN/latest; else the path itself."""
    pointer = Path(path)
    if pointer.name == _POINTER and pointer.is_file():
        return str(pointer.parent)
    return path


def may_be_model(spec: str, embedded: str) -> bool:
    """Whether a model may have this name: it is a path, an id of the hub, or the embedded model's name.

    >>> may_be_model("RWKV/RWKV7-Goose-World3-1.5B-HF", "goose-mini"), may_be_model("nobody", "goose-mini")
    (True, False)
    """
    return spec == embedded or Path(spec).exists() or _HUB_ID.fullmatch(spec) is not None


def check_model(spec: str | None, embedded: str) -> None:
    """Check that a model is there, unless it may be on the Hugging Face hub.

    Args:
        spec: A path, an id of the hub, or None for the embedded model.
        embedded: The name of the embedded model.

    Raises:
        UsageError: It is not.
    """
    if spec is None or may_be_model(spec, embedded):
        return
    raise UsageError(
        f"no model at {spec!r}: give a folder, a .pth or .safetensors file, an id on the Hugging Face hub, "
        f"or {embedded!r}"
    )

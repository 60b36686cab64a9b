"""How commands name runs and models, and what is wrong with a name, found before anything is loaded.

A run is a path, or `--checkpoint PATH` as users of streamtts write it.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sttx_cli.options import Name
from sttx_core.errors import CheckpointError, UsageError

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


def expect_run(folder: Path, *, resume: bool) -> None:
    """Check that a folder holds a run to resume, or none that a new run would overwrite.

    Raises:
        UsageError: It does not.
        CheckpointError: The folder cannot be read.
    """
    from sttx_train import CheckpointStore

    try:
        CheckpointStore(folder).expect(run=resume)
    except CheckpointError as error:
        if isinstance(error.__cause__, OSError):
            raise
        raise UsageError(str(error)) from error


def check_model(spec: str | None, embedded: str) -> None:
    """Check that a model is there, unless it may be on the Hugging Face hub.

    Args:
        spec: A path, an id of the hub, or None for the embedded model.
        embedded: The name of the embedded model.

    Raises:
        UsageError: It is not.
    """
    if spec is None or spec == embedded or Path(spec).exists() or _HUB_ID.fullmatch(spec):
        return
    raise UsageError(
        f"no model at {spec!r}: give a folder, a .pth or .safetensors file, an id on the Hugging Face hub, "
        f"or {embedded!r}"
    )

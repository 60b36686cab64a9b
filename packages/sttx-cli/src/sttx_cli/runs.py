"""How commands name runs and models, and what is wrong with a name, found before anything is loaded.

A run is a path, given as an argument or as `--checkpoint PATH`.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from sttx_cli.options import Name, PathName
from sttx_core.errors import UsageError
from sttx_train.devices import Device, DtypeName
from sttx_train.formats import EMBEDDED, STATE_SUFFIXES
from sttx_train.online import LearnerConfig
from sttx_train.wkv import BACKENDS

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_POINTER = "latest"
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*(?:(?:/\w[\w.-]*)+\.(?:pth|safetensors))?")


def checkpoint_option(command: Decorated) -> Decorated:
    """Add `--checkpoint` to a command."""
    return click.option(
        "--checkpoint",
        type=Name(),
        default=None,
        metavar="PATH",
        help="The folder of a run or of one checkpoint, or RUN/latest; another way to write the argument.",
    )(command)


def learned_options(verb: str) -> Callable[[Decorated], Decorated]:
    """Add `--checkpoint` and `--state` to a command that reads sessions with what was learned before.

    Args:
        verb: What the command does with it, for the help.
    """

    def decorate(command: Decorated) -> Decorated:
        command = click.option(
            "--state",
            type=PathName(path_type=Path, dir_okay=False),
            default=None,
            metavar="FILE",
            help=f"{verb} with a tuned state instead: a .safetensors, .pth or .st file.",
        )(command)
        return click.option(
            "--checkpoint",
            type=Name(),
            default=None,
            metavar="PATH",
            help=f"{verb} with what a run has learned: its folder, that of one checkpoint, or RUN/latest.",
        )(command)

    return decorate


def outer_options(command: Decorated) -> Decorated:
    """Add `--state-lr` and `--state-decay` to a command that reads without learning."""
    command = click.option(
        "--state-decay",
        type=float,
        default=None,
        help="Share of the offset that each outer step takes away; by default as the run did, or "
        f"{LearnerConfig.state_decay:g}.",
    )(command)
    return click.option(
        "--state-lr",
        type=float,
        default=None,
        help="Rate of the outer step: after each window the state of a session takes a step of gradient "
        "descent on what the window cost. 0: none; by default as the run did, or 0.",
    )(command)


def check_outer(rate: float | None, decay: float | None, *, learned: bool) -> dict[str, Any]:
    """Return the options of outer steps as a predictor takes them.

    Args:
        rate: Of the step.
        decay: Of the offset.
        learned: Whether something learned is named, which may say the rate.

    Raises:
        UsageError: One has no effect, or is out of range.
    """
    if decay is not None and (rate == 0 or (rate is None and not learned)):
        raise UsageError(
            "--state-decay would have no effect: there is no offset without --state-lr; leave it out"
        )
    given: dict[str, Any] = {"state_lr": rate, "state_decay": decay}
    LearnerConfig(**{name: value for name, value in given.items() if value is not None})
    return given


def model_option(command: Decorated) -> Decorated:
    """Add `--model` to a command."""
    return click.option(
        "--model",
        type=Name(),
        default=None,
        help="A folder, a .pth or .safetensors file, or an id on the Hugging Face hub, also with a file: "
        f"ORG/NAME/FILE.pth; by default {EMBEDDED}.",
    )(command)


def dtype_option(command: Decorated) -> Decorated:
    """Add `--dtype` to a command."""
    return click.option(
        "--dtype",
        type=click.Choice(get_args(DtypeName)),
        default="auto",
        show_default=True,
        help="Data type of the model's weights; auto takes float32 on a CPU, bfloat16 on a GPU.",
    )(command)


def device_options(command: Decorated) -> Decorated:
    """Add `--device` and `--dtype` to a command."""
    command = dtype_option(command)
    return click.option(
        "--device",
        type=click.Choice(get_args(Device)),
        default="auto",
        show_default=True,
        help="Where the model runs; auto takes a GPU if there is one.",
    )(command)


def log_option(command: Decorated) -> Decorated:
    """Add `--log` to a command."""
    return click.option(
        "--log",
        multiple=True,
        type=click.Choice(["tensorboard", "wandb"]),
        help="Where the metrics go, besides metrics.jsonl.",
    )(command)


def kernel_option(command: Decorated) -> Decorated:
    """Add `--kernel` to a command."""
    return click.option(
        "--kernel",
        type=click.Choice(BACKENDS),
        default="auto",
        show_default=True,
        help="How the recurrence is computed; auto takes the fastest kernel that runs on the device.",
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


def named_learned(checkpoint: str | None, state: Path | None) -> str | None:
    """Return the one path of what was learned, a run or a tuned state, checked before a model is loaded.

    Args:
        checkpoint: The path as `--checkpoint`.
        state: The path as `--state`.

    Raises:
        UsageError: Two are named, one does not exist, or the state is not a tuned state's file.
        CheckpointError: There is no checkpoint in the folder, or it is damaged.
    """
    if checkpoint is not None and state is not None:
        raise UsageError("both --checkpoint and --state are given: there is one state to use; give one")
    if state is not None:
        return str(named_state(state))
    if checkpoint is None:
        return None
    from sttx_train.run_folder import load_checkpoint

    load_checkpoint(path := without_pointer(checkpoint))
    return path


def named_state(state: Path) -> Path:
    """Return the path of `--state`, if a tuned state may be there.

    Raises:
        UsageError: It does not exist, or has another suffix.
    """
    if state.suffix not in STATE_SUFFIXES:
        *others, last = map(repr, STATE_SUFFIXES)
        raise UsageError(
            f"--state {str(state)!r} must end in {', '.join(others)} or {last}, as tuned states do"
        )
    if not state.exists():
        raise UsageError(f"no tuned state at {str(state)!r}: give the file of one")
    return state


def may_be_model(spec: str, embedded: str) -> bool:
    """Whether a model may have this name: it is a path, an id of the hub, or the embedded model's name.

    >>> may_be_model("RWKV/RWKV7-Goose-World3-1.5B-HF", "goose-mini"), may_be_model("nobody", "goose-mini")
    (True, False)
    >>> may_be_model("RWKV/Goose/a.pth", "goose-mini"), may_be_model("RWKV/Goose/a.txt", "goose-mini")
    (True, False)
    """
    return spec == embedded or Path(spec).exists() or _HUB_ID.fullmatch(spec) is not None


def check_model(spec: str | None, embedded: str) -> None:
    """Check that a model is there and runs here, before PyTorch is imported; one of the hub is not there yet.

    Args:
        spec: A path, an id of the hub, or None for the embedded model.
        embedded: The name of the embedded model.

    Raises:
        UsageError: It is not there.
        ModelError: It does not run here.
    """
    require_model_name(spec, embedded)
    if spec is not None and spec != embedded and Path(spec).exists():
        from sttx_train.inspect import require_runs

        require_runs(spec)


def require_model_name(spec: str | None, embedded: str) -> None:
    """Raise `UsageError` if no model can have this name; None is the embedded model's."""
    if spec is not None and not may_be_model(spec, embedded):
        raise UsageError(
            f"no model at {spec!r}: give a folder, a .pth or .safetensors file, an id on the Hugging Face "
            f"hub, or {embedded!r}"
        )

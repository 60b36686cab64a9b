"""The kinds of exports: what each holds, and where it may be written. Loads no torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, get_args

from sttx_core.errors import UsageError

StateKind = Literal["state-pth", "state-st"]
ModelKind = Literal["huggingface", "blinkdl", "gguf"]
Kind = Literal["state-pth", "state-st", "llama-slot", "huggingface", "blinkdl", "gguf"]
ExportDtype = Literal["float32", "bfloat16", "float16", "q8_0"]
STATE_KINDS: tuple[StateKind, ...] = get_args(StateKind)
MODEL_KINDS: tuple[ModelKind, ...] = get_args(ModelKind)
KINDS: tuple[Kind, ...] = get_args(Kind)
DTYPES: tuple[ExportDtype, ...] = get_args(ExportDtype)

_SUFFIXES: dict[str, str] = {"state-pth": ".pth", "state-st": ".st", "blinkdl": ".pth", "gguf": ".gguf"}
"""The suffix of each kind that is a file: other programs look for it."""
_DTYPES: dict[ModelKind, tuple[ExportDtype, ...]] = {
    "huggingface": ("bfloat16", "float32", "float16"),
    "blinkdl": ("bfloat16", "float32", "float16"),
    "gguf": ("float16", "float32", "q8_0"),
}
"""The data types of each kind of model, the usual one first."""


def model_kind(kind: Kind) -> ModelKind | None:
    """Return a kind as one of models; None if it is one of states."""
    known: ModelKind | None = next((one for one in MODEL_KINDS if one == kind), None)
    return known


def state_kind(kind: Kind) -> StateKind | None:
    """Return a kind as one of files of states; None if it is another."""
    known: StateKind | None = next((one for one in STATE_KINDS if one == kind), None)
    return known


def suffix_of(kind: Kind) -> str:
    """Return how the file of an export must end; empty if that does not matter."""
    return _SUFFIXES.get(kind, "")


def vocabulary_prefix(path: Path) -> str:
    """Return how the names of the vocabulary's files begin, beside the file of a model."""
    return f"{path.stem}."


def check_out(kind: Kind, out: str | os.PathLike[str]) -> None:
    """Check, before any work, the name of an export, and that no file of it is there.

    Args:
        kind: of the export.
        out: where it goes.

    Raises:
        UsageError: the name has another suffix, or one of its files is there already.
    """
    path, suffix = Path(out), suffix_of(kind)
    if suffix and path.suffix != suffix:
        raise UsageError(f"--out {str(path)!r} must end in {suffix!r}: programs look for {kind} by it")
    beside = [path.name + ".json"] if kind == "state-pth" else []
    if kind == "blinkdl":
        from sttx_train.formats.vocabulary import FILES  # not above: help must not load tokenizers

        beside = [vocabulary_prefix(path) + name for name in FILES]
    for one in (path, *map(path.with_name, beside)):
        if os.path.lexists(one):
            raise UsageError(f"{str(one)!r} exists already: give another --out, or remove it")


def chosen_dtype(kind: ModelKind, asked: ExportDtype | None, *, learned: bool = False) -> ExportDtype:
    """Return the data type of a model's matrices: the one that was asked for, or the usual one.

    For weights that a run has learned the usual one is float32: the others may round what was learned away.

    Args:
        kind: of the export.
        asked: the type that was asked for.
        learned: whether the weights are those of a run.

    Raises:
        UsageError: the kind does not have it.

    >>> chosen_dtype("gguf", None), chosen_dtype("gguf", None, learned=True)
    ('float16', 'float32')
    """
    allowed = _DTYPES[kind]
    if asked is not None and asked not in allowed:
        raise UsageError(f"--dtype {asked} is none of {kind}: choose among {', '.join(allowed)}")
    return asked or ("float32" if learned else allowed[0])

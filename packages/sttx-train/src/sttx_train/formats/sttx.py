"""Our own model folder: `config.json`, `model.safetensors`, a vocabulary, a hypernetwork if it has one.

The tensors carry the model's own names and shapes. ``config.json`` says ``"format": "sttx"``, a version, and
the model's sizes, which are held against the tensors on reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sttx_core.errors import ModelError, UsageError
from sttx_core.hypernet import HyperNetwork
from sttx_train.rwkv7.config import RWKV7Config

FORMAT = "sttx"
VERSION = 1
HYPERNET = "hypernet.safetensors"
"""File of a model folder with the hypernetwork that was trained with the model, if one was."""

_RANK = "input.0.weight"  # its first dimension is the inner width


def config_dict(config: RWKV7Config, hypernet: bool = False) -> dict[str, Any]:
    """Return the ``config.json`` of a model folder, which names its hypernetwork if it has one."""
    told = {"format": FORMAT, "version": VERSION, "architecture": "rwkv7", "model": config.to_dict()}
    return told | ({"hypernet": HYPERNET} if hypernet else {})


def hypernet_file(saved: Mapping[str, Any], folder: Path) -> Path | None:
    """Return the file of the hypernetwork that ``config.json`` names.

    Raises:
        ModelError: one is named and not there, or there and not named.
    """
    named, path = saved.get("hypernet"), folder / HYPERNET
    if named not in (None, HYPERNET):
        raise ModelError(f"config.json of {str(folder)!r} names the hypernetwork {named!r}, not {HYPERNET!r}")
    if path.is_file() != (named is not None):
        told = (
            "lacks {!r}, which its config.json names"
            if named
            else "has {!r}, which its config.json does not name"
        )
        raise ModelError(f"{str(folder)!r} {told.format(HYPERNET)}: save or fetch the model again")
    return path if named else None


def build_hypernet(tensors: Mapping[str, Tensor], width: int, source: str) -> HyperNetwork:
    """Make the hypernetwork that tensors belong to.

    Raises:
        ModelError: they are no hypernetwork of a model of this width.
    """
    rank = tensors[_RANK].shape[0] if _RANK in tensors and tensors[_RANK].ndim else 0
    made = HyperNetwork(width, rank=rank)
    told, seen = (
        {name: tuple(tensor.shape) for name, tensor in one.items()} for one in (made.state_dict(), tensors)
    )
    if told != seen:
        other = min(name for name in told.keys() | seen.keys() if told.get(name) != seen.get(name))
        raise ModelError(
            f"the hypernetwork of {source!r} has {other!r} of shape {seen.get(other)!r}, "
            f"not {told.get(other)!r}: it belongs to another model"
        )
    made.load_state_dict(tensors)
    return made


def read_config(saved: Mapping[str, Any], found: RWKV7Config, source: str) -> RWKV7Config:
    """Read back :func:`config_dict`, and hold it against the sizes found in the tensors.

    Raises:
        ModelError: a newer version, damaged, or of another model than the tensors.
    """
    if saved.get("version") != VERSION:
        raise ModelError(
            f"{source!r} has format version {saved.get('version')!r}, this sttx reads {VERSION}: upgrade sttx"
        )
    try:
        config = RWKV7Config(**saved["model"])
    except (KeyError, TypeError, UsageError) as error:
        raise ModelError(f"config.json of {source!r} is damaged ({error}): fetch it again") from error
    told, seen = config.to_dict(), found.to_dict()
    for name in told.keys() - {"layer_norm_eps", *(["v_rank"] if config.num_layers == 1 else [])}:
        if told[name] != seen[name]:
            raise ModelError(
                f"config.json of {source!r} says {name} = {told[name]!r}, but the tensors have {seen[name]!r}"
            )
    return config

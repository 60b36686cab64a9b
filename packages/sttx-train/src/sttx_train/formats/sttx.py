"""Our own model folder: `config.json`, `model.safetensors`, a vocabulary, and a hypernetwork if there is one.

The tensors have the model's own names and shapes. ``config.json`` has ``"format": "sttx"``, a version, and
the model's sizes, which are checked against the tensors on reading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sttx_core.errors import ModelError, UsageError
from sttx_core.foreign_files import shown
from sttx_train.architectures import architecture_of, config_from
from sttx_train.formats.detect import MOST_LAYERS
from sttx_train.formats.tensorfiles import has_file
from sttx_train.rwkv7.config import ModelConfig, RWKV7Config

if TYPE_CHECKING:
    from torch import Tensor

    from sttx_core.hypernet import HyperNetwork

FORMAT = "sttx"
VERSION = 1
STORED = 2
"""The version of a folder whose ``config.json`` names forms of matrices; earlier programs refuse it."""
INNER = 3
"""The version of a folder whose model takes inner steps; earlier programs refuse it."""
HYPERNET = "hypernet.safetensors"
"""The file of the hypernetwork that was trained with the model, if there is one."""

_NAMES = {"x070": "rwkv7", "x060": "rwkv6", "x052": "rwkv5"}
_RANK = "input.0.weight"  # its first dimension is the inner width


def config_dict(config: ModelConfig, hypernet: bool = False) -> dict[str, Any]:
    """Return the ``config.json`` of a model folder; it names the hypernetwork if there is one."""
    content = {
        "format": FORMAT,
        "version": _version_of(config),
        "architecture": _NAMES[architecture_of(config)],
        "model": config.to_dict(),
    }
    return content | ({"hypernet": HYPERNET} if hypernet else {})


def _version_of(config: ModelConfig) -> int:
    if not isinstance(config, RWKV7Config):
        return VERSION
    return INNER if config.inner_steps else STORED if config.forms else VERSION


def hypernet_file(saved: Mapping[str, Any], folder: Path) -> Path | None:
    """Return the file of the hypernetwork that ``config.json`` names.

    Raises:
        ModelError: a hypernetwork is named but missing, or present but not named.
    """
    named, path = saved.get("hypernet"), folder / HYPERNET
    if named not in (None, HYPERNET):
        raise ModelError(
            f"config.json of {str(folder)!r} names the hypernetwork {shown(named)}, not {HYPERNET!r}"
        )
    if has_file(path) != (named is not None):
        problem = (
            f"lacks {HYPERNET!r}, which its config.json names"
            if named
            else f"has {HYPERNET!r}, which its config.json does not name"
        )
        raise ModelError(f"{str(folder)!r} {problem}: save or download the model again")
    return path if named else None


def build_hypernet(tensors: Mapping[str, Tensor], width: int, source: str) -> HyperNetwork:
    """Return the hypernetwork with these tensors.

    Raises:
        ModelError: they are not the hypernetwork of a model of this width.
    """
    from sttx_core.hypernet import HyperNetwork

    check_hypernet({name: tensor.shape for name, tensor in tensors.items()}, width, source)
    hypernet = HyperNetwork(width, rank=tensors[_RANK].shape[0])
    hypernet.load_state_dict(tensors)
    return hypernet


def check_hypernet(shapes: Mapping[str, Sequence[int]], width: int, source: str) -> None:
    """Check that tensors of these shapes are the hypernetwork of a model of this width.

    Raises:
        ModelError: they are not.
    """
    rank = next(iter(shapes.get(_RANK, ())), 0) or max(16, width // 4)  # by default a quarter of the width
    layers = {"0.weight": (rank, 2 * width), "2.weight": (width, rank)}
    expected = {f"{side}.{name}": shape for side in ("input", "output") for name, shape in layers.items()}
    actual = {name: tuple(shape) for name, shape in shapes.items()}
    if expected != actual:
        wrong = min(n for n in expected.keys() | actual.keys() if expected.get(n) != actual.get(n))
        raise ModelError(
            f"the hypernetwork of {source!r} has {shown(wrong)} of shape {shown(actual.get(wrong))}, "
            f"not {expected.get(wrong)!r}: it belongs to another model"
        )


def read_stored_config(saved: Mapping[str, Any], source: str) -> RWKV7Config | None:
    """Read the sizes of a ``config.json`` that names forms of matrices or inner steps; None if it names none.

    They cannot be detected in the tensors, so the caller checks every tensor against them.

    Raises:
        ModelError: the file has another version, or is damaged.
    """
    given = saved.get("model")
    if not isinstance(given, dict) or not {"forms", "inner_steps"} & given.keys():
        return None
    what, version = ("inner steps", INNER) if "inner_steps" in given else ("forms", STORED)
    if saved.get("version") != version:
        raise ModelError(
            f"{source!r} has format version {shown(saved.get('version'))}, and its {what} need {version}: "
            "update sttx, or download it again"
        )
    if unknown := sorted(given.keys() - {field.name for field in fields(RWKV7Config)} - {"architecture"}):
        raise ModelError(
            f"config.json of {source!r} is damaged, its 'model' has an unknown {shown(unknown[0])}: "
            "download it again"
        )
    layers = given.get("num_layers")
    if not isinstance(layers, int) or layers > MOST_LAYERS:
        raise ModelError(f"config.json of {source!r} says num_layers = {shown(layers)}: download it again")
    config = _config_of(given, source)
    if not isinstance(config, RWKV7Config) or not (config.forms or config.inner_steps):
        raise ModelError(f"config.json of {source!r} names {what} that no model has: download it again")
    return config


def _config_of(given: Mapping[str, Any], source: str) -> ModelConfig:
    try:
        return config_from(given)
    except (TypeError, UsageError) as error:  # a TypeError names what is missing
        raise ModelError(f"config.json of {source!r} is damaged ({error}): download it again") from error


def read_config(saved: Mapping[str, Any], detected: ModelConfig, source: str) -> ModelConfig:
    """Read the sizes of a ``config.json`` and check them against those detected in the tensors.

    Raises:
        ModelError: the file has another version, is damaged, or belongs to another model.
    """
    version = saved.get("version")
    if version != VERSION:
        raise ModelError(
            f"{source!r} has format version {shown(version)}, this sttx reads {VERSION}: update sttx"
        )
    sizes, given = detected.to_dict(), saved.get("model")
    damaged = f"config.json of {source!r} is damaged"
    if not isinstance(given, dict):
        raise ModelError(f"{damaged}, its 'model' is {shown(given)}: download it again")
    if unknown := sorted(given.keys() - sizes.keys()):
        raise ModelError(f"{damaged}, its 'model' has an unknown {shown(unknown[0])}: download it again")
    config = _config_of(given, source)
    saved_sizes = config.to_dict()
    unseen = {"layer_norm_eps", "head_norm_eps", *(["v_rank"] if config.num_layers == 1 else [])}
    for name in saved_sizes.keys() - unseen:
        if saved_sizes[name] != sizes.get(name):
            raise ModelError(
                f"config.json of {source!r} says {name} = {shown(saved_sizes[name])}, "
                f"but the tensors have {sizes.get(name)!r}"
            )
    return config

"""Our own model folder: ``config.json``, ``model.safetensors``, a vocabulary. Knows no other format.

The tensors carry the model's own names and shapes. ``config.json`` says ``"format": "sttx"``, a version, and
the model's sizes, which are held against the tensors on reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sttx_core.errors import ModelError, UsageError
from sttx_train.rwkv7.config import RWKV7Config

FORMAT = "sttx"
VERSION = 1


def config_dict(config: RWKV7Config) -> dict[str, Any]:
    """Return the ``config.json`` of a model folder."""
    return {"format": FORMAT, "version": VERSION, "architecture": "rwkv7", "model": config.to_dict()}


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

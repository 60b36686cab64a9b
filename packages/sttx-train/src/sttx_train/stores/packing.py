"""Tensors and JSON as the bytes of an entry: a line of JSON, then safetensors. Nothing is ever unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sttx_core.errors import CheckpointError
from sttx_core.foreign_files import parse_json

if TYPE_CHECKING:
    from torch import Tensor


def pack(meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
    """Return both as bytes; the tensors may be views, on any device."""
    import torch
    from safetensors.torch import save

    plain = {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    return json.dumps(dict(meta), allow_nan=False).encode() + b"\n" + save(plain)


def unpack(data: bytes, what: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return what `pack` was given; each tensor has memory of its own, aligned as torch does it.

    Args:
        data: the bytes.
        what: its name in a message.

    Raises:
        CheckpointError: they are something else.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    line, _, rest = data.partition(b"\n")
    try:
        meta = parse_json(line)
        if not isinstance(meta, dict):
            raise ValueError("it does not start with a JSON object")
        tensors = load(rest)
    except (ValueError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"{what} is damaged, or of another version of sttx: {error}") from error
    return meta, {
        name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }

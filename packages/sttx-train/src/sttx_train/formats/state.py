"""Tuned initial states on disk: ours as ``.safetensors``, and the ``.pth`` that RWKV programs read.

Both hold ``S0[layer, head, value, key]`` in float32. A ``.pth`` has exactly ``blocks.{i}.att.time_state``
``[H, N, N]`` for each layer, because programs reject other entries; its metadata goes into ``X.pth.json``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sttx_core.errors import ModelError, UsageError
from sttx_core.foreign_files import shown
from sttx_train.files import replacing_file
from sttx_train.formats.pth import read_pth, read_pth_infos, write_pth
from sttx_train.formats.tensorfiles import (
    has_file,
    is_safetensors,
    read_infos,
    read_json,
    read_metadata,
    read_tensors,
    write_tensors,
)
from sttx_train.formats.weights import check_numbers
from sttx_train.rwkv7.config import RWKV7Config

if TYPE_CHECKING:
    from torch import Tensor

_ENTRY = re.compile(r"blocks\.(\d+)\.att\.time_state")


@dataclass(frozen=True, kw_only=True)
class TunedState:
    """A learned initial state and its metadata.

    Attributes:
        s0: ``[L, H, N, N]`` float32, ``[value, key]``.
        metadata: strings saved with it, such as the name of its model.
    """

    s0: Tensor
    metadata: dict[str, str] = field(default_factory=dict)


def save_state(
    s0: Tensor, path: str | os.PathLike[str], *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a tuned state atomically, in the format of the suffix: ``.safetensors`` or ``.pth``.

    Args:
        s0: ``[L, H, N, N]``, ``[value, key]``; written as float32.
        path: the file to write.
        metadata: strings to save with it.

    Raises:
        UsageError: the suffix or the shape is another one.
    """
    import torch

    path = Path(path)
    if s0.ndim != 4 or s0.shape[-1] != s0.shape[-2]:
        raise UsageError(f"a tuned state is [layers, heads, N, N], not {list(s0.shape)}")
    s0 = s0.detach().to("cpu", torch.float32)
    metadata = dict(metadata or {})
    if path.suffix == ".safetensors":
        with replacing_file(path) as aside:
            write_tensors({"s0": s0}, aside, metadata)
    elif path.suffix == ".pth":
        write_pth({f"blocks.{i}.att.time_state": layer.clone() for i, layer in enumerate(s0)}, path)
        if metadata:
            with replacing_file(_sidecar(path)) as aside:
                aside.write_text(json.dumps(metadata, indent=2, sort_keys=True) + "\n")
    else:
        raise UsageError(f"{str(path)!r} must end in '.safetensors' or '.pth'")


def load_state(path: str | os.PathLike[str], *, config: RWKV7Config | None = None) -> TunedState:
    """Read a tuned state in either format, detected by the file's content.

    Args:
        path: the file.
        config: the model it is for; its sizes must match the state's shape.

    Raises:
        ModelError: the file is unreadable, damaged, not a tuned state, or of another model's shape.
    """
    path = Path(path)
    state = _read_safetensors(path) if is_safetensors(path) else _read_pth(path)
    shape = list(state.s0.shape)
    if len(shape) != 4 or shape[-1] != shape[-2]:
        raise ModelError(
            f"{str(path)!r} is not a tuned state: its shape is {shape}, not [layers, heads, N, N]"
        )
    if config is not None:
        expected = [config.num_layers, config.num_heads, config.head_size, config.head_size]
        if shape != expected:
            raise ModelError(
                f"{str(path)!r} is a state of shape {shape}, for another model: this one needs {expected}"
            )
    return state


def _read_safetensors(path: Path) -> TunedState:
    import torch

    check_numbers(read_infos(path), str(path))
    tensors = read_tensors(path)
    if set(tensors) != {"s0"}:
        raise ModelError(
            f"{str(path)!r} is not a tuned state of sttx: it holds {shown(sorted(tensors)[:3])}, not 's0'"
        )
    return TunedState(s0=tensors["s0"].to(torch.float32, copy=True), metadata=read_metadata(path))


def _read_pth(path: Path) -> TunedState:
    import torch

    check_numbers(read_pth_infos(path).tensors, str(path))
    tensors = read_pth(path).tensors
    expected = [f"blocks.{i}.att.time_state" for i in range(len(tensors))]
    if foreign := [name for name in tensors if not _ENTRY.fullmatch(name)]:
        raise ModelError(
            f"{str(path)!r} is not a tuned state: it has an entry {shown(foreign[0])} (is it a model?)"
        )
    if not tensors or set(tensors) != set(expected):
        raise ModelError(
            f"{str(path)!r} does not hold the states of layers 0 to {len(tensors) - 1}: it is incomplete"
        )
    shapes = {tuple(tensor.shape) for tensor in tensors.values()}
    if len(shapes) > 1:
        raise ModelError(f"{str(path)!r} mixes states of shapes {sorted(shapes)}")
    s0 = torch.stack([tensors[name].to(torch.float32) for name in expected])
    return TunedState(s0=s0, metadata=read_sidecar(path))


def read_sidecar(path: Path) -> dict[str, str]:
    """Read the metadata of a ``.pth`` from ``X.pth.json``; empty if there is no such file.

    Raises:
        ModelError: the file is damaged.
    """
    beside = _sidecar(path)
    return {str(k): str(v) for k, v in read_json(beside).items()} if has_file(beside) else {}


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".json")

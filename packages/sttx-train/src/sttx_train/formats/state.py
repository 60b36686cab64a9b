"""Tuned initial states on disk: ours as ``.safetensors``, and the ``.pth`` and ``.st`` of RWKV programs.

Ours is one tensor ``s0[layer, head, value, key]`` in float32. A ``.pth`` has exactly
``blocks.{i}.att.time_state [H, value, key]`` in float32 for each layer, because programs reject other
entries; its metadata goes into ``X.pth.json``. A ``.st``, which web-rwkv programs read, is a safetensors file
with the same names, in float16, and with the last two dimensions swapped: ``[H, key, value]``. The matrices
are square, so a wrong orientation shows only in the values.
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
from sttx_core.own_files import replacing_file
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
from sttx_train.rwkv7.config import ModelConfig

if TYPE_CHECKING:
    from torch import Tensor

INJECT = "inject"
"""Metadata: where the state was added while it was learned, ``every`` window or a document's ``start``."""
WINDOW = "window"
"""Metadata: base tokens of a window, where the state was added at every one."""
OPENING = "opening"
"""Metadata: what was read first, the end-of-text token (``eot``) or the ``text`` itself."""
MODEL_SHA256, VOCABULARY_SHA256 = "model_sha256", "vocabulary_sha256"
"""Metadata: the model's weight files and its vocabulary."""

_ENTRY = re.compile(r"blocks\.(\d+)\.att\.time_state")
_LARGEST_HALF = 65504.0
_AGAIN = "export it again, or copy it again from where it was"


@dataclass(frozen=True, kw_only=True)
class TunedState:
    """A learned initial state and its metadata.

    Attributes:
        s0: ``[L, H, N, N]`` float32, ``[value, key]``.
        metadata: strings saved with it, such as the name of its model.
    """

    s0: Tensor
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def inject(self) -> str:
        """Where it was added while it was learned; ``start`` if the file does not say."""
        return self.metadata.get(INJECT, "start")


def origin(
    *,
    model: str,
    model_sha256: str,
    vocabulary_sha256: str,
    inject: str,
    learned_by: str,
    steps: int,
    window: int | None = None,
) -> dict[str, str]:
    """Return the metadata of a state that says where it comes from.

    Args:
        model: name of the model.
        model_sha256: hash of its weight files.
        vocabulary_sha256: hash of its vocabulary.
        inject: where it was added, at ``every`` window or at a document's ``start``.
        learned_by: the command.
        steps: number of steps that it learned in.
        window: base tokens of a window, where it was added at every one.
    """
    metadata = {
        "model": model,
        MODEL_SHA256: model_sha256,
        VOCABULARY_SHA256: vocabulary_sha256,
        INJECT: inject,
        "learned_by": learned_by,
        "steps": str(steps),
    }
    return metadata | ({} if window is None else {WINDOW: str(window)})


def save_state(
    s0: Tensor, path: str | os.PathLike[str], *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a tuned state atomically, in the format of the suffix: ``.safetensors``, ``.pth`` or ``.st``.

    Args:
        s0: ``[L, H, N, N]``, ``[value, key]``; written as float32, in a ``.st`` as float16.
        path: the file to write.
        metadata: strings to save with it.

    Raises:
        UsageError: the suffix or the shape is another one, or a value is too large for float16.
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
    elif path.suffix == ".st":
        _write_swapped(s0, path, metadata)
    elif path.suffix == ".pth":
        write_pth({_name(i): layer.clone() for i, layer in enumerate(s0)}, path)
        if metadata:
            with replacing_file(sidecar(path)) as aside:
                aside.write_text(json.dumps(metadata, indent=2, sort_keys=True) + "\n")
    else:
        raise UsageError(f"{str(path)!r} must end in '.safetensors', '.pth' or '.st'")


def _write_swapped(s0: Tensor, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a ``.st``: ``[key, value]`` in float16.

    Raises:
        UsageError: a value is too large for float16.
    """
    import torch

    if not float(s0.abs().max()) <= _LARGEST_HALF:
        raise UsageError(f"the state has a value beyond ±{_LARGEST_HALF:.0f}, which float16 cannot hold")
    halves = s0.transpose(-1, -2).to(torch.float16)
    with replacing_file(path) as aside:
        write_tensors({_name(i): layer.clone() for i, layer in enumerate(halves)}, aside, metadata)


def _name(layer: int) -> str:
    return f"blocks.{layer}.att.time_state"


def load_state(path: str | os.PathLike[str], *, config: ModelConfig | None = None) -> TunedState:
    """Read a tuned state in any of the three formats, detected by the file's content.

    Args:
        path: the file.
        config: the model it is for; its sizes must match the state's shape.

    Raises:
        ModelError: the file is unreadable, damaged, not a tuned state, or of another model's shape.
    """
    path = Path(path)
    try:
        state = _read_safetensors(path) if is_safetensors(path) else _read_pth(path)
    except ModelError as error:  # models are downloaded, but states are mostly one's own
        said = str(error).removesuffix("download it again")
        raise (error if said == str(error) else ModelError(f"{said}{_AGAIN}")) from error
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
    tensors, metadata = read_tensors(path), read_metadata(path)
    if set(tensors) == {"s0"}:
        return TunedState(s0=tensors["s0"].to(torch.float32, copy=True), metadata=metadata)
    if not any(_ENTRY.fullmatch(name) for name in tensors):
        raise ModelError(
            f"{str(path)!r} is not a tuned state: it holds {shown(sorted(tensors)[:3])}, neither 's0' nor "
            "'blocks.0.att.time_state'"
        )
    s0 = _stacked(tensors, path)
    return TunedState(s0=s0.mT.contiguous() if s0.ndim == 4 else s0, metadata=metadata)


def _read_pth(path: Path) -> TunedState:
    check_numbers(read_pth_infos(path).tensors, str(path))
    return TunedState(s0=_stacked(read_pth(path).tensors, path), metadata=read_sidecar(path))


def _stacked(tensors: Mapping[str, Tensor], path: Path) -> Tensor:
    """Return the entries of all layers as one tensor in float32, as they are oriented in the file."""
    import torch

    expected = [_name(i) for i in range(len(tensors))]
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
    return torch.stack([tensors[name].to(torch.float32) for name in expected])


def read_sidecar(path: Path) -> dict[str, str]:
    """Read the metadata of a ``.pth`` from ``X.pth.json``; empty if there is no such file.

    Raises:
        ModelError: the file is damaged.
    """
    beside = sidecar(path)
    return {str(k): str(v) for k, v in read_json(beside).items()} if has_file(beside) else {}


def sidecar(path: Path) -> Path:
    """Return where the metadata of a ``.pth`` is."""
    return path.with_name(path.name + ".json")

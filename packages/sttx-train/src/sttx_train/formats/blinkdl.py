"""BlinkDL's names and shapes, those of published ``.pth`` files. Knows no other format and no files.

The model uses the same names, with two differences: the file stores vectors as ``[1, 1, D]``, and layer 0 of
RWKV-7 may have ``v0 v1 v2``, which nothing uses. They are dropped on reading, and written as copies of
``a0 a1 a2`` because other programs require them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sttx_train.formats.tensorinfo import AnyTensor

if TYPE_CHECKING:
    from torch import Tensor

VECTORS = frozenset(
    (
        *("x_r", "x_w", "x_k", "x_v", "x_a", "x_g", "w0", "a0", "v0", "k_k", "k_a"),
        *(f"time_maa_{name}" for name in "xwkvrg"),
        *(f"time_mix_{name}" for name in "kvrg"),
    )
)
_DECAY = "time_decay"  # a vector in RWKV-6, a matrix [H, N] in RWKV-5.2
_UNUSED = tuple(f"blocks.0.att.v{i}" for i in range(3))


def to_model(tensors: Mapping[str, AnyTensor]) -> dict[str, AnyTensor]:
    """Turn a file's tensors into the model's."""
    return {
        name: _flat(tensor) if _is_vector(name, len(tensor.shape), 3) else tensor
        for name, tensor in tensors.items()
        if name not in _UNUSED
    }


def to_pth(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn the model's tensors into a file's: the inverse of :func:`to_model`."""
    named = {
        name: tensor.view(1, 1, -1) if _is_vector(name, tensor.ndim, 1) else tensor
        for name, tensor in tensors.items()
    }
    for i, unused in enumerate(_UNUSED if "blocks.0.att.a0" in named else ()):
        named[unused] = named[f"blocks.0.att.a{i}"].clone()
    return named


def _is_vector(name: str, dimensions: int, of_decay: int) -> bool:
    """Return whether a tensor is stored as ``[1, 1, D]``; a decay is if it has ``of_decay`` dimensions."""
    last = name.rsplit(".", 1)[-1]
    return last in VECTORS or (last == _DECAY and dimensions == of_decay)


def _flat(tensor: AnyTensor) -> AnyTensor:
    return tensor.flatten() if set(tensor.shape[:-1]) == {1} else tensor

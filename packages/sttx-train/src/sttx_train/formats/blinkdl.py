"""BlinkDL's ``.pth``: the published names and shapes, and the file itself. Knows no other format.

The model uses the same names, with two differences: the file stores vectors as ``[1, 1, D]``, and layer 0 may
have ``v0 v1 v2``, which nothing uses. They are dropped on reading, and written as copies of ``a0 a1 a2``
because other programs require them.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from sttx_core.errors import ModelError
from sttx_core.os_errors import explain
from sttx_train.files import replacing_file
from sttx_train.formats.tensorinfo import AnyTensor

if TYPE_CHECKING:
    from torch import Tensor

VECTORS = frozenset(("x_r", "x_w", "x_k", "x_v", "x_a", "x_g", "w0", "a0", "v0", "k_k", "k_a"))
# A zip archive, as torch writes today, and a pickle, as it wrote before 1.6.
_SIGNATURES = (b"PK", b"\x80")
_UNUSED = tuple(f"blocks.0.att.v{i}" for i in range(3))


def to_model(tensors: Mapping[str, AnyTensor]) -> dict[str, AnyTensor]:
    """Turn a file's tensors into the model's."""
    return {
        name: _flat(tensor) if name.rsplit(".", 1)[-1] in VECTORS else tensor
        for name, tensor in tensors.items()
        if name not in _UNUSED
    }


def to_pth(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn the model's tensors into a file's: the inverse of :func:`to_model`."""
    named = {
        name: tensor.view(1, 1, -1) if name.rsplit(".", 1)[-1] in VECTORS else tensor
        for name, tensor in tensors.items()
    }
    for i, unused in enumerate(_UNUSED):
        named[unused] = named[f"blocks.0.att.a{i}"].clone()
    return named


def read_pth(path: Path) -> dict[str, Tensor]:
    """Read a ``.pth`` of tensors, mapped into memory if its layout allows. No pickled code is run.

    Raises:
        ModelError: the file is unreadable, damaged, or not a flat dictionary of tensors.
    """
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about old pickle protocols
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except OSError as error:
        raise ModelError(f"cannot read {str(path)!r}: {explain(error)}") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise ModelError(f"{str(path)!r} {_why_unread(path)}: download it again") from error
    if not isinstance(loaded, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in loaded.items()
    ):
        raise ModelError(f"{str(path)!r} is not a dictionary of tensors, as RWKV's .pth files are")
    return cast("dict[str, Tensor]", loaded)


def write_pth(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as a ``.pth``, atomically."""
    import torch

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # Pass torch an open file: given a path, it would write the file's name into the file.
    with replacing_file(path) as aside, aside.open("wb") as file:
        torch.save(plain, file)


def _why_unread(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(8)
    if not start:
        return "is empty"
    if start.startswith(b"PK") and not zipfile.is_zipfile(path):
        return "is damaged: its end is missing, as after an interrupted download"
    if start.startswith(_SIGNATURES):
        return "is damaged, or holds more than tensors, which sttx does not load"
    return f"is damaged or not a .pth: it starts with {start!r}"


def _flat(tensor: AnyTensor) -> AnyTensor:
    return tensor.flatten() if tensor.shape[:-1] == (1, 1) else tensor

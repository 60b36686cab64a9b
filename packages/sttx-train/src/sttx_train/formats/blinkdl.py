"""BlinkDL's ``.pth``: the published names and shapes, and the file itself. Knows no other format.

The model's own names are these names. What differs: the file holds vectors as ``[1, 1, D]``, and layer 0 may
carry ``v0 v1 v2``, which nothing uses: they are left out on reading, and written as copies of ``a0 a1 a2``
because other programs ask for them.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from sttx_core.errors import ModelError
from sttx_train.files import replacing_file

VECTORS = frozenset(("x_r", "x_w", "x_k", "x_v", "x_a", "x_g", "w0", "a0", "v0", "k_k", "k_a"))
_OPENINGS = (b"PK", b"\x80")  # of the zip archives that torch writes, and of the pickles that it wrote before
_UNUSED = tuple(f"blocks.0.att.v{i}" for i in range(3))


def canonical(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn a file's tensors into the model's."""
    return {
        name: _flat(tensor) if name.rsplit(".", 1)[-1] in VECTORS else tensor
        for name, tensor in tensors.items()
        if name not in _UNUSED
    }


def published(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn the model's tensors into a file's: the inverse of :func:`canonical`."""
    named = {
        name: tensor.view(1, 1, -1) if name.rsplit(".", 1)[-1] in VECTORS else tensor
        for name, tensor in tensors.items()
    }
    for i, unused in enumerate(_UNUSED):
        named[unused] = named[f"blocks.0.att.a{i}"].clone()
    return named


def read_pth(path: Path) -> dict[str, Tensor]:
    """Read a ``.pth`` of tensors, mapped into memory where its layout allows; never runs what it pickles.

    Raises:
        ModelError: unreadable, damaged, or more than a flat dictionary of tensors.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # remarks on old pickle protocols
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except OSError as error:
        raise ModelError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    except Exception as error:  # a damaged pickle can fail in any way, and torch's words are for programmers
        raise ModelError(f"{str(path)!r} {_why_unread(path)}: fetch it again") from error
    if not isinstance(loaded, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in loaded.items()
    ):
        raise ModelError(f"{str(path)!r} is not a dictionary of tensors, as RWKV's .pth files are")
    return cast(dict[str, Tensor], loaded)


def write_pth(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as a ``.pth``, whole or not at all."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with (
        replacing_file(path) as aside,
        aside.open("wb") as file,
    ):  # given a path, its name goes into the bytes
        torch.save(plain, file)


def _why_unread(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(b"PK") and not zipfile.is_zipfile(path):
        return "is damaged: its end is missing, as after a download that broke off"
    if start.startswith(_OPENINGS):
        return "is damaged, or holds more than tensors, which is never run"
    return f"is damaged, or no .pth: it opens with {start!r}"


def _flat(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1) if tensor.shape[:-1] == (1, 1) else tensor

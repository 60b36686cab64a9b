"""Whether weights fit in the memory that is available, checked before any is taken. Reads no file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import psutil

from sttx_core.errors import ModelError

if TYPE_CHECKING:
    import torch


def check_memory(needed: int, stored: Iterable[torch.dtype], dtype: torch.dtype, source: str) -> None:
    """Check that weights which must be converted or copied fit in memory: the system would stop the process.

    Args:
        needed: bytes of the copies.
        stored: the dtypes of the weights on disk; those that already have ``dtype`` are mapped, not copied.
        dtype: of the copies.
        source: the model's path, for the message.

    Raises:
        ModelError: they do not fit.
    """
    available = psutil.virtual_memory().available
    if needed <= available:
        return
    others = {on_disk for on_disk in stored if on_disk.is_floating_point} - {dtype}
    (other,) = others if len(others) == 1 else (None,)
    name = str(other).removeprefix("torch.")
    advice = (
        f"--dtype {name} reads them from the file as they are, or " if name in ("float32", "bfloat16") else ""
    )
    raise ModelError(
        f"the weights of {source!r} take {needed / 1e9:.1f} GB in {str(dtype).removeprefix('torch.')}, and "
        f"{available / 1e9:.1f} GB of memory are available: {advice}take a smaller model"
    )

"""A flat file of little-endian 16-bit ids, each document led by the end-of-text id 0: mapped, not read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sttx_core.errors import DataError


def map_flat(path: Path) -> np.ndarray:
    """Return the ids of a flat file, mapped.

    Raises:
        DataError: it is empty, of an odd number of bytes, or does not begin with a document.
    """
    size = path.stat().st_size
    if not size:
        raise DataError(f"{str(path)!r} is empty: it holds no ids")
    if size % 2:
        raise DataError(
            f"{str(path)!r} has {size} bytes, an odd number: it is no file of 16-bit ids, or cut off"
        )
    tokens = np.memmap(path, dtype="<u2", mode="r")
    if tokens[0]:
        raise DataError(
            f"{str(path)!r} begins with the id {tokens[0]}, not with 0, which leads a document: if it is "
            f"half of a pair of .bin and .idx, put {path.with_suffix('.idx').name!r} beside it"
        )
    return tokens

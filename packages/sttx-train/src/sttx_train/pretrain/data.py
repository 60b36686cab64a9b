"""Packed tokens for pretraining: one flat file of ids, read as parallel streams. Knows no model.

A packed file is little-endian unsigned 16-bit ids, each document led by the end-of-text id 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from sttx_core.errors import DataError

TEXT_LIMIT = 64 << 20  # larger files are not one document; they are refused rather than read into memory


def iter_documents(paths: Iterable[Path], skipped: list[Path] | None = None) -> Iterator[str]:
    """Yield the text of every file in ``paths``, folders walked in name order.

    A file is text if it is UTF-8 and holds no NUL byte. Others are passed over in a folder and added to
    ``skipped``; one that was named itself is refused.

    Raises:
        DataError: a path does not exist, names no text, or a file is too large to be one document.
    """
    for path in paths:
        if not path.exists():
            raise DataError(f"{str(path)!r} does not exist; name text files or folders of them")
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            if file.stat().st_size > TEXT_LIMIT:
                raise DataError(
                    f"{str(file)!r} is larger than {TEXT_LIMIT >> 20} MiB; split it into documents"
                )
            text = _text(file)
            if text is not None:
                yield text
            elif file == path:
                raise DataError(f"{str(file)!r} is no text: it is not UTF-8, or holds NUL bytes")
            elif skipped is not None:
                skipped.append(file)


def _text(file: Path) -> str | None:
    data = file.read_bytes()
    try:
        return None if b"\0" in data else data.decode().replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError:
        return None


class PackedStreams:
    """``batch`` equal stretches of a packed array, each read from front to back, again and again.

    Every token is read once per epoch. The position is one number, so that a run resumes exactly.
    """

    def __init__(self, tokens: np.ndarray, *, batch: int, context: int) -> None:
        self.batch, self.context = batch, context
        self.windows = (len(tokens) - 1) // batch // context
        if self.windows < 1:
            raise DataError(
                f"{len(tokens)} tokens are too few for {batch} streams of {context}; "
                "give more text, or lower --batch or --ctx"
            )
        self._tokens = tokens

    def window(self, step: int) -> np.ndarray:
        """Return inputs and targets of a step as one array ``[batch, context + 1]`` of int64."""
        offset = (step % self.windows) * self.context
        stride = self.windows * self.context
        rows = [
            self._tokens[row * stride + offset : row * stride + offset + self.context + 1]
            for row in range(self.batch)
        ]
        return np.stack(rows).astype(np.int64)

    def starts_epoch(self, step: int) -> bool:
        """Whether this step's window does not follow on the one before."""
        return step % self.windows == 0

"""Reads text files and folders of them piece by piece, each file one document. Knows no tokenizer.

A file is text if it is UTF-8 and holds no NUL byte: it is looked through once before anything of it is given.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from pathlib import Path

from sttx_core.errors import DataError
from sttx_train.data.mmididx import NOTE

PIECE = 1 << 20
"""Characters that are read together, and then as far as the line goes on, at most as many again."""

_BLOCK = 1 << 20


def iter_texts(paths: Iterable[Path], skipped: list[Path] | None = None) -> Iterator[Path]:
    """Yield every text file in ``paths``, folders walked in name order.

    What is no text is passed over in a folder and added to ``skipped``; a file that was named itself is
    refused.

    Raises:
        DataError: a path does not exist, names no text, or cannot be read.
    """
    for path in paths:
        if not path.exists():
            raise DataError(f"{str(path)!r} does not exist; name text files or folders of them")
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            if file != path and file.name.endswith(NOTE):
                continue  # it belongs to a pair, which is no text either
            if text_size(file) is not None:
                yield file
            elif file == path:
                raise no_text(file)
            elif skipped is not None:
                skipped.append(file)


def read_text(file: Path, size: int | None = None) -> Iterator[str]:
    """Yield a text in pieces of ``size`` characters and more, every line end a newline; of an empty one none.

    A piece ends with a line, except in the middle of a very long one.

    Raises:
        DataError: it is no UTF-8.
    """
    size = size or PIECE
    try:
        with file.open(encoding="utf-8") as text:
            while piece := text.read(size):
                yield piece + text.readline(size)
    except UnicodeDecodeError as error:
        raise no_text(file) from error


def text_size(file: Path) -> int | None:
    """Return the bytes of a text file; None for one that is no text.

    Raises:
        DataError: it cannot be read.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    size = 0
    try:
        with file.open("rb") as data:
            while block := data.read(_BLOCK):
                size += len(block)
                if b"\0" in block:
                    return None
                decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return None
    except OSError as error:
        raise DataError(f"cannot read {str(file)!r}: {error.strerror}") from error
    return size


def no_text(file: Path) -> DataError:
    """Return what refuses a file that is no text."""
    return DataError(f"{str(file)!r} is no text: it is not UTF-8, or holds NUL bytes")

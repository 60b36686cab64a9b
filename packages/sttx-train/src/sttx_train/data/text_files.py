"""Reads text files and folders of them piece by piece, each file one document. Knows no tokenizer.

A file is text if it is UTF-8 without NUL bytes. The whole file is checked before its first piece is returned.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

from sttx_core.errors import DataError, UsageError
from sttx_core.foreign_files import open_regular
from sttx_core.os_errors import explain
from sttx_train.data.mmididx import NOTE

PIECE = 1 << 20
"""Characters of a piece, before the rest of its last line: at most as many again."""

_BLOCK = 1 << 20
_TELLING = 8
"""Bytes from which the place of NULs tells an encoding."""
_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def iter_texts(paths: Iterable[Path], skipped: list[Path] | None = None) -> Iterator[Path]:
    """Yield every text file in ``paths``; folders are walked in name order.

    Files in a folder that are not text are skipped and added to ``skipped``.

    Raises:
        UsageError: a path does not exist.
        DataError: a path is a file that is not text, or cannot be read.
    """
    for path in paths:
        if not path.exists():
            raise UsageError(f"{str(path)!r} does not exist: name text files or folders of them")
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            if file != path and file.name.endswith(NOTE):
                continue  # part of a pair of .bin and .idx, which is not text either
            if text_size(file) is not None:
                yield file
            elif file == path:
                raise not_text(file)
            elif skipped is not None:
                skipped.append(file)


def read_text(file: Path, size: int | None = None) -> Iterator[str]:
    """Yield a text in pieces of at least ``size`` characters; an empty file has no pieces.

    Every line end becomes a newline. A piece ends at a line end, unless the line is very long.

    Raises:
        DataError: the file is not UTF-8.
    """
    size = size or PIECE
    try:
        with io.TextIOWrapper(open_regular(file), encoding="utf-8") as text:
            while piece := text.read(size):
                yield piece + text.readline(size)
    except UnicodeDecodeError as error:
        raise not_text(file) from error


def text_size(file: Path) -> int | None:
    """Return the size of a text file in bytes; None if it is not text.

    Raises:
        DataError: the file cannot be read.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    size = 0
    try:
        with open_regular(file) as data:
            while block := data.read(_BLOCK):
                size += len(block)
                if b"\0" in block:
                    return None
                decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return None
    except OSError as error:
        raise DataError(f"cannot read {str(file)!r}: {explain(error)}") from error
    return size


def not_text(file: Path) -> DataError:
    """Return the error for a file that is not text."""
    with open_regular(file) as data:
        head = data.read(_BLOCK)
    if name := _wide_encoding(head):
        return DataError(
            f"{str(file)!r} is not text in UTF-8 but in {name}: convert it, for example with "
            f"`iconv -f {name} -t UTF-8`"
        )
    return DataError(f"{str(file)!r} is not text: it is not UTF-8, or holds NUL bytes")


def _wide_encoding(head: bytes) -> str | None:
    """Return the name of a Unicode encoding other than UTF-8 that a file seems to have.

    The byte order mark shows it, or text whose every second character is a NUL.

    >>> _wide_encoding("hello".encode("utf-16")), _wide_encoding("hello".encode("utf-16-be"))
    ('UTF-16', 'UTF-16BE')
    """
    for mark, name in _MARKS.items():
        if head.startswith(mark):
            return name
    pairs = len(head) // 2 if len(head) >= _TELLING else 0
    low, high = head[0 : 2 * pairs : 2].count(0), head[1 : 2 * pairs : 2].count(0)
    if pairs and max(low, high) > 0.7 * pairs and min(low, high) == 0:
        return "UTF-16LE" if high else "UTF-16BE"
    return None

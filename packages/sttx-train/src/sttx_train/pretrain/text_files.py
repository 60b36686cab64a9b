"""Reads text files and folders of them, each file one document. Knows no tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

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

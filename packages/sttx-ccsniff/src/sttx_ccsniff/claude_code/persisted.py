"""Reads large tool results, which Claude Code writes to separate files.

The session then has a reference: a stub (`<persisted-output>`) or a notice that the result is too large,
each with the path of a file in `<session>/tool-results/`. Of that path only the file name is used. The file
must be a regular file in that folder of the same session, and neither it, the folder nor the session's folder
may be a symbolic link. So a reference cannot name any other file on the disk. At most `MOST_BYTES` of text
are read.

A file may hold the blocks of a result as JSON. Then its text is that of the blocks.
"""

import os
import re
import stat
from collections import Counter
from pathlib import Path, PurePath
from typing import Any

from sttx_ccsniff.parse.content import result_text
from sttx_ccsniff.parse.records import decode_line

MOST_BYTES = 2**20
"""Most bytes of a persisted output that are read."""

_MOST_JSON = 2**25  # bytes of JSON that are read to get at most `MOST_BYTES` of text
_STUB = "<persisted-output>"
_NOTICE = re.compile(r"exceeds maximum allowed\b[^\r\n]{0,200}\bsaved to:? ")
_NOTICE_HEAD = 600
_PATH = re.compile(r"saved to:? *([^\r\n]{1,4096})")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}\.(?:txt|json)")
_ONLY_PLAIN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_ONLY_FOLDER = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_DIRECTORY", 0)


def is_reference(output: str) -> bool:
    """Return whether the text of a tool's result refers to a file that holds the result.

    >>> notice = "Error: result exceeds maximum allowed tokens. Output has been saved to /x/a.txt."
    >>> [is_reference(text) for text in (notice, "<persisted-output>saved to: /x/a.txt", "saved to a.txt")]
    [True, True, False]
    """
    return output.startswith(_STUB) or _NOTICE.search(output, 0, _NOTICE_HEAD) is not None


def persisted_output(reference: str, folder: PurePath | None) -> tuple[str, int] | None:
    """Read the output that a reference names.

    Args:
        reference: The text of a tool's result, for which `is_reference` is true.
        folder: The session's folder.

    Returns:
        The output, and the number of its bytes that were not read; None if the file cannot be read.
    """
    match = _PATH.search(reference)
    if match is None or folder is None:
        return None
    name = re.split(r"[\\/]", match[1].strip(" .\"'`"))[-1]
    if not _NAME.fullmatch(name):
        return None
    may_be_blocks = name.endswith(".json") or not reference.startswith(_STUB)
    return _read(Path(folder), name, may_be_blocks)


def _read(folder: Path, name: str, may_be_blocks: bool) -> tuple[str, int] | None:
    try:
        descriptor = _open(folder, name)
    except (OSError, ValueError):
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        is_small = status.st_size <= _MOST_JSON
        data = _first_bytes(descriptor, _MOST_JSON if may_be_blocks and is_small else MOST_BYTES)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    text = _text_of_blocks(data) if may_be_blocks else None
    if text is not None:
        kept = text.encode("utf-8", "replace")
        return kept[:MOST_BYTES].decode("utf-8", "ignore"), max(len(kept) - MOST_BYTES, 0)
    kept = data[:MOST_BYTES]
    return kept.decode("utf-8", "replace"), max(status.st_size - len(kept), 0)


def _open(folder: Path, name: str) -> int:
    """Open `<folder>/tool-results/<name>` without following a link in any of the three names."""
    if os.open not in os.supports_dir_fd:
        file = folder / "tool-results" / name
        if any(path.is_symlink() for path in (folder, file.parent, file)):
            raise OSError("a symbolic link")
        return os.open(file, os.O_RDONLY | _ONLY_PLAIN)
    session = os.open(folder, os.O_RDONLY | _ONLY_FOLDER)
    try:
        results = os.open("tool-results", os.O_RDONLY | _ONLY_FOLDER, dir_fd=session)
        try:
            return os.open(name, os.O_RDONLY | _ONLY_PLAIN, dir_fd=results)
        finally:
            os.close(results)
    finally:
        os.close(session)


def _first_bytes(descriptor: int, most: int) -> bytes:
    data = bytearray()
    while len(data) < most and (piece := os.read(descriptor, most - len(data))):
        data += piece
    return bytes(data)


def _text_of_blocks(data: bytes) -> str | None:
    """Return the text of a result's blocks, None if the data are not a JSON list of blocks."""
    if not data.lstrip().startswith(b"["):
        return None
    values, problem = decode_line(data, Counter())
    if problem or len(values) != 1 or not values[0] or not all(map(_is_block, values[0])):
        return None
    return result_text(values[0])


def _is_block(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("type"), str)

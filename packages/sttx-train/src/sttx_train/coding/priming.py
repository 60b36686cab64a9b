"""Whether experts beside a network read the primer: they do if the first file is JSON lines.

The primer's lines make such sessions smaller, and text that is rendered larger. So levels with a network
leave it open (`Method.primed` is None), and the start of the first file that is not empty decides. Knows
files, no coders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import BinaryIO, cast

from sttx_core.foreign_files import open_regular
from sttx_train.coding.container import BLOCK_BYTES
from sttx_train.coding.forms import form_of
from sttx_train.coding.method import Method
from sttx_train.coding.target import Member


def read_part(file: BinaryIO, size: int) -> bytes:
    """Read so many bytes, also from a pipe that gives less at a time; less at the end."""
    data = file.read(size)
    while data and len(data) < size and (more := file.read(size - len(data))):
        data += more
    return data


class _Ahead:
    """A stream whose start was read before.

    Args:
        start: what was read.
        stream: where the rest is.
    """

    def __init__(self, start: bytes, stream: BinaryIO) -> None:
        self._start, self._stream = start, stream

    def read(self, size: int) -> bytes:
        """Return up to so many bytes, b"" at the end."""
        if not self._start:
            return self._stream.read(size)
        data, self._start = self._start[:size], self._start[size:]
        return data


def decide_primer(
    method: Method, members: Sequence[Member], stdin: BinaryIO | None
) -> tuple[Method, BinaryIO | None]:
    """Return the method with a decision, and standard input as before; its start may have been read ahead.

    Args:
        method: what predicts.
        members: the files.
        stdin: what a member without a path is read from.

    Raises:
        OSError: a file cannot be read.
    """
    if method.primed is not None:
        return method, stdin
    start = b""
    for member in members:
        if member.path is not None:
            with open_regular(member.path) as file:
                start = read_part(file, BLOCK_BYTES)
        else:
            assert stdin is not None, "a member without a path is read from stdin"
            start = read_part(stdin, BLOCK_BYTES)
            stdin = cast(BinaryIO, _Ahead(start, stdin))
        if start:
            break
    return replace(method, primed=form_of(start) == "lines"), stdin

"""How large an archive would be, without writing it. Knows no formulas: the coding room does all of it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import BinaryIO, cast

from sttx_train.coding import CompressConfig, Compressed, Member, Method, compress


class _Nothing(io.RawIOBase):
    """A file that keeps nothing of what is written to it."""

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        return len(data)


def compress_size(
    what: bytes | Iterable[Member],
    config: CompressConfig | None = None,
    *,
    method: Method | None = None,
    stdin: BinaryIO | None = None,
    advance: Callable[[int], object] = lambda _: None,
) -> Compressed:
    """Return what `sttx_train.coding.compress` would write of the same, to the byte; nothing is kept.

    ``bytes_out`` is the whole archive. Besides the coded blocks it has a header of some 300 bytes, an index,
    a record of some 200 bytes for each file, and 41 bytes for each block: 800 bytes for one small file.

    Args:
        what: any bytes, which are compressed as standard input would be; or files, as `members_of` lists.
        config: how the archive would be written.
        method: what predicts; `method_of` returns it. By default the experts alone.
        stdin: what a member without a path is read from.
        advance: called with the number of bytes as they are done.

    Raises:
        UsageError: two files have one name, or a name that no archive takes.
        OSError: a file cannot be read.
    """
    if isinstance(what, bytes):
        what, stdin = [Member(name="stdin", path=None)], io.BytesIO(what)
    nowhere = cast(BinaryIO, _Nothing())
    return compress(what, nowhere, config, method=method, stdin=stdin, advance=advance)

"""What the commands for archives share: archives as standard input and output, and as sources of sessions."""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import click

from sttx_cli.output import BinaryOut, count, note, say
from sttx_cli.plain import one_line
from sttx_cli.progress import progress_bar
from sttx_core.errors import DataError, SourceError, UsageError
from sttx_core.foreign_files import open_regular

if TYPE_CHECKING:
    from sttx_train.coding import Archive, Damage, Entry

STREAM = "-"
"""Stands for standard input or output."""

_START = b"\x8bsttx\r\n\x1a"  # as in sttx_train.coding.container, which a source should not import
_SHOWN = 5  # files that a message names


def binary_out() -> BinaryIO:
    """Return standard output for bytes."""
    return cast(BinaryIO, BinaryOut())


def prepare_coding() -> None:
    """Compile what codes, and say so: the first time it takes a while."""
    from sttx_core.experts import compile_coding

    with progress_bar("preparing the experts; the first time they are compiled, for half a minute"):
        compile_coding()


@contextmanager
def opened(name: str) -> Iterator["Archive"]:
    """Open an archive; standard input is copied to a private temporary file first."""
    from sttx_train.coding import Archive

    if name != STREAM:
        with Archive(Path(name)) as archive:
            yield _noted(archive, name)
        return
    with tempfile.TemporaryDirectory(prefix="sttx-") as folder:
        copy = Path(folder, "standard input")
        with copy.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        with Archive(copy) as archive:
            yield _noted(archive, name)


def _noted(archive: "Archive", name: str) -> "Archive":
    if not archive.is_finished:
        files = count(len(archive.entries), "whole file")
        note(f"{name!r} has no index: its writing was interrupted, or its end is missing; {files} found")
    return archive


def check_whole(name: str, damage: "Damage", done: str) -> None:
    """Check that nothing was lost.

    Raises:
        DataError: something was.
    """
    if not damage.segments and not damage.lost:
        return
    lost = ", ".join(one_line(path, 200) for path in damage.lost[:_SHOWN])
    more = len(damage.lost) - _SHOWN
    listed = f" ({lost}{f' and {more} more' if more > 0 else ''})" if lost else ""
    raise DataError(
        f"{name!r} is damaged in {count(len(damage.segments), 'segment')}: "
        f"{count(len(damage.lost), 'file')} {done}{listed}"
    )


def total_bytes(entries: Sequence["Entry"]) -> int:
    """Return the bytes of files."""
    return sum(entry.size for entry in entries)


def expanded(sources: Sequence[str]) -> list[str]:
    """Return sources with each archive replaced by a private folder of its files, until the command ends.

    Raises:
        SourceError: an archive is damaged.
    """
    return [_expanded(name) if _is_archive(name) else name for name in sources]


def refuse_archives(sources: Sequence[str]) -> None:
    """Check that no source is an archive, for a run that continues in the files it has read.

    Raises:
        UsageError: one is; its files have another path each time, and would be read from the top.
    """
    for name in sources:
        if _is_archive(name):
            raise UsageError(
                f"--resume cannot continue within the archive {name!r}: decompress it and train on the folder"
            )


def _is_archive(name: str) -> bool:
    path = Path(name).expanduser()
    try:
        if not path.is_file():
            return False
        with open_regular(path) as file:
            return file.read(len(_START)) == _START
    except OSError:
        return False  # opening the source says what is wrong


def _expanded(name: str) -> str:
    from sttx_train.coding import extract

    path = Path(name).expanduser()
    folder = Path(tempfile.mkdtemp(prefix="sttx-"))
    click.get_current_context().call_on_close(lambda: shutil.rmtree(folder, ignore_errors=True))
    prepare_coding()
    with opened(str(path)) as archive:
        entries = archive.entries
        out = folder / path.stem
        if not entries:
            raise SourceError(f"there is no file in the archive {name!r}")
        with progress_bar("decompressing", total_bytes(entries), "bytes") as advance:
            damage = extract(archive, entries, out, one_file=False, advance=advance)
        check_whole(name, damage, "could not be read")
        say(f"source: {name!r} is an archive of {count(len(entries), 'file')}")
        return str(out / entries[0].path if len(entries) == 1 else out)

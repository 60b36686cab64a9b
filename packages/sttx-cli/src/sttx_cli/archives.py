"""What the commands for archives share: archives as standard input and output, and as sources of sessions."""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import click

from sttx_cli.options import Name
from sttx_cli.output import BinaryOut, count, note, say
from sttx_cli.plain import one_line
from sttx_cli.progress import progress_bar
from sttx_cli.runs import Decorated, without_pointer
from sttx_cli.threads import ThreadChoice, choose_threads, use_threads
from sttx_core.errors import DataError, SourceError, UsageError
from sttx_core.foreign_files import open_regular
from sttx_core.own_files import PRIVATE_FOLDER
from sttx_train.formats import EMBEDDED

if TYPE_CHECKING:
    from sttx_train.coding import Archive, Damage, Entry, Profile

STREAM = "-"
"""Stands for standard input or output."""

_START = b"\x8bsttx\r\n\x1a"  # as in sttx_train.coding.container, which a source should not import
_SHOWN = 5  # files that a message names


def binary_out() -> BinaryIO:
    """Return standard output for bytes."""
    return cast(BinaryIO, BinaryOut())


def prepare_coding(profile: "Profile | None") -> None:
    """Compile what codes, and say so: the first time it takes a while.

    Args:
        profile: of the network that takes part, None without one. It decides the number of threads, which is
            said.
    """
    from sttx_core.experts import compile_coding

    if profile is not None:
        with progress_bar("loading PyTorch"):
            import torch  # noqa: F401  the import is slow
        alone = ThreadChoice(1, "profile native computes other numbers with more")
        use_threads(alone if profile == "native" else choose_threads(most=2), say)
    with progress_bar("preparing the experts; the first time they are compiled, for half a minute"):
        compile_coding()


def needed_options(command: Decorated) -> Decorated:
    """Add `--model` and `--checkpoint` to a command that decodes an archive."""
    command = click.option(
        "--checkpoint",
        type=Name(),
        metavar="PATH",
        help="What a run had learned, if the archive was made with it.",
    )(command)
    return click.option(
        "--model",
        type=Name(),
        help=f"The model that the archive was made with, if it was not {EMBEDDED}.",
    )(command)


@contextmanager
def opened(name: str, *, model: str | None = None, checkpoint: str | None = None) -> Iterator["Archive"]:
    """Open an archive; standard input is copied to a private temporary file first.

    Args:
        name: of the archive.
        model: that it needs, None for goose-mini.
        checkpoint: that it needs, None for none.
    """
    from sttx_train.coding import Archive

    needs: dict[str, Any] = {"model": model}
    needs["checkpoint"] = None if checkpoint is None else without_pointer(checkpoint)
    if name != STREAM:
        with Archive(Path(name), **needs) as archive:
            yield _noted(archive, name)
        return
    with tempfile.TemporaryDirectory(prefix="sttx-") as folder:
        copy = Path(folder, "standard input")
        with copy.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        with Archive(copy, **needs) as archive:
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


def expanded(
    sources: Sequence[str],
    *,
    beside: Path | None = None,
    model: str | None = None,
    checkpoint: str | None = None,
) -> list[str]:
    """Return sources with each archive replaced by a private folder of its files, until the command ends.

    Args:
        sources: files, folders and archives.
        beside: a run's folder. The files then have the same path each time, so that the run can be resumed.
        model: the command's model, for archives that need one.
        checkpoint: the command's checkpoint, for archives that need one.

    Raises:
        DataError: an archive is damaged.
        SourceError: an archive is empty, or needs another model or checkpoint.
    """
    needs: dict[str, Any] = {"model": model, "checkpoint": checkpoint}
    return [_expanded(name, beside, needs) if _is_archive(name) else name for name in sources]


def _is_archive(name: str) -> bool:
    path = Path(name).expanduser()
    try:
        if not path.is_file():
            return False
        with open_regular(path) as file:
            return file.read(len(_START)) == _START
    except OSError:
        return False  # opening the source says what is wrong


def _expanded(name: str, beside: Path | None, needs: dict[str, Any]) -> str:
    from sttx_train.coding import extract

    path = Path(name).expanduser()
    with opened(str(path), **needs) as archive:
        archive.leave_out_unneeded()
        folder = Path(tempfile.mkdtemp(prefix="sttx-")) if beside is None else _folder_of(archive, beside)
        click.get_current_context().call_on_close(lambda: shutil.rmtree(folder, ignore_errors=True))
        prepare_coding(archive.profile)
        entries = archive.entries
        out = folder / path.stem
        if not entries:
            raise SourceError(f"there is no file in the archive {name!r}")
        with progress_bar("decompressing", total_bytes(entries), "bytes") as advance:
            try:
                damage = extract(archive, entries, out, one_file=False, advance=advance)
            except DataError as error:
                raise SourceError(
                    f"{error}. Or restore its files with `sttx decompress`, which takes these options for "
                    "every archive, and name their folder"
                ) from error
        check_whole(name, damage, "could not be read")
        say(f"source: {name!r} is an archive of {count(len(entries), 'file')}")
        return str(out / entries[0].path if len(entries) == 1 else out)


def _folder_of(archive: "Archive", run: Path) -> Path:
    """Return a new private folder beside a run's, always the same for one archive.

    What a killed command left there is removed.

    Raises:
        UsageError: something else is there.
    """
    folder = run.parent / f".{run.name}-{archive.identity[:16]}"
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UsageError(f"{str(folder)!r} is not a folder: move it away")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(mode=PRIVATE_FOLDER, parents=True)
    return folder

"""`sttx decompress`: restores the files of an archive."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sttx_cli.archives import (
    STREAM,
    binary_out,
    check_whole,
    needed_options,
    opened,
    prepare_coding,
    total_bytes,
)
from sttx_cli.options import Name
from sttx_cli.output import count, emit_line, say
from sttx_cli.progress import progress_bar

if TYPE_CHECKING:
    from sttx_train.coding import Entry


@click.command("decompress")
@click.argument("archive", type=Name(), metavar="ARCHIVE")
@click.argument("names", nargs=-1, type=Name(), metavar="[NAME]...")
@click.option(
    "-o",
    "--out",
    type=Name(),
    metavar="PATH",
    help="Where to write: - for standard output; the name of a file, if one file is named as NAME or the "
    "archive was made of one file; otherwise a folder. With / at its end, or if it is a folder now, it is "
    "always a folder. By default the current one.",
)
@needed_options
def command(
    archive: str,
    names: tuple[str, ...],
    out: str | None,
    model: str | None,
    checkpoint: str | None,
) -> None:
    """Restore the files of an archive, or those named NAME.

    ARCHIVE is a file that `sttx compress` wrote, or - for standard input. NAME is a file in it, or a folder.
    No file is overwritten. Every file is checked; one that is damaged is not written, and the rest is.
    """
    from sttx_train.coding import ToStream, extract

    stream = binary_out() if out == STREAM else None
    with opened(archive, model=model, checkpoint=checkpoint) as source:
        entries = source.named(names)
        prepare_coding(source.profile)
        with progress_bar("decompressing", total_bytes(entries), "bytes") as advance:
            if stream is not None:
                damage = source.read(entries, lambda _: ToStream(stream), advance)
                stream.flush()
            else:
                target = Path(out or ".")
                one_file = _is_file(entries, names) and not (target.is_dir() or (out or "").endswith("/"))
                damage = extract(source, entries, target, one_file=one_file, advance=advance)
        check_whole(archive, damage, "not written" if stream is None else "not right")
    line = f"{count(len(entries), 'file')}, {total_bytes(entries):,} bytes"
    if stream is not None:
        say(line)
    else:
        emit_line(f"{out or '.'}: {line}")


def _is_file(entries: Sequence["Entry"], names: tuple[str, ...]) -> bool:
    """Return whether what is restored is one file, and no folder with one file in it."""
    return len(entries) == 1 and (entries[0].path in names or "/" not in entries[0].path)

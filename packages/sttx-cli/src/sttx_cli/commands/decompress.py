"""`sttx decompress`: restores the files of an archive."""

from pathlib import Path

import click

from sttx_cli.archives import STREAM, binary_out, check_whole, opened, prepare_coding, total_bytes
from sttx_cli.options import Name
from sttx_cli.output import count, emit_line, say
from sttx_cli.progress import progress_bar


@click.command("decompress")
@click.argument("archive", type=Name(), metavar="ARCHIVE")
@click.argument("names", nargs=-1, type=Name(), metavar="[NAME]...")
@click.option(
    "-o",
    "--out",
    type=Name(),
    metavar="PATH",
    help="Folder to write to, - for standard output; for an archive of one file, the file's name. By default "
    "the current folder.",
)
def command(archive: str, names: tuple[str, ...], out: str | None) -> None:
    """Restore the files of an archive, or those named NAME.

    ARCHIVE is a file that `sttx compress` wrote, or - for standard input. NAME is a file in it, or a folder.
    No file is overwritten. Every file is checked; one that is damaged is not written, and the rest is.
    """
    from sttx_train.coding import ToStream, extract

    stream = binary_out() if out == STREAM else None
    with opened(archive) as source:
        entries = source.named(names)
        prepare_coding()
        with progress_bar("decompressing", total_bytes(entries), "bytes") as advance:
            if stream is not None:
                damage = source.read(entries, lambda _: ToStream(stream), advance)
                stream.flush()
            else:
                target = Path(out or ".")
                is_folder = target.is_dir() or (out or "").endswith("/")
                alone = out is not None and len(source.entries) == 1 and not is_folder
                damage = extract(source, entries, target, one_file=alone, advance=advance)
        check_whole(archive, damage, "not written" if stream is None else "not right")
    line = f"{count(len(entries), 'file')}, {total_bytes(entries):,} bytes"
    if stream is not None:
        say(line)
    else:
        emit_line(f"{out or '.'}: {line}")

"""`sttx test`: decodes an archive without writing anything, to see that it is whole."""

import click

from sttx_cli.archives import check_whole, needed_options, opened, prepare_coding, total_bytes
from sttx_cli.options import Name
from sttx_cli.output import count, emit_line
from sttx_cli.progress import progress_bar
from sttx_core.errors import DataError


@click.command("test")
@click.argument("archive", type=Name(), metavar="ARCHIVE")
@needed_options
def command(archive: str, model: str | None, checkpoint: str | None) -> None:
    """Check that an archive is whole, by decoding all of it.

    ARCHIVE is a file that `sttx compress` wrote, or - for standard input.
    """
    from sttx_train.coding import Nowhere

    with opened(archive, model=model, checkpoint=checkpoint) as source:
        prepare_coding(source.profile)
        entries = source.entries
        with progress_bar("testing", total_bytes(entries), "bytes") as advance:
            damage = source.read(entries, lambda _: Nowhere(), advance)
        check_whole(archive, damage, "cannot be read")
        if not source.is_finished:
            raise DataError(
                f"{archive!r} has no index: `sttx compress FILE... -o {archive} --resume` writes one"
            )
        if (position := source.first_damage()) is not None:
            raise DataError(f"{archive!r} is damaged at byte {position:,}, but all files can be read")
        emit_line(f"{archive}: whole, {count(len(entries), 'file')}, {total_bytes(entries):,} bytes")

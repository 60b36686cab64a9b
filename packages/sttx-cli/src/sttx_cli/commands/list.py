"""`sttx list`: shows the files in an archive, without decoding any."""

from dataclasses import asdict

import click
from rich.table import Table

from sttx_cli.archives import opened, total_bytes
from sttx_cli.options import Name
from sttx_cli.output import count, emit_json, emit_table
from sttx_cli.plain import one_line


@click.command("list")
@click.argument("archive", type=Name(), metavar="ARCHIVE")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: the archive and its files.")
def command(archive: str, as_json: bool) -> None:
    """List the files in an archive.

    ARCHIVE is a file that `sttx compress` wrote, or - for standard input.
    """
    with opened(archive) as source:
        entries = source.entries
        if as_json:
            emit_json(
                {
                    **source.header,
                    "bytes": source.size,
                    "finished": source.is_finished,
                    "segments": len(source.segments),
                    "files": [asdict(entry) for entry in entries],
                }
            )
            return
        table = Table(box=None, pad_edge=False)
        for name in ("bytes", "segment"):
            table.add_column(name, justify="right")
        table.add_column("file", overflow="fold")
        for entry in entries:
            first, last = entry.segments
            where = "" if first < 0 else f"{first + 1}" if first == last else f"{first + 1} to {last + 1}"
            table.add_row(f"{entry.size:,}", where, one_line(entry.path, 1000))
        size, method = total_bytes(entries), source.header.get("method")
        emit_table(
            f"{count(len(entries), 'file')}, {size:,} bytes in {source.size:,}; method {method!r}", table
        )

"""`sttx list`: shows the files in an archive, without decoding any."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import click
from rich.table import Table

from sttx_cli.archives import opened, total_bytes
from sttx_cli.options import Name
from sttx_cli.output import count, emit_json, emit_line, emit_table
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
        emit_table(f"{count(len(entries), 'file')}, {total_bytes(entries):,} bytes in {source.size:,}", table)
        for line in _needs(source.header):
            emit_line(one_line(line, 2000))


def _needs(header: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines on what decoding takes: the method, and digests of the model and of what was learned."""
    method, profile, coder = (header.get(name) for name in ("method", "profile", "coder"))
    yield f"method {method}, profile {profile}, coder {coder}"
    network = header.get("network")
    if not isinstance(network, dict):
        return
    yield f"model {network.get('name')}, SHA-256 {network.get('model')}"
    if network.get("learned") is not None:
        yield f"checkpoint, SHA-256 {network['learned']}"
    made = network.get("fingerprint")
    if isinstance(made, dict):
        where = f"torch {made.get('torch')} on {made.get('processor')}"
        yield f"made with {where} and {made.get('threads')} threads, probe {made.get('probe')}"

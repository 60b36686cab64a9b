"""`sttx validate-data`: reads a source to its end and counts what it holds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from sttx_ccsniff import open_source
from sttx_cli.options import Name
from sttx_cli.output import emit_json, emit_table, facts, note, say
from sttx_cli.redaction import chosen_redaction, redact_options
from sttx_cli.sources import SOURCES, check_records, from_option, named_sources, reading_progress
from sttx_core.errors import UsageError

_GROUPS = {
    "traces": "traces",
    "malformed_by_reason": "malformed",
    "skipped": "skipped",
    "noted": "noted",
    "formats": "format",
    "redacted": "redacted",
}


@click.command("validate-data")
@click.argument("arguments", nargs=-1, type=Name(), metavar="[SOURCE]...")
@from_option(f"What to read: {SOURCES}. May be repeated; the same as SOURCE.")
@redact_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    arguments: tuple[str, ...],
    from_sources: tuple[str, ...],
    no_redact: bool,
    redact_rules: Path | None,
    as_json: bool,
) -> None:
    """Count what a source of traces holds.

    SOURCE is what `sttx train` reads; --from SOURCE means the same. An agent's own history is read to its end
    and not followed. Every record becomes a trace or is counted with the reason why not; redactions are
    counted by rule. Exits with 1 if there is no record, or none can be read.
    """
    sources = named_sources(arguments, from_sources)
    if not sources:
        raise UsageError(f"no source is named: give SOURCE or --from SOURCE, one of {SOURCES}")
    redact = chosen_redaction(no_redact, redact_rules)
    with open_source(sources, follow=False, redact=redact, say=note) as source:
        say(f"source: {source.description}")
        with reading_progress(source, sources):
            for trace in source:
                source.report.measure(trace)
    report = source.report.as_dict()
    if as_json:
        emit_json(report)
    else:
        emit_table("; ".join(sources), facts(_rows(report)))
    check_records(source)


def _rows(report: Mapping[str, Any]) -> dict[str, object]:
    """Lay out the counts; zeros are left out, and each group starts with its most frequent entry."""
    names = ("records", "sessions", "agents", "bytes_read", "text_bytes")
    titles = {"agents": "sub-agents", "bytes_read": "bytes read", "text_bytes": "bytes of text"}
    rows: dict[str, object] = {titles.get(name, name): f"{report[name]:,}" for name in names if report[name]}
    for group, title in _GROUPS.items():
        counts = sorted(report[group].items(), key=lambda entry: (-entry[1], entry[0]))
        width = max((len(f"{number:,}") for _, number in counts), default=0)
        lines = [f"{number:>{width},}  {reason}" for reason, number in counts if number]
        rows |= {title: lines} if lines else {}
    return rows or {"records": "0: there is nothing in it"}

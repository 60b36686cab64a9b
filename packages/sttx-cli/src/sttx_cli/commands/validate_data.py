"""`sttx validate-data`: reads a source to its end and counts what it holds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from sttx_ccsniff import open_source
from sttx_cli.output import emit_json, emit_table, facts, say
from sttx_cli.redaction import chosen_redaction, redact_options
from sttx_core.errors import SourceError


@click.command("validate-data")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@redact_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(sources: tuple[str, ...], no_redact: bool, redact_rules: Path | None, as_json: bool) -> None:
    """Count what a source of traces holds.

    SOURCE is what --ccsniff-from of `sttx train` takes; an agent's own sessions end where the history does.
    Every record becomes a trace, or is counted as skipped or malformed with its reason; what redaction takes
    out is counted by rule. Exits 1 where none of what is there could be read.
    """
    redact = chosen_redaction(no_redact, redact_rules)
    with open_source(sources, follow=False, redact=redact, say=lambda text: say(f"note: {text}")) as source:
        say(f"source: {source.description}")
        for trace in source:
            source.report.measure(trace)
    told = source.report.as_dict()
    if as_json:
        emit_json(told)
    else:
        _show(sources, told)
    if told["malformed"] and not told["records"]:
        raise SourceError(f"no record could be read in {source.description}")


def _show(sources: Sequence[str], told: Mapping[str, Any]) -> None:
    rows = {name: f"{told[name]:,}" for name in ("records", "sessions", "agents", "bytes_read", "text_bytes")}
    rows |= {f"traces: {name}": f"{count:,}" for name, count in told["traces"].items()}
    rows |= {"malformed": f"{told['malformed']:,}"}
    for group in ("malformed_by_reason", "skipped", "noted", "formats", "redacted"):
        title = group.removesuffix("_by_reason")
        rows |= {f"{title}: {reason}": f"{count:,}" for reason, count in told[group].items()}
    emit_table("; ".join(sources), facts(rows))

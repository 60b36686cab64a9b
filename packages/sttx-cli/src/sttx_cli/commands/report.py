"""`sttx report`: one page that shows what was new in sessions. Connects a source to a report."""

import contextlib
import heapq
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from rich.table import Table
from rich.text import Text

from sttx_ccsniff import Source
from sttx_cli.loading import load, prepared
from sttx_cli.options import FiniteFloat, Moment, Name, PathName
from sttx_cli.output import count, emit_json, emit_line, emit_table, note, number, say
from sttx_cli.places import check_page
from sttx_cli.plain import one_line
from sttx_cli.progress import progress_bar
from sttx_cli.redaction import chosen_redaction, redact_options
from sttx_cli.runs import check_model, learned_options, model_option, named_learned
from sttx_cli.sources import (
    SOURCES,
    find_sources,
    from_option,
    named_sources,
    no_text,
    opened,
    reading_progress,
    with_text,
)
from sttx_cli.summary import redacted_line
from sttx_cli.threads import threads_option
from sttx_core.errors import SourceError, UsageError
from sttx_core.own_files import replacing_file
from sttx_core.render import render
from sttx_core.traces import Trace
from sttx_train.devices import DtypeName, choose_device, choose_products
from sttx_train.formats import EMBEDDED

if TYPE_CHECKING:
    from sttx_train import LoadedModel

_MB = 1_000_000
_SHOWN = 8  # traces in the table


@click.command("report")
@click.argument("arguments", nargs=-1, type=Name(), metavar="[SOURCE]...")
@from_option(f"What to read: {SOURCES}. May be repeated; the same as SOURCE.")
@click.option(
    "--out",
    type=PathName(path_type=Path, dir_okay=False),
    required=True,
    metavar="PAGE",
    help="The page to write, a .html file that needs no other.",
)
@click.option("--title", type=Name(), default="What was new", show_default=True, help="Title of the page.")
@click.option(
    "--since",
    type=Moment(),
    default=0.0,
    metavar="TIME",
    help="Skip older traces. A date (2026-01-31), a time (2026-01-31T09:00), or an age: 30m, 12h, 7d.",
)
@click.option(
    "--limit",
    type=FiniteFloat(),
    default=1.0,
    show_default=True,
    metavar="MB",
    help="Read only the newest so many megabytes of text; 0 reads all.",
)
@learned_options("Price")
@model_option
@click.option(
    "--dtype",
    type=click.Choice(get_args(DtypeName)),
    default="auto",
    show_default=True,
    help="Data type of the model's weights; auto takes bfloat16 where the device has instructions for it, "
    "which is faster, and float32 elsewhere; with --checkpoint what `sttx train` takes.",
)
@threads_option
@redact_options
@click.option(
    "--json", "as_json", is_flag=True, help="Print a summary as one JSON object on standard output."
)
def command(
    arguments: tuple[str, ...],
    from_sources: tuple[str, ...],
    out: Path,
    title: str,
    since: float,
    limit: float,
    checkpoint: str | None,
    state: Path | None,
    model: str | None,
    dtype: DtypeName,
    threads: int,
    no_redact: bool,
    redact_rules: Path | None,
    as_json: bool,
) -> None:
    """Show what was new in sessions, on one page.

    SOURCE is what `sttx train` reads; --from SOURCE means the same. Its sessions are read to their end, and
    not followed. Without a source, your Claude Code history is read, or a small sample if there is none.

    On the page every word is shaded by what it cost. First are the passages that were surprising when they
    were first read and whose words were used again; what repeats earlier text is folded.
    """
    if not limit >= 0:
        raise UsageError(f"--limit must be 0 or more megabytes, not {limit!r}")
    named = named_sources(arguments, from_sources, model=model, checkpoint=checkpoint)
    check_page(out)
    learned = named_learned(checkpoint, state)
    check_model(model, EMBEDDED)
    redact = chosen_redaction(no_redact, redact_rules)
    reading: dict[str, Any] = {"follow": False, "since": since, "redact": redact}
    sources = find_sources(named, **reading)
    with opened(sources, **reading) as source:
        traces, size = _to_price(source, sources, limit)
        with progress_bar("loading PyTorch"):
            from sttx_train import Predictor
            from sttx_train.evaluate import score_traces
            from sttx_train.report import make_report, render_page, summary
        loaded = _load(model, dtype, exact=checkpoint is not None)
        predictor = prepared(loaded, lambda loaded: Predictor(loaded, learned), threads=threads)
        with _progress(source, sources, traces, size) as counted:
            report = make_report(score_traces(predictor, counted), loaded.tokenizer)
        description, redacted = source.description, dict(source.report.redacted)
    with progress_bar("drawing the page"):
        size = _write(render_page(report, title=title, source=description, made=time.time()), out)
    page = {"path": str(out.absolute()), "bytes": size}
    facts = {"source": description, "page": page} | summary(report) | {"redacted": redacted}
    (emit_json if as_json else _emit)(facts)


def _write(page: str, out: Path) -> int:
    """Write a page that nobody else may read; return its size in bytes."""
    data = page.encode()
    with replacing_file(out, private=True) as aside:
        aside.write_bytes(data)
    say(f"page: {str(out.absolute())!r} ({_megabytes(len(data))}; nobody else may read it)")
    return len(data)


def _load(model: str | None, dtype: DtypeName, *, exact: bool) -> "LoadedModel":
    """Load the model in the dtype that is fastest on the device, unless one is asked for.

    Args:
        model: The model.
        dtype: What is asked for.
        exact: Whether the dtype must be that of a run, as training chooses it.
    """
    if dtype == "auto" and not exact:
        products = choose_products(choose_device().device)
        if products.bf16:
            return load(model, dtype="bfloat16", why=f"faster here: {products.reason}")
    return load(model, dtype=dtype)


def _to_price(source: Source, sources: list[str], limit: float) -> tuple[Iterable[Trace], int | None]:
    """Return the traces to price: the newest and their bytes of text, or all, as they are read, and None.

    Raises:
        SourceError: There is no text.
    """
    if not limit:
        return with_text(source, sources), None
    with reading_progress(source, sources):
        traces, size, of = _newest(source, round(limit * _MB))
    if not traces:
        raise SourceError(no_text(source))
    if size < of:
        note(
            f"the newest {_megabytes(size)} of {_megabytes(of)} of text are read: --limit 0 reads all, "
            "--since TIME what is newer"
        )
    return traces, size


@contextlib.contextmanager
def _progress(
    source: Source, sources: list[str], traces: Iterable[Trace], size: int | None
) -> Iterator[Iterable[Trace]]:
    """Yield the same traces, and show how much of them is taken."""
    if size is None:
        with reading_progress(source, sources):
            yield traces
        return
    with progress_bar("pricing", size, "bytes") as advance:
        yield _counted(traces, advance)


def _megabytes(size: int) -> str:
    return f"{size / _MB:.1f} MB" if size >= _MB else f"{size / 1000:.0f} kB"


def _newest(traces: Iterable[Trace], most: int) -> tuple[deque[Trace], int, int]:
    """Return the newest traces with at most so many bytes of text, their bytes, and those of all.

    They keep their order, which is not that of their times where files are named one by one. A trace without
    a time has that of the last one of its document.
    """
    kept: list[tuple[float, int, int, Trace]] = []
    times: dict[str, float] = {}
    size = total = 0
    for place, trace in enumerate(traces):
        length = len(render(trace).encode())
        if not length:
            continue
        times[trace.document] = trace.meta.time or times.get(trace.document, 0.0)
        heapq.heappush(kept, (times[trace.document], place, length, trace))
        size, total = size + length, total + length
        while size > most and len(kept) > 1:
            size -= heapq.heappop(kept)[2]
    return deque(trace for *_, trace in sorted(kept, key=lambda one: one[1])), size, total


def _counted(traces: Iterable[Trace], advance: Callable[[int], None]) -> Iterator[Trace]:
    for trace in traces:
        yield trace
        advance(len(render(trace).encode()))


def _emit(facts: Mapping[str, Any]) -> None:
    """Print what was paid, and the traces most worth reading."""
    table = Table(box=None, pad_edge=False)
    table.add_column("session", overflow="fold")
    table.add_column("trace", overflow="fold")
    table.add_column("bits/byte", justify="right", no_wrap=True)
    table.add_column("words that were new, and used again", overflow="fold")
    for top in facts["top"][:_SHOWN]:
        trace = one_line(f"{top['type']} {top['tool']}", 40)
        words = "  ".join(f"{word['text']} {word['used_later']}×" for word in top["passage"]["words"])
        cells = (one_line(top["session"], 40), trace, f"{top['passage']['rank']:.2f}", words)
        table.add_row(*map(Text, cells))
    sessions = count(len(facts["sessions"]) + facts["sessions_left_out"], "session")
    rates = {
        name: facts[name] / facts["bytes"] if facts["bytes"] else None for name in ("bits", "frozen_bits")
    }
    emit_line(
        f"{count(facts['traces'], 'trace')} of {sessions}, {facts['bytes']:,} bytes in "
        f"{one_line(facts['source'], 500)}: paid {number(rates['bits'])} bits per byte, "
        f"frozen {number(rates['frozen_bits'])}"
    )
    emit_line("")
    emit_table("most new for their length", table)
    if line := redacted_line(facts["redacted"]):
        emit_line("")
        emit_line(line)

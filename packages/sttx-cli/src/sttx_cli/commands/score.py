"""`sttx score`: what sessions cost, trace by trace. Connects a source to a predictor that does not learn."""

import contextlib
from pathlib import Path

import click

from sttx_ccsniff import Source
from sttx_cli.loading import load, prepared
from sttx_cli.options import Name
from sttx_cli.output import count, emit_json_lines, emit_line, emit_table, out_is_terminal
from sttx_cli.plain import one_line
from sttx_cli.progress import progress_bar
from sttx_cli.redaction import chosen_redaction, redact_options
from sttx_cli.runs import check_model, learned_options, model_option, named_learned
from sttx_cli.scores import Scores, trace_line
from sttx_cli.sources import (
    SOURCES,
    find_sources,
    from_option,
    named_sources,
    opened,
    reading_progress,
    with_text,
)
from sttx_cli.summary import redacted_line
from sttx_cli.threads import threads_option
from sttx_core.errors import UsageError
from sttx_train.formats import EMBEDDED


@click.command("score")
@click.argument("arguments", nargs=-1, type=Name(), metavar="[SOURCE]...")
@from_option(f"What to read: {SOURCES}. May be repeated; the same as SOURCE.")
@learned_options("Score")
@model_option
@click.option(
    "--experts",
    type=click.Choice(["on", "off"]),
    default="on",
    show_default=True,
    help="Mix experts into the price; they remember what was read before.",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=None,
    metavar="N",
    help="Tokens that are read together, of one or many sessions; prices do not depend on it. By default "
    "4,096, fewer with a large vocabulary.",
)
@threads_option
@redact_options
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object a line for each trace with text."
)
@click.option("--tokens", is_flag=True, help="With --json: add the text and the prices of every token.")
def command(
    arguments: tuple[str, ...],
    from_sources: tuple[str, ...],
    checkpoint: str | None,
    state: Path | None,
    model: str | None,
    experts: str,
    batch: int | None,
    threads: int,
    no_redact: bool,
    redact_rules: Path | None,
    as_json: bool,
    tokens: bool,
) -> None:
    """Price sessions, trace by trace.

    SOURCE is what `sttx train` reads; --from SOURCE means the same. Its sessions are read to their end, and
    not followed. Without a source, your Claude Code history is read, or a small sample if there is none.

    Every token costs as many bits as it was unexpected. The network learns nothing and no file is written;
    experts remember what was read before, so that repeats become cheap.
    """
    if tokens and not as_json:
        raise UsageError("--tokens would have no effect: it goes with --json; leave it out")
    named = named_sources(arguments, from_sources, model=model, checkpoint=checkpoint)
    learned = named_learned(checkpoint, state)
    check_model(model, EMBEDDED)
    redact = chosen_redaction(no_redact, redact_rules)
    on = experts == "on"
    sources = find_sources(named, follow=False, redact=redact)
    with opened(sources, follow=False, redact=redact) as source:
        traces = with_text(source, sources)
        with progress_bar("loading PyTorch"):
            from sttx_train import Predictor
            from sttx_train.evaluate import score_traces
        loaded = load(model)
        predictor = prepared(
            loaded, lambda loaded: Predictor(loaded, learned, experts=on), threads=threads, experts=on
        )
        scored = score_traces(predictor, traces, batch=batch)
        # On a terminal the lines themselves are the progress.
        lines_only = as_json and out_is_terminal()
        with contextlib.nullcontext() if lines_only else reading_progress(source, sources):
            if as_json:
                emit_json_lines(trace_line(one, loaded.tokenizer, tokens=tokens) for one in scored)
                return
            scores = Scores(loaded.tokenizer)
            for one in scored:
                scores.add(one)
    _show(scores, source)


def _show(scores: Scores, source: Source) -> None:
    traces, sessions = count(scores.traces, "trace"), count(scores.sessions, "session")
    where = one_line(source.description, 500)
    emit_table(f"bits per byte of {traces} of {sessions} in {where}", scores.by_session())
    emit_line("")
    emit_table("most surprising for their length", scores.surprising())
    if redacted := redacted_line(source.report.redacted):
        emit_line("")
        emit_line(redacted)

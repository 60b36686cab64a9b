"""`sttx score`: what sessions cost, trace by trace. Connects a source to a predictor that does not learn."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sttx_ccsniff import Source
from sttx_cli.loading import load, prepared
from sttx_cli.options import Name
from sttx_cli.output import count, emit_json_lines, emit_line, emit_table, out_is_terminal, say
from sttx_cli.plain import one_line
from sttx_cli.processes import hush_others, together
from sttx_cli.progress import progress_bar
from sttx_cli.redaction import chosen_redaction, redact_options
from sttx_cli.runs import (
    check_model,
    check_outer,
    dtype_option,
    learned_options,
    model_option,
    named_learned,
    outer_options,
)
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
from sttx_train.devices import DtypeName
from sttx_train.formats import EMBEDDED

if TYPE_CHECKING:
    from sttx_train import Predictor
    from sttx_train.predict import SharedReading


@click.command("score")
@click.argument("arguments", nargs=-1, type=Name(), metavar="[SOURCE]...")
@from_option(f"What to read: {SOURCES}. May be repeated; the same as SOURCE.")
@learned_options("Score")
@outer_options
@model_option
@dtype_option
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
    state_lr: float | None,
    state_decay: float | None,
    model: str | None,
    dtype: DtypeName,
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
    experts remember what was read before, so that repeats become cheap. With --state-lr the state of each
    session learns from what was read of it, after it was paid for.

    Several processes share the documents: torchrun --nproc-per-node N -m sttx_cli score ...
    """
    first = hush_others()
    if tokens and not as_json:
        raise UsageError("--tokens would have no effect: it goes with --json; leave it out")
    learned = named_learned(checkpoint, state)
    outer = check_outer(state_lr, state_decay, learned=learned is not None)
    check_model(model, EMBEDDED)
    redact = chosen_redaction(no_redact, redact_rules)
    options: dict[str, Any] = {"dtype": dtype, "threads": threads, "experts": experts == "on", "outer": outer}
    if not first:
        with _reading(model, learned, **options) as (_, networks):
            return networks.help() if networks else None
    named = named_sources(arguments, from_sources, model=model, checkpoint=checkpoint)
    sources = find_sources(named, follow=False, redact=redact)
    with opened(sources, follow=False, redact=redact) as source, contextlib.ExitStack() as stack:
        traces = with_text(source, sources)
        predictor, networks = stack.enter_context(_reading(model, learned, **options))
        if networks is not None:
            stack.enter_context(networks.asking())
        from sttx_train.evaluate import score_traces

        scored = score_traces(predictor, traces, batch=batch, networks=networks)
        # On a terminal the lines themselves are the progress.
        if not (as_json and out_is_terminal()):
            stack.enter_context(reading_progress(source, sources))
        tokenizer = predictor.tokenizer
        if as_json:
            emit_json_lines(trace_line(one, tokenizer, tokens=tokens) for one in scored)
            return None
        scores = Scores(tokenizer)
        for one in scored:
            scores.add(one)
    _show(scores, source)
    return None


@contextlib.contextmanager
def _reading(
    model: str | None,
    learned: str | None,
    *,
    dtype: DtypeName,
    threads: int,
    experts: bool,
    outer: dict[str, Any],
) -> Iterator[tuple["Predictor", "SharedReading | None"]]:
    """Prepare the predictor, and join the other processes if there are any, which share its reading."""
    with progress_bar("loading PyTorch"):
        from sttx_train import Predictor
        from sttx_train.predict import SharedReading
    loaded = load(model, dtype=dtype)
    predictor = prepared(
        loaded,
        lambda loaded: Predictor(loaded, learned, experts=experts, **outer),
        threads=threads,
        experts=experts,
        learns=bool(outer["state_lr"]),
    )
    with together(loaded.model.device) as workers:
        if workers.count > 1:
            say(f"processes: {workers.count}, each with its share of the sessions")
        yield predictor, SharedReading(predictor, workers) if workers.count > 1 else None


def _show(scores: Scores, source: Source) -> None:
    traces, sessions = count(scores.traces, "trace"), count(scores.sessions, "session")
    where = one_line(source.description, 500)
    emit_table(f"bits per byte of {traces} of {sessions} in {where}", scores.by_session())
    emit_line("")
    emit_table("most surprising for their length", scores.surprising())
    if redacted := redacted_line(source.report.redacted):
        emit_line("")
        emit_line(redacted)

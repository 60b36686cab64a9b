"""`sttx eval`: what each part of the predictor is worth on a stream. Connects a source to an evaluation."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sttx_ccsniff import open_source, sample_folder
from sttx_ccsniff.redact import Redactor
from sttx_cli.evaluation_tables import arms_table, controls_table, kinds_table
from sttx_cli.loading import load, prepare_experts, prepare_kernels
from sttx_cli.options import CommaList, Name, PathName
from sttx_cli.output import count, emit_json, emit_line, emit_table, emit_text, note, say
from sttx_cli.places import check_log_dir, check_page
from sttx_cli.plain import one_line
from sttx_cli.processes import hush_others, together
from sttx_cli.progress import progress_bar
from sttx_cli.redaction import chosen_redaction, redact_options
from sttx_cli.runs import check_model, model_option, named_learned
from sttx_cli.sources import (
    SOURCES,
    check_sources,
    from_option,
    named_sources,
    no_text,
    reading_progress,
    sources_or_default,
)
from sttx_cli.summary import redacted_line
from sttx_cli.threads import cores, free_cores
from sttx_cli.threads import load as running
from sttx_core.errors import SourceError, UsageError
from sttx_core.render import render
from sttx_core.traces import Trace
from sttx_train.environment import process_count
from sttx_train.evaluate import ARMS, DEFAULT_ARMS, check_arms, parse_arms
from sttx_train.formats import EMBEDDED, STATE_SUFFIXES

if TYPE_CHECKING:
    from sttx_train.evaluate import Evaluation


@click.command("eval")
@click.argument("arguments", nargs=-1, type=Name(), metavar="[SOURCE]...")
@from_option(f"What to read: {SOURCES}. May be repeated; the same as SOURCE.")
@click.option(
    "--checkpoint",
    type=Name(),
    default=None,
    metavar="PATH",
    help="The folder of a run or of one checkpoint, or RUN/latest, to score as it was saved.",
)
@click.option(
    "--state",
    type=PathName(path_type=Path, dir_okay=False),
    default=None,
    help="The file of a tuned state, .safetensors, .pth or .st, to score instead of a checkpoint.",
)
@click.option(
    "--donor",
    type=Name(),
    default=None,
    metavar="PATH",
    help="Another person's run, checkpoint or tuned state, to compare with. By default a state tuned on the "
    "sample sessions that come with sttx.",
)
@click.option(
    "--arms",
    type=CommaList(parse_arms),
    default=",".join(DEFAULT_ARMS),
    show_default=True,
    metavar="LIST",
    help=f"What to compare, with commas between: {', '.join(ARMS)}.",
)
@model_option
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=None,
    metavar="N",
    help="Processes that run at once; the result is the same for any number. By default one for each free "
    "core, and under torchrun one for each of its processes.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    metavar="N",
    help="Threads that each worker computes with.",
)
@click.option(
    "--out",
    type=PathName(path_type=Path, dir_okay=False),
    default=None,
    metavar="PAGE",
    help="Also write everything as one page, a .html file that needs no other.",
)
@redact_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
def command(
    arguments: tuple[str, ...],
    from_sources: tuple[str, ...],
    checkpoint: str | None,
    state: Path | None,
    donor: str | None,
    arms: tuple[str, ...],
    model: str | None,
    workers: int | None,
    threads: int,
    out: Path | None,
    no_redact: bool,
    redact_rules: Path | None,
    as_json: bool,
) -> None:
    """Measure what each part of the predictor is worth.

    SOURCE is what `sttx train` reads; --from SOURCE means the same. Its sessions are read to their end, and
    not followed. Every arm predicts the same windows and pays for each before it learns from it. Without
    --checkpoint or --state the arms learn from the start, as `sttx train` does; with one of them they are
    scored as they were saved, beside controls that a tuned state must beat.

    Several processes or machines share the arms: torchrun --nproc-per-node N -m sttx_cli eval ...
    """
    if not hush_others():
        return _help(workers or 1)
    learned, other = _learned(checkpoint, state, donor, arms), _donor(donor)
    if out is not None:
        check_page(out)
    check_model(model, EMBEDDED)
    check_log_dir()
    redact = chosen_redaction(no_redact, redact_rules)
    sources = sources_or_default(named_sources(arguments, from_sources, model=model, checkpoint=checkpoint))
    check_sources(sources, "--model", EMBEDDED, follow=False, redact=redact)
    traces, description, redacted = _read(sources, redact)
    with progress_bar("loading PyTorch"):
        from sttx_train.evaluate import Evaluation
    loaded = load(model, device="cpu", dtype="float32")
    prepare_kernels(loaded, learns=True)
    prepare_experts()
    with progress_bar("cutting the stream into windows"):
        evaluation = Evaluation(
            loaded,
            traces,
            model=model,
            arms=arms,
            learned=learned,
            donor=other,
            sample=_sample() if learned is not None and donor is None else (),
            threads=threads,
        )
    report = {"source": description} | _run(evaluation, workers) | {"redacted": redacted}
    if out is not None:
        _write_page(report, out)
    if as_json:
        emit_json(report)
    else:
        _emit(report)


def _write_page(report: dict[str, Any], out: Path) -> None:
    from sttx_cli.evaluation_page import write_page

    write_page(report, out)
    say(f"page: {str(out.absolute())!r}")


def _learned(
    checkpoint: str | None, state: Path | None, donor: str | None, arms: tuple[str, ...]
) -> str | None:
    """Return the one path of what was learned; check that the options fit."""
    if donor is not None and checkpoint is None and state is None:
        raise UsageError("--donor would have no effect: it goes with --checkpoint or --state; leave it out")
    check_arms(arms, learned="--state" if state is not None else checkpoint and "--checkpoint")
    return named_learned(checkpoint, state)


def _donor(donor: str | None) -> str | None:
    """Return the path of another person's run or tuned state."""
    if donor is not None and Path(donor).suffix in STATE_SUFFIXES:
        return named_learned(None, Path(donor))
    return named_learned(donor, None)


def _read(sources: Sequence[str], redact: Redactor | bool) -> tuple[list[Trace], str, dict[str, int]]:
    """Read sources to their end; return the traces with text, the source in words, and what was redacted.

    Raises:
        SourceError: there are none.
    """
    with open_source(list(sources), follow=False, redact=redact, say=note) as source:
        say(f"source: {source.description}")
        with reading_progress(source, sources):
            traces = [trace for trace in source if render(trace)]
        if not traces:
            raise SourceError(no_text(source))
        return traces, source.description, dict(source.report.redacted)


def _sample() -> list[Trace]:
    with open_source([str(sample_folder())], follow=False) as source:
        return list(source)


def _help(workers: int) -> None:
    """Run this process's share of the arms and controls of the first one."""
    import torch

    from sttx_train.evaluate import help_evaluate

    with together(torch.device("cpu")) as processes:
        help_evaluate(processes, workers=workers)


def _run(evaluation: "Evaluation", workers: int | None) -> dict[str, Any]:
    """Run the arms and controls, with the other processes if there are any; show progress and warnings."""
    jobs, several = len(evaluation.jobs), process_count()
    if several > 1:
        say(f"processes: {several}, which share {count(jobs, 'run')}")
        workers = workers or 1
    if workers is None:
        free = free_cores(cores(), running())
        workers = min(free.threads, jobs)
        say(f"workers: {workers} ({free.reason}; {count(jobs, 'run')} to do)")
    total = evaluation.tokens if several == 1 else None  # the other processes do not tell how far they are
    group, bar = together(evaluation.loaded.model.device), progress_bar("evaluating", total, "tokens")
    with group as processes, bar as advance:
        report = evaluation.run(workers=min(workers, jobs), advance=advance, processes=processes)
    for text in report["warnings"]:
        note(text)
    return report


def _emit(report: dict[str, Any]) -> None:
    sessions = count(len(report["sessions"]), "session")
    where = one_line(report["source"], 500)
    emit_table(f"{sessions}, {report['bytes']:,} bytes in {where}", arms_table(report))
    emit_line("")
    emit_table("by kind of trace, bits per byte", kinds_table(report))
    if report["controls"] is not None:
        emit_line("")
        emit_table("controls of the tuned state, bits per byte", controls_table(report))
    emit_line("")
    emit_text("\n".join([*report["sentences"], redacted_line(report["redacted"])]).rstrip())

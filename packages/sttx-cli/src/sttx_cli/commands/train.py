"""`sttx train`: traces in, a state that has learned out. Connects a source to the trainer and reports."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sttx_ccsniff import Source, open_source
from sttx_cli.loading import load, prepare_experts, prepare_kernels
from sttx_cli.options import CommaList, Grouped, Moment, Name, PathName, build, config_options, refuse_unused
from sttx_cli.output import count, emit_json, emit_text, note, say
from sttx_cli.panel import StepPanel
from sttx_cli.places import check_log_dir
from sttx_cli.processes import hush_others, settle_follow, together
from sttx_cli.progress import progress_bar
from sttx_cli.redaction import chosen_redaction, redact_options
from sttx_cli.runs import check_model, device_options, kernel_option, model_option, named_state
from sttx_cli.signals import Interruptible
from sttx_cli.sources import (
    SOURCES,
    check_sources,
    from_option,
    named_sources,
    no_text,
    sources_or_default,
)
from sttx_cli.summary import run_summary
from sttx_cli.threads import (
    choose_threads,
    follows_live,
    lower_priority,
    threads_before,
    threads_option,
    use_threads,
    useful_threads,
)
from sttx_core.errors import SourceError
from sttx_core.phrases import PhraseConfig
from sttx_train.devices import Device, DtypeName
from sttx_train.formats import EMBEDDED
from sttx_train.online import PHRASES, LearnerConfig, parse_scopes
from sttx_train.stream import StreamConfig
from sttx_train.wkv import Backend

if TYPE_CHECKING:
    from sttx_train import LoadedModel, Progress, StreamTrainer

_RENAMED = {"--sessions": "--max-documents", "--phrase-window": "--phrase-pair-window"}


@click.command("train", cls=Grouped, renamed=_RENAMED)
@click.argument("arguments", nargs=-1, type=Name(), metavar="[SOURCE]...")
@from_option(
    f"What to read: {SOURCES}. May be repeated; --ccsniff-from is the same. By default your Claude Code "
    "history, or a small sample if there is none.",
)
@click.option(
    "--follow/--no-follow",
    default=None,
    help="Wait for new traces after the history, or stop at its end. By default an agent's history is "
    "followed, and a file or folder is not.",
)
@click.option(
    "--since",
    type=Moment(),
    default=0.0,
    metavar="TIME",
    help="Skip older traces. A date (2026-01-31), a time (2026-01-31T09:00), or an age: 30m, 12h, 7d.",
)
@click.option(
    "--checkpoint-dir",
    type=PathName(path_type=Path, file_okay=False),
    required=True,
    help="Folder for checkpoints and metrics.jsonl.",
)
@click.option("--resume", is_flag=True, help="Continue the run in --checkpoint-dir where it was saved.")
@model_option
@click.option(
    "--state",
    type=PathName(path_type=Path, dir_okay=False),
    default=None,
    metavar="FILE",
    help="Start from a tuned state: a .safetensors, .pth or .st file.",
)
@device_options
@kernel_option
@threads_option
@redact_options
@config_options(StreamConfig, title="The run")
@config_options(LearnerConfig, title="Learning", types={"scope": CommaList(parse_scopes)})
@config_options(PhraseConfig, title="Phrases", prefix="phrase_", defaults=PHRASES)
@click.option("--verbose", is_flag=True, help="Show also the size of replay and the gradient of S0.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output at the end.")
def command(
    arguments: tuple[str, ...],
    from_sources: tuple[str, ...],
    follow: bool | None,
    since: float,
    checkpoint_dir: Path,
    resume: bool,
    model: str | None,
    state: Path | None,
    device: Device,
    dtype: DtypeName,
    kernel: Backend,
    threads: int,
    verbose: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Learn from a stream of traces, and keep what was learned.

    SOURCE is what to read; --from SOURCE means the same. Every window of a session is first paid for, in bits
    per byte, and then learned from. Ctrl-C finishes the step, saves and stops; --resume continues from there.

    Several processes share the documents of each step: torchrun --nproc-per-node N -m sttx_cli train ...
    """
    learning, stream, phrases = _configs(options)
    first = hush_others()
    check_model(model, EMBEDDED)
    redact = chosen_redaction(options.pop("no_redact"), options.pop("redact_rules"))
    reading: dict[str, Any] = {"follow": follow, "since": since, "redact": redact}
    sources: list[str] = []
    if first:
        named = named_sources(arguments, from_sources, beside=checkpoint_dir, model=model)
        _check_places(checkpoint_dir, stream, state, resume)
        with progress_bar("looking for the source"):
            sources = sources_or_default(named)
            reading["follow"] = settle_follow(sources, follow, say)
            check_sources(sources, "--model", EMBEDDED, **reading)
    follows = _yield_to_live_work(sources, reading["follow"])
    loaded = load(model, device, dtype, kernel)
    before = threads_before(checkpoint_dir) if resume else None
    step = stream.window * (1 if stream.batch == "auto" else stream.batch) * loaded.model.config.hidden_size
    choice = choose_threads(threads, before=before, most=useful_threads(step, follows=follows))
    use_threads(choice, say, before=before)
    prepare_kernels(loaded, learns=bool(learning.scope))
    if stream.experts == "on":
        prepare_experts()
    places: dict[str, Any] = {"directory": checkpoint_dir, "resume": resume, "state": state}
    with _trainer(loaded, learning, stream, phrase_config=phrases, history=not follows, **places) as trainer:
        if not first:
            _follow(trainer)
            return
        with open_source(sources, cursor=trainer.cursor, say=note, **reading) as source:
            say(f"source: {source.description}")
            report = _train(trainer, source, fresh=not resume, verbose=verbose)
    emit_text(run_summary(report), err=as_json)
    if as_json:
        emit_json(report)


@contextmanager
def _trainer(loaded: "LoadedModel", *configs: Any, resume: bool, **options: Any) -> Iterator["StreamTrainer"]:
    """Make the trainer, together with the other processes if there are any, and say how it runs."""
    with progress_bar("loading PyTorch"):
        from sttx_train import StreamTrainer
    with together(loaded.model.device) as workers:
        with progress_bar("preparing the learner"):
            trainer = StreamTrainer(loaded, *configs, resume=resume, workers=workers, **options)
        if workers.count > 1:
            say(f"processes: {workers.count}, each with its share of the documents")
        say(f"batch: {count(int(trainer.config.batch), 'window')} a step ({trainer.batch_reason})")
        if resume:
            say(f"resumed: at step {trainer.totals.steps} of {str(trainer.checkpoint)!r}")
        yield trainer


def _follow(trainer: "StreamTrainer") -> None:
    """Compute for the first process until it ends the run; a first signal is for that one, which saves."""
    with Interruptible(lambda: None, lambda: None):
        trainer.run([])


def _configs(options: dict[str, Any]) -> tuple[LearnerConfig, StreamConfig, PhraseConfig]:
    """Make the configs of the options, and refuse options without effect."""
    phrases = build(PhraseConfig, options, prefix="phrase_")
    stream = build(StreamConfig, options)
    refuse_unused(stream.without_effect())
    learning = build(LearnerConfig, options)
    refuse_unused(learning.without_effect())
    if learning.phrases == "off":
        refuse_unused(dict.fromkeys(vars(phrases), "phrases are off"), prefix="phrase_")
    return learning, stream, phrases


def _check_places(folder: Path, stream: StreamConfig, state: Path | None, resume: bool) -> None:
    """Check, before any work, that the run can be written and that a state to start from is there."""
    from sttx_train.run_folder import RunFolder  # not at the head of the file: help must not load safetensors

    if state is not None:
        named_state(state)
    check_log_dir()
    RunFolder(folder, kind="stream", keep=stream.keep).expect(resume=resume)


def _yield_to_live_work(sources: list[str], follow: bool | None) -> bool:
    """Lower the priority of a run that follows live work; return whether it does."""
    follows = follows_live(sources, follow)
    if follows and (priority := lower_priority()):
        say(f"priority: {priority} (the run follows live work, which comes first)")
    return follows


def _train(trainer: "StreamTrainer", source: Source, *, fresh: bool, verbose: bool) -> dict[str, Any]:
    """Run until the steps are done, the stream ends or a signal comes; return the report."""

    def release() -> None:
        try:
            panel.close()
            say("finishing this step, then saving; interrupt again to end at once")
        finally:
            source.close()

    def show(progress: "Progress") -> None:
        gate = trainer.learner.gate
        panel.show(progress.metrics, trial=not (gate.decided and gate.kept))

    before, started = replace(trainer.totals), time.monotonic()
    panel = StepPanel(trainer.config.steps, before.steps, verbose=verbose)
    with Interruptible(trainer.stop, release) as interruptible, panel:
        if fresh and not source.wait() and not interruptible.signaled:
            raise SourceError(_no_trace(source))
        trainer.run(source, show, cursor=lambda: source.cursor, save_empty=not fresh)
        if fresh and not trainer.totals.steps and not interruptible.signaled:
            raise SourceError(_no_trace(source))
    steps, wanted = trainer.totals.steps, trainer.config.steps
    ended = "interrupted" if interruptible.signaled else "end of stream"
    counts = source.report.as_dict()
    del counts["text_bytes"]  # the run's own `bytes` are the same
    return {
        **trainer.report(),
        "ended": "steps" if wanted and steps >= wanted else ended,
        "steps_wanted": wanted,
        "steps_this_run": steps - before.steps,
        "seconds": time.monotonic() - started,
        "source": {"description": source.description, **counts},
    }


def _no_trace(source: Source) -> str:
    """Say why there is nothing to learn from in a source."""
    report = source.report
    if old := sum(count for reason, count in report.skipped.items() if "before the time asked for" in reason):
        return f"no trace in {source.description} is as new as --since asks: {old:,} older ones were skipped"
    return no_text(source)

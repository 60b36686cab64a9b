"""`sttx train`: traces in, a state that has learned out. Wires a source to the trainer and tells about it."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import click

from sttx_ccsniff import Source, default_source, open_source
from sttx_cli.options import CommaList, Grouped, Moment, Name, PathName, build, config_options, refuse_idle
from sttx_cli.output import ProgressView, emit_json, say
from sttx_cli.redaction import chosen_redaction, redact_options
from sttx_cli.signals import Interruptible
from sttx_cli.summary import run_summary
from sttx_core.errors import SourceError
from sttx_core.phrases import PhraseConfig
from sttx_train.checkpoint.store import CheckpointStore
from sttx_train.devices import Device, DtypeName, choose_device, choose_dtype
from sttx_train.formats import EMBEDDED, LoadedModel, load_model
from sttx_train.online import PHRASES, LearnerConfig, parse_scopes
from sttx_train.stream.trainer import StreamConfig, StreamTrainer
from sttx_train.wkv import BACKENDS, Backend


@click.command("train", cls=Grouped)
@click.option(
    "--ccsniff-from",
    "sources",
    metavar="SOURCE",
    multiple=True,
    help="What to read: claude, codex, opencode, live, a file or folder, or - for standard input. May be "
    "repeated. "
    "By default your Claude Code history, or a small sample where there is none.",
)
@click.option(
    "--follow/--no-follow",
    default=None,
    help="Go on after the history with what is written, or end there. By default what an agent keeps is "
    "followed, a file or folder is not.",
)
@click.option(
    "--since",
    type=Moment(),
    default=0.0,
    metavar="TIME",
    help="Pass over what is older: 2026-01-31, 2026-01-31T09:00, or so long ago: 30m, 12h, 7d.",
)
@click.option(
    "--checkpoint-dir",
    type=PathName(path_type=Path, file_okay=False),
    required=True,
    help="Folder for checkpoints and metrics.jsonl.",
)
@click.option("--resume", is_flag=True, help="Continue the run in --checkpoint-dir where it was saved.")
@click.option(
    "--model",
    type=Name(),
    default=None,
    help=f"A folder, a .pth or .safetensors file, or an id of Hugging Face's hub; by default {EMBEDDED}.",
)
@click.option(
    "--device",
    type=click.Choice(get_args(Device)),
    default="auto",
    show_default=True,
    help="Where the model runs; auto takes a GPU where there is one.",
)
@click.option(
    "--dtype",
    type=click.Choice(get_args(DtypeName)),
    default="auto",
    show_default=True,
    help="Number type of the model's weights; auto takes float32 on a CPU, bfloat16 on a GPU.",
)
@click.option(
    "--kernel",
    type=click.Choice(BACKENDS),
    default="auto",
    show_default=True,
    help="What computes the recurrence; auto takes the fastest that runs on the device.",
)
@redact_options
@config_options(StreamConfig, title="The run")
@config_options(LearnerConfig, title="Learning", types={"scope": CommaList(parse_scopes)})
@config_options(PhraseConfig, title="Phrases", prefix="phrase_", defaults=PHRASES)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output at the end.")
def command(
    sources: tuple[str, ...],
    follow: bool | None,
    since: float,
    checkpoint_dir: Path,
    resume: bool,
    model: str | None,
    device: Device,
    dtype: DtypeName,
    kernel: Backend,
    as_json: bool,
    **options: Any,
) -> None:
    """Learn from a stream of traces, and keep what was learned.

    Every window of a session is priced first, in bits per byte, and then learned from. Ctrl-C finishes the
    step, saves and ends; --resume goes on from there.
    """
    phrases = build(PhraseConfig, options, prefix="phrase_")
    stream = build(StreamConfig, options)
    learning = build(LearnerConfig, options)
    # What cannot be is refused before a model is loaded.
    refuse_idle(learning.idle())
    if learning.phrases == "off":
        refuse_idle(dict.fromkeys(vars(phrases), "phrases are off"), prefix="phrase_")
    CheckpointStore(checkpoint_dir).expect(run=resume)
    specs = _specs(sources)
    redact = chosen_redaction(options.pop("no_redact"), options.pop("redact_rules"))
    reading: dict[str, Any] = {"follow": follow, "since": since, "redact": redact}
    open_source(specs, **reading).close()
    trainer = StreamTrainer(
        _load(model, device, dtype, kernel),
        learning,
        stream,
        directory=checkpoint_dir,
        phrase_config=phrases,
        resume=resume,
    )
    if resume:
        say(f"resumed: at step {trainer.totals.steps} of {str(trainer.checkpoint)!r}")
    with open_source(
        specs, cursor=trainer.cursor, say=lambda text: say(f"note: {text}"), **reading
    ) as source:
        say(f"source: {source.description}")
        report = _follow(trainer, source, fresh=not resume)
    told = source.report.as_dict()
    del told["text_bytes"]  # the run's own `bytes` say it
    report["source"] = {"description": source.description, **told}
    click.echo(run_summary(report), err=as_json)
    if as_json:
        emit_json(report)


def _specs(sources: tuple[str, ...]) -> list[str]:
    if sources:
        return list(sources)
    chosen = default_source()
    say(f"source: {chosen.spec!r} ({chosen.reason})")
    return [chosen.spec]


def _load(model: str | None, device: Device, dtype: DtypeName, kernel: Backend) -> LoadedModel:
    where = choose_device(device)
    number = choose_dtype(where.device, dtype)
    loaded = load_model(model, device=where.device, dtype=number.dtype, kernel=kernel)
    sizes = loaded.model.config
    say(
        f"model: {loaded.id} ({'asked for' if model else 'none named: the one that comes with sttx'}; "
        f"{sizes.num_layers} layers of {sizes.hidden_size}, {sizes.vocab_size} tokens)"
    )
    say(f"device: {where.device} ({where.reason})")
    say(f"dtype: {str(number.dtype).removeprefix('torch.')} ({number.reason})")
    say(f"kernel: {loaded.kernel.backend} ({loaded.kernel.reason})")
    return loaded


def _follow(trainer: StreamTrainer, source: Source, *, fresh: bool) -> dict[str, Any]:
    """Run to the end, whichever comes first, and report it with why and how long."""

    def release() -> None:
        say("finishing this step, then saving; interrupt again to end at once")
        source.close()

    before, started = replace(trainer.totals), time.monotonic()
    with (
        Interruptible(trainer.stop, release) as interruptible,
        ProgressView(trainer.config.steps, before.steps) as view,
    ):
        if fresh and not source.wait() and not interruptible.signalled:
            raise SourceError(_nothing(source))
        trainer.run(source, lambda progress: view.show(progress.metrics), cursor=lambda: source.cursor)
    steps, wanted = trainer.totals.steps, trainer.config.steps
    ended = "interrupted" if interruptible.signalled else "end of stream"
    return {
        **trainer.report(),
        "ended": "steps" if wanted and steps >= wanted else ended,
        "steps_wanted": wanted,
        "steps_this_run": steps - before.steps,
        "seconds": time.monotonic() - started,
    }


def _nothing(source: Source) -> str:
    """Say that an empty source is a failure, no short run."""
    report = source.report
    if old := sum(count for reason, count in report.skipped.items() if "before the time asked for" in reason):
        return (
            f"no trace in {source.description} is young enough: {old:,} older than --since were passed over"
        )
    return (
        f"no trace in {source.description}: {report.records} records could be read, "
        f"{report.malformed.total()} could not; `sttx validate-data` says more"
    )

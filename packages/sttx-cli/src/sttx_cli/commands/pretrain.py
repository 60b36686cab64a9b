"""`sttx pretrain`: any sequence data in, a base model out. Connects data to the pretrainer and reports."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sttx_cli.options import Grouped, Name, PathName, build, config_options, refuse_unused
from sttx_cli.output import count, emit_json, emit_text, number, say
from sttx_cli.places import check_log_dir, check_writable
from sttx_cli.progress import progress_bar
from sttx_cli.redaction import redact_options
from sttx_cli.runs import check_model, log_option
from sttx_cli.session_texts import split_sessions
from sttx_cli.signals import Interruptible
from sttx_cli.sources import SESSIONS_HELP, from_option, require_data
from sttx_cli.threads import choose_threads, threads_before, threads_option, use_threads
from sttx_cli.tokenizer import chosen_tokenizer, say_numbering, tokenizer_option
from sttx_cli.training_data import checked_sessions, opened_data
from sttx_core.errors import UsageError
from sttx_core.tokenizers import AnyTokenizer, Tokenizer
from sttx_train.architectures import NAMES, architecture_of
from sttx_train.environment import is_first_process, torchrun_launched
from sttx_train.formats import EMBEDDED
from sttx_train.pretrain import PretrainConfig

if TYPE_CHECKING:
    from sttx_train.data import Data
    from sttx_train.pretrain import Pretrainer, PretrainReport, PretrainStep, Validation

_LINE_SECONDS = 10.0
_SIZES = ("architecture", "ghost_ratio", "hidden_size", "layers", "head_size")
_RENAMED = {"--held-out": "--validation", "--phrases": "--phrase-prob"}


@click.command("pretrain", cls=Grouped, renamed=_RENAMED)
@click.argument("data", nargs=-1, type=Name(), metavar="[DATA]...")
@from_option(SESSIONS_HELP)
@click.option(
    "--out", type=PathName(path_type=Path, file_okay=False), required=True, help="The model's folder."
)
@tokenizer_option("By default that of --start-from, or of the model that comes with sttx.")
@click.option(
    "--start-from",
    "start",
    type=Name(),
    default=None,
    metavar="MODEL",
    help="A model to start from: a folder, a file, an id on the Hugging Face hub, or goose-mini.",
)
@click.option(
    "--checkpoint-dir",
    type=PathName(path_type=Path, file_okay=False),
    default=None,
    help="Folder for checkpoints and metrics.jsonl; by default the one of --out with -run added.",
)
@click.option(
    "--store",
    type=click.Choice(["int8", "int4"]),
    default=None,
    help="Store the matrices of --out in codes of so many bits, as `sttx compress-model` does.",
)
@click.option("--resume", is_flag=True, help="Continue the run in --checkpoint-dir where it was saved.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to train; auto takes a CUDA device if there is one.",
)
@log_option
@threads_option
@redact_options
@config_options(PretrainConfig, title="Model and training", skip=("vocab_size",))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output at the end.")
def command(
    data: tuple[str, ...],
    from_sources: tuple[str, ...],
    out: Path,
    tokenizer: str | None,
    start: str | None,
    checkpoint_dir: Path | None,
    store: str | None,
    resume: bool,
    device: Any,
    threads: int,
    log: tuple[Any, ...],
    no_redact: bool,
    redact_rules: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a base model on text, numbers or sessions.

    DATA is what `sttx data` reads: text files and folders, JSON lines, .npy arrays of whole numbers, pairs of
    .bin and .idx, flat .bin files of ids, and coding agents' sessions (also named with --from), which
    are redacted. A part of the data is kept for validation; --out gets the model with the lowest validation
    loss.

    Ctrl-C saves and stops; --resume continues. With several processes: torchrun --nproc-per-node N -m
    sttx_cli pretrain ...
    """
    require_data(data, from_sources)
    config = _config(options, start, store)
    directory = checkpoint_dir or out.parent / f"{out.name or 'model'}-run"
    paths, sessions = split_sessions(data)
    sessions += from_sources
    check_model(start, EMBEDDED)
    _check_places(out, directory, paths, resume=resume)
    redact = checked_sessions(sessions, "--start-from", no_redact, redact_rules)
    with progress_bar("loading PyTorch"):
        from sttx_train.pretrain import Pretrainer
    talk = say if is_first_process() else _silent
    before = threads_before(directory) if resume else None
    use_threads(choose_threads(threads, before=before), talk, before=before)
    _note_a_short_run(config, talk)
    with progress_bar("loading the tokenizer" if start is None else f"loading {start}"):
        pretrainer = Pretrainer(
            config,
            directory,
            tokenizer=_tokenizer(tokenizer, start, paths, directory if resume else None, talk),
            start=start,
            device=device,
            resume=resume,
            log=log,
            say=lambda text: talk(f"note: {text}"),
        )
    _check_store(pretrainer, store)
    if is_first_process():  # only now is it known: a run to resume may number otherwise
        say_numbering(pretrainer.tokenizer)
    opened = opened_data(paths, sessions, redact, pretrainer.tokenizer, talk)
    report, ended = _train(pretrainer, opened, talk)
    if is_first_process():
        _finish(pretrainer, report, opened, out if ended == "done" else None, store, as_json=as_json)


def _config(options: dict[str, Any], start: str | None, store: str | None) -> PretrainConfig:
    """Make the config of the options, and refuse options without effect."""
    config = build(PretrainConfig, options)
    if store is not None and config.architecture != "x070":
        raise UsageError(f"--store is for --architecture x070, not {config.architecture}: leave it out")
    refuse_unused(config.without_effect(alone=not torchrun_launched()))
    if start is not None:
        refuse_unused(dict.fromkeys(_SIZES, "the architecture and sizes are those of --start-from"))
    return config


def _check_store(pretrainer: "Pretrainer", store: str | None) -> None:
    """Check, before the training, that the model to start from can be stored in codes."""
    if store is not None and pretrainer.start is not None:
        from sttx_train.shrink import ShrinkConfig, check_shrinkable

        check_shrinkable(pretrainer.start.model, ShrinkConfig(bits=8 if store == "int8" else 4))


def _stored(pretrainer: "Pretrainer", data: "Data", out: Path, store: str) -> None:
    """Store the matrices of the model in codes, and say what that costs."""
    from sttx_train import load_model
    from sttx_train.shrink import ShrinkConfig, shrink_to

    config = pretrainer.config
    shrink = ShrinkConfig(bits=8 if store == "int8" else 4, validation=config.validation, seed=config.seed)
    report = shrink_to(load_model(out), out, shrink, data.documents, tokenizer=pretrainer.tokenizer, say=say)
    prices = report.loss
    cost = f"; {prices['before']:.4f} nats per token before, {prices['after']:.4f} after" if prices else ""
    say(f"stored as {store}: {report.bytes['before']:,} bytes are {report.bytes['after']:,}{cost}")


def _finish(
    pretrainer: "Pretrainer",
    report: "PretrainReport",
    data: "Data",
    out: Path | None,
    store: str | None,
    *,
    as_json: bool,
) -> None:
    """Write the model, unless the run was interrupted, and print the report."""
    if out is not None:
        pretrainer.save_model(out)
        if store is not None:
            _stored(pretrainer, data, out, store)
    result = asdict(report) | {
        "ended": "interrupted" if out is None else "done",
        "out": None if out is None else str(out),
        "files_skipped": len(data.skipped),
        "lines_damaged": data.damaged,
    }
    emit_text(_summary(result | {"text": isinstance(pretrainer.tokenizer, Tokenizer)}), err=as_json)
    if as_json:
        emit_json(result)


def _check_places(out: Path, directory: Path, data: Sequence[Path], *, resume: bool) -> None:
    """Check, before any work, that the model and the run can be written and lie outside their own data."""
    from sttx_train.formats import check_destination
    from sttx_train.run_folder import RunFolder  # not at the head of the file: help must not load safetensors

    check_destination(out)
    check_log_dir()
    if out.resolve() == directory.resolve():
        raise UsageError(f"--out and --checkpoint-dir are both {str(out)!r}: give two folders")
    check_writable(out, "--out")
    for folder in (out, directory):
        for path in data:
            if path.is_dir() and folder.resolve().is_relative_to(path.resolve()):
                raise UsageError(f"{str(folder)!r} is inside the data in {str(path)!r}: write it elsewhere")
    RunFolder(directory, kind="pretrain", keep=1).expect(resume=resume)


def _tokenizer(
    spec: str | None,
    start: str | None,
    data: Sequence[Path],
    resumed: Path | None,
    talk: Callable[[str], None],
) -> AnyTokenizer | None:
    """Return the tokenizer, numbered as in the run to resume; None if the model to start from has its own."""
    if spec is None and start is not None:
        return None
    tokenizer = chosen_tokenizer(spec, data, talk)
    if resumed is not None:
        from sttx_train import CheckpointStore
        from sttx_train.formats import numbered_as

        return numbered_as(CheckpointStore(resumed).manifest().get("tokenizer_sha256"), tokenizer)
    return tokenizer


def _train(pretrainer: "Pretrainer", data: "Data", talk: Any) -> "tuple[PretrainReport, str]":
    """Train until the end or an interruption; return the report and which it was."""
    progress = _Progress(pretrainer, talk)
    saving = "saving; interrupt again to end at once"
    with Interruptible(lambda: None, lambda: talk(saving)) as interruptible:
        report = pretrainer.fit(data, progress.show, stop=lambda: interruptible.signaled is not None)
        ended = "done" if interruptible.signaled is None else "interrupted"
    return report, ended


class _Progress:
    """Prints a line now and then about how far a run is."""

    def __init__(self, pretrainer: "Pretrainer", talk: Any) -> None:
        self._pretrainer, self._talk, self._last_line = pretrainer, talk, 0.0

    def show(self, step: "PretrainStep") -> None:
        trainer = self._pretrainer.trainer
        assert trainer is not None
        if not self._last_line:
            sizes = trainer.model.config
            parameters = f"{trainer.parameters:,} parameters"
            name = NAMES[architecture_of(sizes)]
            self._talk(
                f"model: {count(sizes.num_layers, 'layer')} of {sizes.hidden_size}, {parameters}, {name}"
            )
        if step.validation is not None:
            self._talk(f"validation at step {step.step}: {_validation(step.validation)}")
        if time.monotonic() - self._last_line > _LINE_SECONDS or trainer.progress() >= 1:
            self._last_line = time.monotonic()
            rate = step.tokens / step.seconds if step.seconds else 0.0
            done = f"step {step.step} · {100 * trainer.progress():.0f}% · loss {step.loss:.3f}"
            self._talk(f"{done} · lr {step.lr:.2e} · |grad| {step.grad_norm:.2f} · tokens/s {rate:,.0f}")


def _validation(result: "Validation") -> str:
    bits = "" if result.bpb is None else f", {result.bpb:.4f} bits per byte"
    phrases = _with_phrases(
        result.phrases_loss, result.phrases_bpb, result.phrases_steps_per_byte, result.steps_per_byte
    )
    return f"{result.loss:.4f} nats or {result.loss / math.log(2):.4f} bits per token{bits}{phrases}"


def _with_phrases(
    loss: float | None, bpb: float | None, steps_per_byte: float | None, without: float | None
) -> str:
    """Write the validation loss of reading with phrases; empty for a model without them."""
    if loss is None:
        return ""
    text = f"; with phrases {number(loss)} nats per token"
    if bpb is not None:
        text += f", {number(bpb)} bits per byte at {number(steps_per_byte)} steps per byte"
        text += f" instead of {number(without)}"
    return text


def _note_a_short_run(config: PretrainConfig, talk: Callable[[str], None]) -> None:
    if 0 < config.steps < config.warmup:
        talk(f"note: the run ends before the learning rate reaches its peak: --warmup {config.warmup}")


def _silent(_: str) -> None:
    """Print nothing: the first process does."""


def _summary(report: dict[str, Any]) -> str:
    text = f"{count(report['steps'], 'step')}, {report['tokens']:,} tokens in {report['seconds']:.1f} s; "
    text += f"training loss {number(report['loss']['train'])} nats per token"
    if report["out"] is None:
        return f"Interrupted. {text}.\nContinue with the same command and --resume."
    use = f"use it with --model {report['out']}. " if report["text"] else ""
    where = f"Model: {report['out']}; {use}Run: {report['checkpoint']}."
    loss, bpb, steps = report["loss"], report["bpb"], report["steps_per_byte"]
    if loss["validation"] is None:
        return f"{text}.\n{where}"
    validation = f"Validation: {number(loss['validation'])} nats per token"
    if bpb["validation"] is not None:
        validation += f", {number(bpb['validation'])} bits per byte"
    name = "validation_phrases"
    validation += _with_phrases(loss[name], bpb[name], steps[name], steps["validation"])
    return f"{text}.\n{validation}.\n{where}"

"""`sttx pretrain`: any sequence data in, a base model out. Wires data to the pretrainer, tells about it."""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sttx_ccsniff.redact import Redactor
from sttx_cli.bar import progress_bar
from sttx_cli.options import Grouped, Name, PathName, build, config_options, refuse_unused
from sttx_cli.output import emit_json, number, say
from sttx_cli.redaction import redact_options, redaction_of_sessions
from sttx_cli.session_texts import SessionTexts, parted
from sttx_cli.signals import Interruptible
from sttx_cli.tokenizer import chosen_tokenizer, tokenizer_option
from sttx_core.errors import UsageError
from sttx_core.tokenizers import AnyTokenizer, Tokenizer
from sttx_train.data import Data, open_data
from sttx_train.environment import is_first_process, torchrun_launched
from sttx_train.pretrain import PretrainConfig

if TYPE_CHECKING:
    from sttx_train.pretrain import Pretrainer, PretrainReport, PretrainStep

_TELL_SECONDS = 10.0
_SIZES = ("hidden_size", "layers", "head_size")


@click.command("pretrain", cls=Grouped)
@click.argument("data", nargs=-1, required=True, type=Name(), metavar="DATA...")
@click.option(
    "--out", type=PathName(path_type=Path, file_okay=False), required=True, help="The model's folder."
)
@tokenizer_option("By default that of --from, or of the model that comes with sttx.")
@click.option(
    "--from",
    "start",
    type=Name(),
    default=None,
    metavar="MODEL",
    help="A model to go on from: a folder, a file, an id of Hugging Face's hub, or goose-mini.",
)
@click.option(
    "--checkpoint-dir",
    type=PathName(path_type=Path, file_okay=False),
    default=None,
    help="Folder for checkpoints and metrics.jsonl; by default the model's with -run added.",
)
@click.option("--resume", is_flag=True, help="Continue the run in --checkpoint-dir where it was saved.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to train; auto takes a CUDA device where there is one.",
)
@click.option(
    "--log",
    multiple=True,
    type=click.Choice(["tensorboard", "wandb"]),
    help="Where the numbers go beside metrics.jsonl.",
)
@redact_options
@config_options(PretrainConfig, title="Model and training", skip=("vocab_size",))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output at the end.")
def command(
    data: tuple[str, ...],
    out: Path,
    tokenizer: str | None,
    start: str | None,
    checkpoint_dir: Path | None,
    resume: bool,
    device: Any,
    log: tuple[Any, ...],
    no_redact: bool,
    redact_rules: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a base model on text, numbers or sessions.

    DATA is what `sttx data` reads: text files and folders, JSON lines, .npy arrays of whole numbers, pairs
    of .bin and .idx, flat .bin files of 16-bit ids, and coding agents' sessions (their files and folders,
    claude, codex, opencode), which are redacted. What is held out is measured now and then, and the model
    that did best on it is the one that --out gets.

    Ctrl-C saves and ends; --resume goes on. With several processes: torchrun --nproc-per-node N -m sttx_cli
    pretrain ...
    """
    from sttx_train.pretrain import Pretrainer  # torch comes with it

    config = build(PretrainConfig, options)  # bad options are refused before anything is loaded
    directory = checkpoint_dir or out.parent / f"{out.name or 'model'}-run"
    refuse_unused(config.idle(alone=not torchrun_launched()))
    if start is not None:
        refuse_unused(dict.fromkeys(_SIZES, "the sizes are those of --from"))
    paths, sessions = parted(data)
    _check_places(out, directory, paths)
    redact = redaction_of_sessions(sessions, no_redact, redact_rules)
    talk = say if is_first_process() else _silent
    if 0 < config.steps < config.warmup:
        talk(f"note: the run ends before the learning rate has risen to its peak: --warmup {config.warmup}")
    pretrainer = Pretrainer(
        config,
        directory,
        tokenizer=_tokenizer(tokenizer, start),
        start=start,
        device=device,
        resume=resume,
        log=log,
        say=lambda text: talk(f"note: {text}"),
    )
    opened = _opened(paths, sessions, redact, pretrainer.tokenizer, talk)
    report, ended = _train(pretrainer, opened, talk)
    if not is_first_process():
        return
    if ended == "done":
        pretrainer.save_model(out)
    told = asdict(report) | {"ended": ended, "out": str(out) if ended == "done" else None}
    told |= {"files_skipped": len(opened.skipped), "lines_damaged": opened.damaged}
    click.echo(_summary(told | {"text": isinstance(pretrainer.tokenizer, Tokenizer)}), err=as_json)
    if as_json:
        emit_json(told)


def _check_places(out: Path, directory: Path, data: Sequence[Path]) -> None:
    """Refuse before the training what would fail after it, or make the run a part of its own data."""
    from sttx_train.formats import check_destination

    check_destination(out)
    if out.resolve() == directory.resolve():
        raise UsageError(f"--out and --checkpoint-dir are both {str(out)!r}: give two folders")
    for folder in (out, directory):
        for path in data:
            if path.is_dir() and folder.resolve().is_relative_to(path.resolve()):
                raise UsageError(f"{str(folder)!r} is inside the data in {str(path)!r}: write it elsewhere")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{str(folder)!r} cannot be made: {error}") from error


def _tokenizer(spec: str | None, start: str | None) -> AnyTokenizer | None:
    """Choose the tokenizer; None leaves it to the model to start from."""
    return None if spec is None and start is not None else chosen_tokenizer(spec)


def _opened(
    paths: Sequence[Path],
    sessions: Sequence[str],
    redact: Redactor | bool,
    tokenizer: AnyTokenizer | None,
    talk: Any,
) -> Data:
    assert tokenizer is not None

    def note(text: str) -> None:
        talk(f"note: {text}")

    texts = SessionTexts(sessions, redact=redact, say=note) if sessions else None
    if is_first_process():
        with progress_bar("reading", None, "bytes") as progress:
            opened = open_data(paths, tokenizer, texts=texts, say=note, progress=progress)
    else:
        opened = open_data(paths, tokenizer, texts=texts)
    lengths = opened.documents.lengths
    per_id = f" ({opened.text_bytes / lengths.sum():.2f} bytes each)" if opened.text_bytes else ""
    talk(f"data: {lengths.sum():,} ids{per_id} in {len(lengths):,} documents")
    if opened.skipped:
        talk(f"skipped as no text: {len(opened.skipped):,}, such as {str(opened.skipped[0])!r}")
    return opened


def _train(pretrainer: "Pretrainer", data: Data, talk: Any) -> "tuple[PretrainReport, str]":
    """Run to the end or an interruption."""
    teller = _Teller(pretrainer, talk)
    saving = "saving; interrupt again to end at once"
    with Interruptible(lambda: None, lambda: talk(saving)) as interruptible:
        report = pretrainer.fit(data, teller.show, stop=lambda: interruptible.signalled is not None)
        ended = "done" if interruptible.signalled is None else "interrupted"
    return report, ended


class _Teller:
    """Says now and then how far a run is."""

    def __init__(self, pretrainer: "Pretrainer", talk: Any) -> None:
        self._pretrainer, self._talk, self._told = pretrainer, talk, 0.0

    def show(self, step: "PretrainStep") -> None:
        trainer = self._pretrainer.trainer
        assert trainer is not None
        if not self._told:
            sizes = trainer.model.config
            count = f"{trainer.parameters:,} parameters"
            self._talk(f"model: {sizes.num_layers} layers of {sizes.hidden_size}, {count}")
        if step.held_out is not None:
            held = step.held_out
            bits = "" if held.bpb is None else f", {held.bpb:.4f} bits per byte"
            per_token = f"{held.loss:.4f} nats or {held.loss / math.log(2):.4f} bits a token"
            figures = (held.phrases_loss, held.phrases_bpb, held.phrases_steps_per_byte, held.steps_per_byte)
            self._talk(f"held out at step {step.step}: {per_token}{bits}{_over_phrases(*figures)}")
        if time.monotonic() - self._told > _TELL_SECONDS or trainer.progress() >= 1:
            self._told = time.monotonic()
            rate = step.tokens / step.seconds if step.seconds else 0.0
            done = f"step {step.step} · {100 * trainer.progress():.0f}% · loss {step.loss:.3f}"
            self._talk(f"{done} · lr {step.lr:.2e} · |grad| {step.grad_norm:.2f} · tokens/s {rate:,.0f}")


def _over_phrases(
    loss: float | None, bpb: float | None, steps_per_byte: float | None, without: float | None
) -> str:
    """Say what is held out costs when it is read over phrases; nothing where the model does not know them."""
    if loss is None:
        return ""
    told = f"; over phrases {number(loss)} nats a token"
    if bpb is not None:
        told += (
            f", {number(bpb)} bits per byte with {number(steps_per_byte)} steps a byte for {number(without)}"
        )
    return told


def _silent(_: str) -> None:
    """Let the first process talk."""


def _summary(report: dict[str, Any]) -> str:
    told = f"{report['steps']:,} steps, {report['tokens']:,} tokens in {report['seconds']:.1f} s; "
    told += f"loss {number(report['loss']['train'])} nats a token in training"
    if report["out"] is None:
        return f"Interrupted. {told}.\nGo on with the same command and --resume."
    use = f"use it with --model {report['out']}. " if report["text"] else ""
    where = f"Model: {report['out']}; {use}Run: {report['checkpoint']}."
    if report["loss"]["held_out"] is None:
        return f"{told}.\n{where}"
    held = f"Held out: {number(report['loss']['held_out'])} nats a token"
    if report["bpb"]["held_out"] is not None:
        held += f", {number(report['bpb']['held_out'])} bits per byte"
    loss, bpb, steps = report["loss"], report["bpb"], report["steps_per_byte"]
    name = "held_out_phrases"
    held += _over_phrases(loss[name], bpb[name], steps[name], steps["held_out"])
    return f"{told}.\n{held}.\n{where}"

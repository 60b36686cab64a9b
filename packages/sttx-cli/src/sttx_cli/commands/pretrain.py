"""`sttx pretrain`: text in, a small base model out. Wires a corpus to the pretrainer and tells about it."""

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from sttx_cli.options import Grouped, PathName, build, config_options
from sttx_cli.output import emit_json, number, say
from sttx_cli.signals import Interruptible
from sttx_core.tokenizers import Tokenizer, TrieTokenizer
from sttx_train.checkpoint import CheckpointStore
from sttx_train.formats import check_destination, load_model, save_model
from sttx_train.pretrain.corpus import Corpus, load_corpus
from sttx_train.pretrain.trainer import (
    PretrainConfig,
    Pretrainer,
    PretrainStep,
    drop_metrics_after,
    held_out_bits,
    write_metrics,
)

_TELL_SECONDS = 10.0


@click.command("pretrain", cls=Grouped)
@click.argument("data", nargs=-1, required=True, type=PathName(path_type=Path), metavar="DATA...")
@click.option(
    "--out", type=PathName(path_type=Path, file_okay=False), required=True, help="The model's folder."
)
@click.option(
    "--checkpoint-dir",
    type=PathName(path_type=Path, file_okay=False),
    default=None,
    help="Folder for checkpoints and metrics.jsonl; by default the model's with -run added.",
)
@click.option("--resume", is_flag=True, help="Continue the run in --checkpoint-dir where it was saved.")
@click.option(
    "--vocab",
    type=PathName(path_type=Path, exists=True, dir_okay=False),
    default=None,
    help="An RWKV vocabulary file; by default that of the model that comes with sttx.",
)
@click.option(
    "--held-out",
    type=float,
    default=0.01,
    show_default=True,
    help="Share of the text, its end, to measure on.",
)
@config_options(PretrainConfig, title="Model and training", skip=("vocab_size",))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output at the end.")
def command(
    data: tuple[Path, ...],
    out: Path,
    checkpoint_dir: Path | None,
    resume: bool,
    vocab: Path | None,
    held_out: float,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a small base model from text files.

    DATA are text files, folders of them, or packed .bin files of 16-bit ids. Ctrl-C saves and ends; --resume
    goes on. The model's folder is what --model of `sttx train` takes.
    """
    directory = checkpoint_dir or out.parent / f"{out.name or 'model'}-run"
    CheckpointStore(directory).expect(run=resume)
    check_destination(out)
    config = build(PretrainConfig, options, vocab_size=0)  # bad options are refused before anything is loaded
    tokenizer = _tokenizer(vocab)
    config = replace(config, vocab_size=tokenizer.vocab_size)
    corpus = load_corpus(data, tokenizer, held_out=held_out)
    say(
        f"text: {len(corpus.train):,} tokens to train on, {len(corpus.held):,} held out "
        f"({corpus.train_bytes / max(len(corpus.train), 1):.2f} bytes each)"
    )
    if corpus.skipped:
        say(f"skipped as no text: {len(corpus.skipped):,}, such as {str(corpus.skipped[0])!r}")
    trainer = Pretrainer(config, directory, resume=resume)
    parameters = sum(weight.numel() for weight in trainer.model.parameters())
    say(f"model: {config.layers} layers of {config.hidden_size}, {parameters:,} parameters")
    report = _train(trainer, corpus) | {
        "parameters": parameters,
        "checkpoint": str(directory),
        "files_skipped": len(corpus.skipped),
    }
    if report["ended"] == "done":
        save_model(trainer.model.eval(), out, tokenizer=tokenizer)
        report["out"] = str(out)
    click.echo(_summary(report), err=as_json)
    if as_json:
        emit_json(report)


def _tokenizer(vocab: Path | None) -> Tokenizer:
    if vocab is not None:
        return TrieTokenizer(vocab)
    loaded = load_model()
    say(f"vocabulary: of {loaded.id}, none named")
    return loaded.tokenizer


def _train(trainer: Pretrainer, corpus: Corpus) -> dict[str, Any]:
    """Run to the end or an interruption; measure what was held out."""
    per_byte = len(corpus.train) / max(corpus.train_bytes, 1) / math.log(2)
    told, last, metrics = 0.0, None, trainer.store.directory / "metrics.jsonl"
    drop_metrics_after(metrics, trainer.step)
    with Interruptible(lambda: None, lambda: say("saving; interrupt again to end at once")) as interruptible:
        for last in trainer.run(corpus.train):
            write_metrics(metrics, last)
            if time.monotonic() - told > _TELL_SECONDS or trainer.progress() >= 1:
                told = time.monotonic()
                _tell(trainer, last, per_byte)
            if interruptible.signalled:
                trainer.save()
                break
    done = interruptible.signalled is None
    bits = held_out_bits(trainer.model.eval(), corpus.held) if done and len(corpus.held) > 1 else None
    return {
        "ended": "done" if done else "interrupted",
        "steps": trainer.step,
        "tokens": last.tokens if last else 0,
        "seconds": trainer.seconds,
        "loss": last.loss if last else None,
        "bpb": {
            "train": last.loss * per_byte if last else None,
            "held_out": None if bits is None else bits / max(corpus.held_bytes, 1),
        },
        "out": None,
    }


def _tell(trainer: Pretrainer, step: PretrainStep, per_byte: float) -> None:
    rate = step.tokens / step.seconds if step.seconds else 0.0
    say(
        f"step {step.step} · {100 * trainer.progress():.0f}% · loss {step.loss:.3f} · "
        f"bpb about {step.loss * per_byte:.3f} · lr {step.lr:.2e} · |grad| {step.grad_norm:.2f} · "
        f"tokens/s {rate:,.0f}"
    )


def _summary(report: dict[str, Any]) -> str:
    told = f"{report['steps']:,} steps, {report['tokens']:,} tokens in {report['seconds']:.1f} s; "
    told += f"last loss {number(report['loss'])} nats a token, {number(report['bpb']['train'])} bits per byte"
    if report["out"] is None:
        return f"Interrupted. {told}.\nGo on with the same command and --resume."
    held = f"Held out: {number(report['bpb']['held_out'])} bits per byte."
    where = f"Model: {report['out']}; use it with --model {report['out']}. Run: {report['checkpoint']}."
    return f"{told}.\n{held}\n{where}"

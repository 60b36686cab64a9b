"""`sttx compress-model`: a model with smaller weights. Connects a model and data to it, and reports."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from sttx_cli.loading import load, prepare_kernels
from sttx_cli.options import Grouped, Name, PathName, build, config_options
from sttx_cli.output import emit_json, emit_table, facts, number, say
from sttx_cli.places import check_writable
from sttx_cli.progress import progress_bar
from sttx_cli.redaction import redact_options
from sttx_cli.runs import check_model
from sttx_cli.session_texts import split_sessions
from sttx_cli.sources import SESSIONS_HELP, from_option
from sttx_cli.threads import choose_threads, threads_option, use_threads
from sttx_cli.training_data import checked_sessions, opened_data
from sttx_core.errors import UsageError
from sttx_train.formats import EMBEDDED
from sttx_train.shrink import ShrinkConfig

_NEEDS_DATA = ("calibration", "validation", "heal_minutes")


@click.command("compress-model", cls=Grouped)
@click.argument("model", type=Name())
@click.argument("data", nargs=-1, type=Name(), metavar="[DATA]...")
@from_option(SESSIONS_HELP)
@click.option(
    "--out", type=PathName(path_type=Path, file_okay=False), required=True, help="The smaller model's folder."
)
@threads_option
@redact_options
@config_options(ShrinkConfig, title="How to make it smaller")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    model: str,
    data: tuple[str, ...],
    from_sources: tuple[str, ...],
    out: Path,
    threads: int,
    no_redact: bool,
    redact_rules: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Store a model's weights in fewer bytes, and price them.

    MODEL is a folder, a file, an id on the Hugging Face hub, or goose-mini. DATA is what `sttx pretrain`
    reads, and best what the model will read: a share of it prices both models, the rest says which errors
    matter (--calibration) and trains the smaller model (--heal-minutes). Without DATA nothing is priced.

    Every command takes the folder in --out as a model; docs/smaller.md has the forms and what they cost.
    """
    config = build(ShrinkConfig, options)
    check_model(model, EMBEDDED)
    paths, sessions = split_sessions(data)
    sessions += from_sources
    _check_places(out, paths)
    if not paths and not sessions:
        _refuse_without_data(config)
    redact = checked_sessions(sessions, "MODEL", no_redact, redact_rules)
    with progress_bar("loading PyTorch"):
        from sttx_train.shrink import check_shrinkable, shrink_to
    use_threads(choose_threads(threads), say)
    loaded = load(model, "cpu", "float32")
    check_shrinkable(loaded.model, config)
    documents = None
    if paths or sessions:
        prepare_kernels(loaded, learns=config.heal_minutes > 0)
        documents = opened_data(paths, sessions, redact, loaded.vocabulary, say).documents
    report = shrink_to(loaded, out, config, documents, say=say)
    if as_json:
        emit_json(asdict(report) | {"out": str(out)})
    else:
        _show(asdict(report), out)


def _check_places(out: Path, data: list[Path]) -> None:
    from sttx_train.formats import check_destination

    check_destination(out)
    check_writable(out, "--out")
    for path in data:
        if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
            raise UsageError(f"{str(out)!r} is inside the data in {str(path)!r}: write it elsewhere")


def _refuse_without_data(config: ShrinkConfig) -> None:
    """Refuse options that need data; those at their defaults have no effect."""
    defaults = ShrinkConfig(bits=8)
    for name in _NEEDS_DATA:
        if getattr(config, name) != getattr(defaults, name):
            raise UsageError(
                f"--{name.replace('_', '-')} would have no effect without DATA: name some, or leave it out"
            )


def _show(report: Mapping[str, Any], out: Path) -> None:
    units = {
        "bytes": "bytes of the weights",
        "numbers": "stored numbers",
        "multiplications": "multiplications a token",
        "bpb": "bits per byte",
        "loss": "nats per token",
    }
    rows: dict[str, object] = {
        unit: ", ".join(f"{_written(value)} {when}" for when, value in report[name].items())
        for name, unit in units.items()
        if report[name].get("before") is not None
    }
    worst = sorted(report["errors"].items(), key=lambda entry: -entry[1])[:3]
    rows["largest errors"] = [f"{100 * error:.1f}% of {name}" for name, error in worst]
    forms = ", ".join(f"{count} {form}" for form, count in report["forms"].items())
    emit_table(f"{out}: {forms}", facts(rows))


def _written(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else number(value)

"""`sttx export`: what was learned, as files of other programs. Connects a run to an export and reports."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sttx_cli.loading import load
from sttx_cli.options import Name, PathName
from sttx_cli.output import emit_json, emit_line, note, say
from sttx_cli.places import check_writable
from sttx_cli.progress import progress_bar
from sttx_cli.runs import check_model, model_option, named_state, without_pointer
from sttx_core.errors import UsageError
from sttx_train.export import (
    DTYPES,
    KINDS,
    ExportDtype,
    Kind,
    ModelKind,
    check_out,
    chosen_dtype,
    model_kind,
    state_kind,
)
from sttx_train.formats import EMBEDDED

if TYPE_CHECKING:
    from sttx_train.export import Exported

_SLOT = "llama-slot"
_INJECT = {"every": "at every window", "start": "at a document's start"}


@click.command("export")
@click.argument("checkpoint", type=Name(), default=None, required=False)
@click.option(
    "--state",
    type=PathName(path_type=Path, dir_okay=False),
    default=None,
    metavar="FILE",
    help="Export the tuned state in a file instead: .safetensors, .pth or .st.",
)
@click.option("--to", "kind", type=click.Choice(KINDS), required=True, help="What to write.")
@click.option(
    "--out",
    type=PathName(path_type=Path),
    required=True,
    help="The file to write; the folder, with --to huggingface.",
)
@model_option
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    default=None,
    help="Data type of a model's matrices; by default float32 for what a run has learned; of a model alone "
    "bfloat16, and float16 with --to gguf.",
)
@click.option(
    "--slot",
    type=PathName(path_type=Path, dir_okay=False),
    default=None,
    metavar="FILE",
    help="With --to llama-slot: a slot that the server has just saved after the prompt [0].",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    checkpoint: str | None,
    state: Path | None,
    kind: Kind,
    out: Path,
    model: str | None,
    dtype: ExportDtype | None,
    slot: Path | None,
    as_json: bool,
) -> None:
    r"""Write what was learned as files of other programs.

    CHECKPOINT is the folder of a run of `sttx train` or `sttx tune`, or of one of its checkpoints, or
    RUN/latest; a model can be written without one. docs/export.md says how other programs load each kind.

    \b
    state-pth    a tuned state for the rwkv package and RWKV-Runner; its origin is in FILE.json
    state-st     the same for web-rwkv programs such as ai00
    llama-slot   the same as a slot of a llama.cpp server
    huggingface  a model's folder, learned weights in their places
    blinkdl      a model's .pth, with its vocabulary beside it
    gguf         a model for llama.cpp
    """
    source = _source(checkpoint, state)
    _check(kind, source, state, out, model, dtype, slot)
    check_writable(out.parent, "the folder of --out,")
    if (of_model := model_kind(kind)) is not None:
        exported = _model(
            of_model, source, out, model, chosen_dtype(of_model, dtype, learned=source is not None)
        )
    else:
        assert source is not None
        exported = _state(kind, source, out, model, slot)
    _report(exported, as_json)


def _source(checkpoint: str | None, state: Path | None) -> Path | None:
    """Return the one path to export from; None for a model alone."""
    if checkpoint is not None and state is not None:
        raise UsageError("both CHECKPOINT and --state are given: give one of the two")
    if state is not None:
        return named_state(state)
    return None if checkpoint is None else Path(without_pointer(checkpoint))


def _check(
    kind: Kind,
    source: Path | None,
    state: Path | None,
    out: Path,
    model: str | None,
    dtype: ExportDtype | None,
    slot: Path | None,
) -> None:
    """Refuse, before any work, what does not go together or has no effect.

    Raises:
        UsageError: There is something.
    """
    check_out(kind, out)
    if (of_model := model_kind(kind)) is not None:
        _check_model(of_model, source, state, model, dtype)
    else:
        if source is None:
            raise UsageError("give the folder of a run or of a checkpoint, or --state FILE: one of the two")
        if dtype is not None:
            raise UsageError(f"--dtype would have no effect: {kind} has its own; leave it out")
        if model is not None and kind != _SLOT:
            raise UsageError(f"--model would have no effect: {kind} holds a state alone; leave it out")
    if (slot is None) == (kind == _SLOT):
        raise UsageError("--slot FILE goes with --to llama-slot, which needs it: give both, or neither")
    if slot is not None and not slot.is_file():
        raise UsageError(f"no slot at {str(slot)!r}: let the server save one, as docs/export.md says")


def _check_model(
    kind: ModelKind, source: Path | None, state: Path | None, model: str | None, dtype: ExportDtype | None
) -> None:
    """Refuse what does not go together for a model."""
    if state is not None:
        raise UsageError(f"--state would have no effect: {kind} holds a model alone; leave it out")
    if source is None and model is None:
        raise UsageError("give the folder of a run or of a checkpoint, or --model: which model?")
    chosen_dtype(kind, dtype)
    check_model(model, EMBEDDED)
    if kind == "gguf":
        from sttx_train.export import require_gguf

        require_gguf()


def _model(
    kind: ModelKind, source: Path | None, out: Path, model: str | None, dtype: ExportDtype
) -> "Exported":
    from sttx_train.export import export_model, model_to_export

    loaded = load(model, "cpu", "float32")
    with progress_bar("exporting"):
        return export_model(model_to_export(loaded, source), out, kind, dtype)


def _state(kind: Kind, source: Path, out: Path, model: str | None, slot: Path | None) -> "Exported":
    from sttx_train.export import export_slot, export_state, state_to_export
    from sttx_train.predict import check_base

    tuned = state_to_export(source)
    if slot is not None:
        loaded = load(model, "cpu", "float32")
        check_base(source, tuned, loaded)
        return export_slot(tuned, loaded, slot, out)
    of_state = state_kind(kind)
    assert of_state is not None
    return export_state(tuned, out, of_state)


def _report(exported: "Exported", as_json: bool) -> None:
    for text in exported.notes:
        note(text)
    report = exported.as_dict()
    if as_json:
        emit_json(report)
        return
    for file, size in report["files"].items():
        emit_line(f"{file}: {size:,} bytes")
    if dtype := exported.identity.get("dtype"):
        say(f"matrices in {dtype}")
    if where := _INJECT.get(exported.identity.get("inject", "")):
        say(f"a state of {exported.identity.get('model')}, learned to be added {where}")

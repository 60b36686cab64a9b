"""`sttx tune`: pairs, chats or texts in, a state that other programs start from out. Reports how it went."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sttx_cli.loading import load, prepare_kernels
from sttx_cli.options import Grouped, Name, PathName, build, config_options, refuse_unused
from sttx_cli.output import count, emit_json, emit_text, note, number, say
from sttx_cli.places import check_log_dir
from sttx_cli.progress import progress_bar
from sttx_cli.runs import check_model, device_options, kernel_option, log_option, model_option, named_state
from sttx_cli.signals import Interruptible
from sttx_cli.threads import choose_threads, threads_before, threads_option, use_threads
from sttx_core.errors import UsageError
from sttx_train.devices import Device, DtypeName
from sttx_train.export import STATE_KINDS, StateKind, suffix_of
from sttx_train.formats import EMBEDDED
from sttx_train.tune import TuneConfig
from sttx_train.wkv import Backend

if TYPE_CHECKING:
    from sttx_train import LoadedModel
    from sttx_train.export import Exported
    from sttx_train.formats import TunedState
    from sttx_train.tune import Example, Lines, Tuner, TuneReport, TuneStep

_LINE_SECONDS = 10.0
_NAME = "state"


@click.command("tune", cls=Grouped)
@click.argument("data", type=PathName(path_type=Path))
@click.option(
    "--out",
    type=PathName(path_type=Path, file_okay=False),
    required=True,
    metavar="RUN",
    help="Folder of the run: its checkpoints, its metrics, and the tuned state at the end.",
)
@click.option(
    "--validation",
    type=Name(),
    default="0.1",
    show_default=True,
    metavar="SHARE|PATH",
    help="Examples that are only measured: a share of DATA, or a file of its own; 0 for none.",
)
@click.option(
    "--to",
    "kind",
    type=click.Choice(STATE_KINDS),
    default="state-pth",
    show_default=True,
    help="The kind of file that gets the tuned state, as of sttx export.",
)
@model_option
@click.option(
    "--state",
    type=PathName(path_type=Path, dir_okay=False),
    default=None,
    metavar="FILE",
    help="Start from a tuned state: a .safetensors, .pth or .st file.",
)
@click.option("--resume", is_flag=True, help="Continue the run in --out where it was saved.")
@device_options
@kernel_option
@log_option
@threads_option
@config_options(TuneConfig, title="Tuning")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output at the end.")
def command(
    data: Path,
    out: Path,
    validation: str,
    kind: StateKind,
    model: str | None,
    state: Path | None,
    resume: bool,
    device: Device,
    dtype: DtypeName,
    kernel: Backend,
    log: tuple[Any, ...],
    threads: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Tune a state on pairs, chats or texts.

    DATA is a file of JSON lines: {"prompt": "…", "completion": "…"}, {"messages": [{"role": "user",
    "content": "…"}, …]} or {"text": "…"}. Each example is read from the state that learns, and the model
    stays as it is. RUN/state.pth gets the state that other programs start from; docs/tuning.md says how to
    choose the options.

    Ctrl-C saves and stops; --resume continues.
    """
    config, share = _config(options, validation)
    _check_places(data, validation, share, out, model, state, resume)
    with progress_bar("reading the examples"):
        read = _read(data, validation, share)
    with progress_bar("loading PyTorch"):
        from sttx_train.tune import Tuner
    loaded = load(model, device, dtype, kernel)
    before = threads_before(out) if resume else None
    use_threads(choose_threads(threads, before=before), say, before=before)
    prepare_kernels(loaded, learns=True)
    train, measured = _examples(*read, share, loaded, config)
    start = None if state is None else _start(state, loaded, config)
    tuner = Tuner(
        loaded, config, train, measured, directory=out, start=start, resume=resume, log=log, say=say
    )
    if resume:
        say(f"resumed: at step {tuner.step} of {tuner.steps}")
    report = _tune(tuner)
    exported = _export(tuner, out, kind, interrupted=report.ended == "interrupted")
    emit_text(_summary(report, exported, out), err=as_json)
    if as_json:
        emit_json(_as_json(report, exported, out))


def _config(options: dict[str, Any], validation: str) -> tuple[TuneConfig, float | None]:
    """Make the config, and read the share of the validation examples; None if a file is named."""
    config = build(TuneConfig, options)
    try:
        share = float(validation)
    except ValueError:
        share = None
    if share is not None and not 0 <= share < 1:
        raise UsageError(f"--validation must be a share from 0 to below 1, or a file, not {validation!r}")
    refuse_unused(config.without_effect(validation=share != 0))
    return config, share


def _check_places(
    data: Path,
    validation: str,
    share: float | None,
    out: Path,
    model: str | None,
    state: Path | None,
    resume: bool,
) -> None:
    """Check, before any work, that everything named is there and the run can be written."""
    from sttx_train.run_folder import RunFolder  # not at the head of the file: help must not load safetensors

    for path in (data, *([] if share is not None else [Path(validation)])):
        if not path.is_file():
            raise UsageError(f"no file at {str(path)!r}: give JSON lines of pairs, chats or texts")
    check_model(model, EMBEDDED)
    if state is not None:
        named_state(state)
    check_log_dir()
    RunFolder(out, kind="tune", keep=1).expect(resume=resume)


def _read(data: Path, validation: str, share: float | None) -> "tuple[Lines, Lines | None]":
    """Read the examples as text, so that mistakes in the data show before a model is loaded."""
    from sttx_train.tune import read_lines

    return read_lines(data), None if share is not None else read_lines(Path(validation))


def _examples(
    data: "Lines",
    validation: "Lines | None",
    share: float | None,
    loaded: "LoadedModel",
    config: TuneConfig,
) -> "tuple[Sequence[Example], Sequence[Example]]":
    """Return the examples to learn and those to measure, and say what was left out."""
    from sttx_train.tune import encode_examples, split_examples

    with progress_bar("encoding the examples"):
        found = encode_examples(data, loaded.tokenizer, config)
        train, measured, notes = found.examples, (), found.notes(data.path)
        if validation is not None:
            other = encode_examples(validation, loaded.tokenizer, config)
            measured, notes = other.examples, notes + other.notes(validation.path)
        elif share is not None:
            train, measured = split_examples(found.examples, share, config.seed)
    for text in notes:
        note(text)
    tokens = sum(1 + len(example.ids) for example in train)
    learned = sum(sum(example.paid) for example in train)
    say(
        f"data: {count(len(train), 'example')} of {tokens:,} tokens, {learned:,} of them learned; "
        f"{count(len(measured), 'validation example')}"
    )
    return train, measured


def _start(state: Path, loaded: "LoadedModel", config: TuneConfig) -> "TunedState":
    from sttx_train.formats import load_state
    from sttx_train.predict import check_origin

    tuned = load_state(state, config=loaded.model.config)
    check_origin(state, tuned, loaded, used="start", opening="eot" if config.eot else "text")
    return tuned


def _tune(tuner: "Tuner") -> "TuneReport":
    progress = _Progress(tuner)
    saving = "saving; interrupt again to end at once"
    with Interruptible(lambda: None, lambda: say(saving)) as interruptible:
        return tuner.run(progress.show, stop=lambda: interruptible.signaled is not None)


class _Progress:
    """Prints a line now and then about how far a run is."""

    def __init__(self, tuner: "Tuner") -> None:
        self._tuner, self._last_line = tuner, 0.0

    def show(self, step: "TuneStep") -> None:
        if step.validation_bpb is not None:
            before = self._tuner.before
            said = f"validation at step {step.step}: {number(step.validation_bpb)} bits per byte"
            say(said if before is None else f"{said}, {number(before)} at the start")
        if time.monotonic() - self._last_line > _LINE_SECONDS or step.step == self._tuner.steps:
            self._last_line = time.monotonic()
            say(
                f"step {step.step}/{self._tuner.steps} · loss {step.loss:.3f} · {number(step.bpb)} bpb · "
                f"lr {step.lr:.2e} · |grad| {step.grad_norm:.2f} · state's deviation {step.std_s0:.3f} · "
                f"tokens/s {step.tokens / max(step.seconds, 1e-9):,.0f}"
            )


def _export(tuner: "Tuner", out: Path, kind: StateKind, *, interrupted: bool) -> "Exported | None":
    """Write the tuned state into the run's folder; None if nothing was learned."""
    from sttx_train.export import export_state

    tuned = tuner.tuned()
    if not bool(tuned.s0.any()):
        if interrupted:
            note("no measurement has found a better state yet: nothing is exported")
        else:
            note("no state is better than none: nothing is exported; try another --lr, or more examples")
        return None
    return export_state(tuned, out / f"{_NAME}{suffix_of(kind)}", kind)


def _as_json(report: "TuneReport", exported: "Exported | None", out: Path) -> dict[str, Any]:
    return {
        "epochs": report.epochs,
        "steps": report.steps,
        "ended": report.ended,
        "examples": {"train": report.examples[0], "validation": report.examples[1]},
        "validation": {"before": {"bpb": _finite(report.before)}, "after": {"bpb": _finite(report.after)}},
        "best_step": report.best_step,
        "state": None if exported is None else str(exported.out),
        "seconds": report.seconds,
        "out": str(out),
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _summary(report: "TuneReport", exported: "Exported | None", out: Path) -> str:
    text = f"{count(report.steps, 'step')}, {report.epochs:.2f} epochs in {report.seconds:.1f} s"
    if report.ended == "patience":
        text += "; stopped because the validation examples got no cheaper"
    lines = [text + "."]
    if report.before is not None and report.after is not None:
        saved = 100 * (1 - report.after / report.before) if report.before else 0.0
        lines.append(
            f"Validation: {number(report.before)} bits per byte before, {number(report.after)} after "
            f"({saved:.1f}% fewer), with the state of step {report.best_step}."
        )
    if report.ended == "interrupted":
        lines.append("Interrupted; continue with the same command and --resume.")
    if exported is not None:
        lines.append(f"State: {exported.out}; use it with --state {exported.out}. Run: {out}.")
    return "\n".join(lines)

"""`sttx memory train` and `sttx memory eval`: a memory is trained on sessions, and tried beside controls."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sttx_cli.memory_options import Layers, base_options, open_base, session_tokens
from sttx_cli.options import Grouped, Name, PathName, build, config_options
from sttx_cli.output import count, emit_json, emit_text, note, number, say
from sttx_cli.progress import progress_bar
from sttx_cli.redaction import redact_options
from sttx_cli.signals import Interruptible
from sttx_cli.sources import SOURCES, from_option, named_sources
from sttx_cli.threads import choose_threads, threads_option, use_threads
from sttx_core.errors import DataError, UsageError
from sttx_train.memory import MemoryConfig, MemoryEvalConfig, MemoryTrainConfig

if TYPE_CHECKING:
    from sttx_train.memory import Base, MemoryReport, MemoryTrainer, SessionTokens, TrainStep

_LINE_SECONDS = 10.0
_RUN = PathName(path_type=Path, file_okay=False)


@click.command("train", cls=Grouped)
@click.argument("arguments", nargs=-1, type=Name(), metavar="[SOURCE]...")
@from_option(f"What to read: {SOURCES}. May be repeated; the same as SOURCE.")
@click.option("--out", type=_RUN, required=True, metavar="RUN", help="Folder of the run's checkpoints.")
@base_options
@click.option(
    "--validation",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.4,
    show_default=True,
    help="Share of the sessions that are not trained on, for sttx memory eval.",
)
@click.option(
    "--control",
    is_flag=True,
    help="Train low-rank deltas with as many parameters instead, without a memory: the control of sttx "
    "memory eval.",
)
@click.option("--resume", is_flag=True, help="Continue the run in --out where it was saved.")
@config_options(MemoryConfig, title="Memory", types={"layers": Layers()})
@config_options(MemoryTrainConfig, title="Training")
@threads_option
@redact_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output at the end.")
def train(
    arguments: tuple[str, ...],
    from_sources: tuple[str, ...],
    out: Path,
    base: str,
    dtype: str,
    validation: float,
    control: bool,
    resume: bool,
    threads: int,
    no_redact: bool,
    redact_rules: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a memory beside a frozen model.

    SOURCE is what `sttx train` reads. The model stays as it is. From each window of a session the first
    tokens are written into an empty memory, and those after them are scored; the memory is the only way from
    one to the other.

    Ctrl-C saves and stops; --resume continues.
    """
    memory_config, config = build(MemoryConfig, options), build(MemoryTrainConfig, options)
    named = named_sources(arguments, from_sources)
    with progress_bar("loading PyTorch"):
        from sttx_train.checkpoint import CheckpointStore
        from sttx_train.memory import LowRank, MemoryTrainer, attach, long_enough, split_sessions
    CheckpointStore(out).expect(run=resume)
    opened = open_base(base, dtype)
    use_threads(choose_threads(threads), say)
    sessions = session_tokens(named, opened, no_redact=no_redact, redact_rules=redact_rules)
    learned, others = split_sessions(long_enough(sessions, config.length), validation, 0)
    memory = attach(opened.model, memory_config)
    trainer = MemoryTrainer(
        memory,
        learned,
        config,
        start=opened.vocabulary.start,
        directory=out,
        resume=resume,
        control=LowRank(memory) if control else None,
        identity={"base": base, "dtype": str(opened.model.dtype).removeprefix("torch.")},
    )
    _run(trainer, out, {"trained": len(learned), "validation": len(others)}, as_json=as_json)


def _run(trainer: "MemoryTrainer", out: Path, sessions: dict[str, int], *, as_json: bool) -> None:
    """Train, and report."""
    steps, what = trainer.config.steps, "memory" if trainer.learns is trainer.memory else "control"
    numbers = sum(parameter.numel() for parameter in trainer.parameters.values())
    say(f"{what}: {numbers:,} numbers in layers {', '.join(map(str, trainer.memory.config.layers or ()))}")
    if trainer.step:
        say(f"resumed: at step {trainer.step} of {steps}")
    shown = _Progress(steps)
    with Interruptible(lambda: None, lambda: say("saving; interrupt again to end at once")) as interruptible:
        trainer.run(shown.show, stop=lambda: interruptible.signaled is not None)
    if as_json:
        emit_json(
            {
                "steps": trainer.step,
                "bpb": shown.mean(),
                "sessions": sessions,
                "parameters": numbers,
                "out": str(out),
            }
        )
    text = (
        f"{count(trainer.step, 'step')}; the last ones paid {number(shown.mean())} bits per byte. Run: {out}."
    )
    if trainer.step < steps:
        text += " Interrupted; continue with the same command and --resume."
    emit_text(text, err=as_json)


class _Progress:
    """Prints a line now and then."""

    def __init__(self, steps: int) -> None:
        self._steps, self._last_line = steps, 0.0
        self._paid: list[float] = []

    def mean(self) -> float | None:
        """Return the mean price of the last 20 steps; None before the first."""
        last = self._paid[-20:]
        return sum(last) / len(last) if last else None

    def show(self, step: "TrainStep") -> None:
        self._paid.append(step.bpb)
        if time.monotonic() - self._last_line > _LINE_SECONDS or step.step == self._steps:
            self._last_line = time.monotonic()
            say(
                f"step {step.step}/{self._steps} · {step.bpb:.3f} bpb, {number(self.mean())} lately · "
                f"lr {step.lr:.2e} · |grad| {step.grad_norm:.2f}"
            )


@click.command("eval", cls=Grouped)
@click.argument("runs", nargs=-1, required=True, type=_RUN, metavar="RUN...")
@from_option(f"What to read: {SOURCES}. May be repeated.")
@click.option(
    "--control",
    "controls",
    type=_RUN,
    multiple=True,
    metavar="RUN",
    help="A run of sttx memory train --control, one for each RUN in their order. Without it the arm low-rank "
    "is left out.",
)
@config_options(MemoryEvalConfig, skip=("write", "score", "lead"))
@threads_option
@redact_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
def evaluate(
    runs: tuple[Path, ...],
    from_sources: tuple[str, ...],
    controls: tuple[Path, ...],
    threads: int,
    no_redact: bool,
    redact_rules: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Say what a trained memory is worth, and whether its content matters.

    RUN is a run of `sttx memory train`; several are the same memory trained with other seeds. Sessions that a
    run was trained on are left out. The same tokens are scored with the state that their session wrote, with
    none, with another session's, after writing in a random order, with states in the wrong layers, with
    trained deltas and no memory, and with text in front: the last that was written, or what BM25 finds.
    """
    if controls and len(controls) != len(runs):
        raise UsageError(
            f"{len(controls)} controls for {count(len(runs), 'run')}: give one for each, or none"
        )
    manifests = [_manifest(run, "memory") for run in runs] + [_manifest(run, "low-rank") for run in controls]
    _require_alike(manifests, [*runs, *controls])
    first = manifests[0]
    shape = {name: first["train_config"][name] for name in ("write", "score", "lead")}
    config = build(MemoryEvalConfig, options, **shape)
    opened = open_base(first["base"], first["dtype"])
    use_threads(choose_threads(threads), say)
    sessions = session_tokens(from_sources, opened, no_redact=no_redact, redact_rules=redact_rules)
    untrained = _untrained(sessions, manifests, config.length)
    result = _evaluated(runs, controls, opened, untrained, config)
    if as_json:
        emit_json(result.as_dict())
    emit_text(_sentences(result), err=as_json)


def _manifest(run: Path, kind: str) -> dict[str, Any]:
    from sttx_train.checkpoint import CheckpointStore

    manifest = CheckpointStore(run).load(tensors=False).manifest
    wanted = {"memory": "a run of sttx memory train", "low-rank": "one of sttx memory train --control"}
    if manifest.get("kind") != kind or not isinstance(manifest.get("train_config"), dict):
        raise UsageError(f"{str(run)!r} is not {wanted[kind]}: give another folder")
    return manifest


def _require_alike(manifests: "list[dict[str, Any]]", runs: list[Path]) -> None:
    """Refuse runs that differ in more than their seeds."""
    first = _comparable(manifests[0])
    for manifest, run in zip(manifests, runs, strict=True):
        for name, value in _comparable(manifest).items():
            if value != first[name]:
                raise UsageError(
                    f"{str(run)!r} was trained with {name} {value!r}, and {str(runs[0])!r} with "
                    f"{first[name]!r}: they cannot be compared"
                )


def _comparable(manifest: Mapping[str, Any]) -> dict[str, Any]:
    training, memory = dict(manifest["train_config"]), dict(manifest["memory_config"])
    for fields, seed in ((training, "train_seed"), (memory, "seed")):
        fields.pop(seed, None)
    names = ("base", "dtype", "base_sha256", "sessions_sha256")
    return {name: manifest.get(name) for name in names} | training | memory


def _untrained(
    sessions: "list[SessionTokens]", manifests: "list[dict[str, Any]]", length: int
) -> "list[SessionTokens]":
    from sttx_train.memory import long_enough

    trained = {sha256 for manifest in manifests for sha256 in manifest["sessions_sha256"]}
    others = [session for session in sessions if session.sha256 not in trained]
    if left_out := len(sessions) - len(others):
        note(f"{count(left_out, 'session')} left out, which were trained on")
    kept = long_enough(others, length)
    if len(kept) < 2:
        raise DataError(
            f"{count(len(kept), 'session')} of at least {length} tokens that no run was trained on: give more"
        )
    return kept


def _evaluated(
    runs: tuple[Path, ...],
    controls: tuple[Path, ...],
    opened: "Base",
    sessions: "list[SessionTokens]",
    config: MemoryEvalConfig,
) -> "MemoryReport":
    from sttx_train.memory import (
        WITH_STATE,
        WITH_TEXT,
        Evaluator,
        attach,
        memory_report,
        read_adapter,
        read_control,
    )

    text: dict[str, Any] = {}
    priced: list[dict[str, Any]] = []
    sizes: list[float] = []
    for at, run in enumerate(runs):
        adapter = read_adapter(run)
        memory = attach(opened.model, adapter.config)
        adapter.put_on(memory)
        control = read_control(memory, controls[at]) if controls else None
        evaluator = Evaluator(memory, sessions, config, start=opened.vocabulary.start, control=control)
        arms = [*WITH_STATE, *(["low-rank"] if control else []), *(() if text else WITH_TEXT)]
        with progress_bar(f"evaluating {run.name}", len(evaluator.windows), "windows") as progress:
            bits = {one.arm: one.bits for one in evaluator.run(arms, progress)}  # type: ignore[arg-type]
        text = text or {arm: bits[arm] for arm in WITH_TEXT}
        priced.append({**bits, **text})
        sizes = evaluator.bytes.tolist()
        memory.detach()
    return memory_report(priced, sizes)


def _sentences(result: "MemoryReport") -> str:
    from sttx_train.memory import EFFECTS

    lines = [f"{count(result.sessions, 'session')}, {count(result.runs, 'run')}; bits per byte:"]
    lines += [f"  {arm:<10} {bpb:.4f}" for arm, bpb in result.arms.items()]
    lines.append("Differences, paired by session, with 95% intervals:")
    for name, one in result.effects.items():
        first, second = EFFECTS[name]
        lines.append(f"  {first} - {second}: {one['mean']:+.4f} ({one['low']:+.4f} to {one['high']:+.4f})")
    return "\n".join([*lines, result.verdict])

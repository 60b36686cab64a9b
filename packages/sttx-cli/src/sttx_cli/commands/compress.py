"""`sttx compress`: writes an archive of files. Only it and its siblings know `sttx_train.coding`."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from sttx_cli.archives import STREAM, binary_out, prepare_coding
from sttx_cli.options import Name
from sttx_cli.output import count, emit_json, emit_line, note, say
from sttx_cli.plain import one_line
from sttx_cli.progress import progress_bar
from sttx_cli.runs import check_model, model_option, without_pointer
from sttx_core.errors import UsageError
from sttx_train.formats import EMBEDDED

if TYPE_CHECKING:
    from sttx_train.coding import Compressed

_SHOWN = 5  # names that a note lists


@click.command("compress")
@click.argument("files", nargs=-1, required=True, type=Name(), metavar="FILE...")
@click.option(
    "-o",
    "--out",
    type=Name(),
    metavar="ARCHIVE",
    help="Archive to write, - for standard output. By default FILE.sttx.",
)
@click.option(
    "--level",
    type=click.Choice(["fast", "network", "best", "default"]),
    default="fast",
    show_default=True,
    help="What predicts: fast is experts alone. Network adds a network: smaller, and some 30 times slower; "
    "default is another name of it. Best has larger tables and one stream, and with --checkpoint also mixes "
    "in the model as it was before.",
)
@click.option(
    "--method",
    type=Name(),
    metavar="METHOD",
    help="What predicts, instead of what the level takes: experts, mini, mini+experts, file:PATH, cfg:… or "
    "another of docs/compressing.md.",
)
@model_option
@click.option(
    "--checkpoint",
    type=Name(),
    metavar="PATH",
    help="Predict with what a run has learned: its folder, that of one checkpoint, or a tuned state. It "
    "learns nothing more, and `sttx decompress` needs it too.",
)
@click.option(
    "--streams",
    type=click.IntRange(1, 64),
    metavar="N",
    help="Parts that a network reads side by side, by default 8, at level best 1. More are faster, fewer "
    "make the archive smaller.",
)
@click.option(
    "--profile",
    type=click.Choice(["portable", "native"]),
    default="portable",
    show_default=True,
    help="Where the archive can be read: portable everywhere; native only on a machine and installation that "
    "compute the same as this one, and the network learns while it codes.",
)
@click.option(
    "--policy",
    type=Name(),
    metavar="POLICY",
    help="When the network learns and how, with --profile native, such as schedule=0..10%:train;10%..:infer. "
    "Positions are bytes, or percentages of the files. By default S0 always learns, at 0.03.",
)
@click.option(
    "--save-learned",
    type=Name(),
    metavar="FOLDER",
    help="Keep what the network learned while coding, in a new folder, for a policy's load_from and for "
    "--checkpoint.",
)
@click.option(
    "--coder",
    type=click.Choice(["ac", "rans"]),
    default="ac",
    show_default=True,
    help="Entropy coder: arithmetic coding or rANS; sizes and rates are nearly the same.",
)
@click.option(
    "--segment-mb",
    type=click.FloatRange(min=0),
    default=4.0,
    show_default=True,
    help="Most megabytes of files that share one memory. More makes a smaller archive, fewer let one file of "
    "it be read sooner, and 0 keeps each file apart.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Continue an archive: add the files that it lacks. What predicts and the coder must be as before.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: sizes, ratio and time.")
def command(
    files: tuple[str, ...],
    out: str | None,
    level: str,
    method: str | None,
    model: str | None,
    checkpoint: str | None,
    streams: int | None,
    profile: str,
    policy: str | None,
    save_learned: str | None,
    coder: str,
    segment_mb: float,
    resume: bool,
    as_json: bool,
) -> None:
    """Compress files and folders into an archive, without loss.

    FILE is a file, a folder or - for standard input. Anything is compressed; sessions of coding agents and
    other text best. `sttx traces`, `train`, `score`, `report` and `validate-data` read an archive like a
    folder of its files.
    """
    from sttx_train.coding import CompressConfig, check_target, compress, members_of, method_of

    run = None if checkpoint is None else without_pointer(checkpoint)
    needs: dict[str, Any] = {"model": model, "checkpoint": run, "streams": streams}
    chosen = method_of(level, method=method, profile=profile, policy=policy, **needs)
    config = CompressConfig(coder=coder, segment_mb=segment_mb)
    members, total, left_out = members_of(files)
    target = _target(files, out, needs_file="--json" if as_json else "--resume" if resume else None)
    _refuse_itself(files, target)
    members = [member for member in members if not _is_same(member.path, target)]
    learned = None if save_learned is None else Path(save_learned)
    check_target(target, chosen, members, config, resume=resume, save_learned=learned)
    _check_models(chosen.model, chosen.checkpoint)
    if left_out:
        note(_left_out(left_out))
    prepare_coding(chosen.profile if chosen.networks else None)
    started = time.monotonic()
    with progress_bar("compressing", total, "bytes") as advance:
        done = compress(
            members,
            target,
            config,
            method=chosen,
            stdin=sys.stdin.buffer if STREAM in files else None,
            resume=resume,
            advance=advance,
            save_learned=learned,
        )
    if as_json:
        emit_json(_summary(done, time.monotonic() - started))
    elif isinstance(target, Path):
        emit_line(f"{target}: {_line(done)}")
    else:
        say(_line(done))


def _check_models(model: str | None, checkpoint: str | None) -> None:
    """Check that a model and a checkpoint are there.

    Raises:
        UsageError: one is not.
    """
    check_model(model, EMBEDDED)
    if checkpoint is not None and not os.path.lexists(checkpoint):
        raise UsageError(
            f"no checkpoint at {checkpoint!r}: give the folder of a run or a checkpoint, or a tuned state"
        )


def _summary(done: "Compressed", seconds: float) -> dict[str, object]:
    """Return what `--json` prints."""
    ratio = done.bytes_out / done.bytes_in if done.bytes_in else None
    return {
        "bytes_in": done.bytes_in,
        "bytes_out": done.bytes_out,
        "ratio": ratio,
        "bpb": None if ratio is None else 8 * ratio,
        "seconds": seconds,
        "profile": done.profile,
        "method": done.method,
        "files": done.files,
    }


def _left_out(names: Sequence[str]) -> str:
    """Say what an archive does not keep."""
    shown = ", ".join(one_line(name, 200) for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"left out, since archives keep files only (links, pipes, empty folders): {shown}{more}"


def _line(done: "Compressed") -> str:
    """Write what was done."""
    paid = f", {8 * done.bytes_out / done.bytes_in:.3f} bits per byte" if done.bytes_in else ""
    return f"{count(done.files, 'file')}, {done.bytes_in:,} bytes in, {done.bytes_out:,} bytes out{paid}"


def _target(files: tuple[str, ...], out: str | None, *, needs_file: str | None) -> Path | BinaryIO:
    """Return where the archive goes.

    Args:
        files: what is compressed.
        out: the name of the archive, or that of standard output.
        needs_file: an option that was given and needs a file; None for none.

    Raises:
        UsageError: it has no name, is a terminal, or is standard output where a file is needed.
    """
    first, *more = files
    if out == STREAM or (out is None and first == STREAM and not more):
        if needs_file is not None:
            raise UsageError(f"{needs_file} needs a file: name the archive with -o")
        return binary_out()
    if out is not None:
        return Path(out)
    if more:
        raise UsageError("several files need a name for their archive: give -o ARCHIVE")
    path = Path(first)
    return Path(f"{path if path.name else path.resolve()}.sttx")


def _refuse_itself(files: tuple[str, ...], target: Path | BinaryIO) -> None:
    """Check that no file that is named is the archive itself.

    Raises:
        UsageError: one is.
    """
    for name in files:
        if name != STREAM and _is_same(Path(name), target):
            raise UsageError(f"{name!r} is the archive that would be written: give another name with -o")


def _is_same(path: Path | None, target: Path | BinaryIO) -> bool:
    """Return whether a file is the archive itself, such as one in a folder that is compressed."""
    try:
        written = target.stat() if isinstance(target, Path) else os.fstat(target.fileno())
        return path is not None and os.path.samestat(path.stat(), written)
    except (OSError, ValueError):  # no such file, or a stream without a number
        return False

"""`sttx memory export`, `inspect`, `materialize` and `compare`: an adapter as a file for other programs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sttx_ccsniff import cache_folder
from sttx_cli.options import PathName
from sttx_cli.output import count, emit_json, emit_line, emit_table, facts, say
from sttx_cli.places import check_writable
from sttx_cli.progress import progress_bar
from sttx_core.errors import UsageError
from sttx_core.os_errors import explain
from sttx_core.own_files import refuse_to_replace

if TYPE_CHECKING:
    from sttx_train.memory import SavedAdapter

_SUFFIX = ".gguf"
_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.command("export")
@click.argument("adapter", type=PathName(path_type=Path))
@click.option("--out", type=PathName(path_type=Path), required=True, help="The .gguf file to write.")
@_json_option
def export(adapter: Path, out: Path, as_json: bool) -> None:
    """Write an adapter as a GGUF sidecar, for other programs.

    ADAPTER is the folder of a run of `sttx memory train`, or of one of its checkpoints. The file names its
    base by SHA-256, and holds the tensors and the config of the memory. Nothing that exists is overwritten.
    """
    if out.suffix != _SUFFIX:
        raise UsageError(f"--out {str(out)!r} must end in {_SUFFIX!r}: programs look for a GGUF by it")
    _refuse_existing(out)
    check_writable(out.parent, "the folder of --out,")
    refuse_to_replace(out)
    from sttx_train.memory import write_sidecar

    found = _read(adapter)
    try:
        write_sidecar(found, out)
    except OSError as error:
        raise UsageError(f"cannot write {str(out)!r}: {explain(error)}") from error
    report = _report(found) | {"out": str(out), "bytes": out.stat().st_size}
    _emit(report, as_json, f"{out}: {report['bytes']:,} bytes, for the base {found.base_sha256[:12]}")


@click.command("inspect")
@click.argument("adapter", type=PathName(path_type=Path))
@click.option(
    "--base",
    default=None,
    metavar="MODEL",
    help="Check that the adapter is for this base: the folder of a model of Transformers, or smollm2.",
)
@_json_option
def inspect(adapter: Path, base: str | None, as_json: bool) -> None:
    """Show what an adapter holds, and which base it is for.

    ADAPTER is a sidecar, or the folder of a run or of a checkpoint. Everything is read and checked. With
    --base the adapter is put beside that model; the exit code is 1 if it does not fit.
    """
    found = _read(adapter)
    report = _report(found)
    if base is not None:
        _check_base(found, base)
        report["base"] = base
    if as_json:
        emit_json(report)
        return
    rows: dict[str, object] = {
        "base": report["base_sha256"],
        "adapter": report["sha256"],
        "steps": report["step"],
        "layers": ", ".join(map(str, report["config"]["layers"])),
        "rank": report["config"]["rank"],
        "slots": f"{report['config']['slots']}, cut by {report['config']['cut']}",
        "tensors": f"{count(len(report['tensors']), 'tensor')}, {report['parameters']:,} numbers",
    }
    emit_table(str(adapter), facts(rows))
    if base is not None:
        say(f"the adapter fits the base {base!r}")


@click.command("materialize")
@click.argument("sidecar", type=PathName(path_type=Path, dir_okay=False))
@click.option(
    "--out", type=PathName(path_type=Path, file_okay=False), required=True, help="The folder to write."
)
@_json_option
def materialize(sidecar: Path, out: Path, as_json: bool) -> None:
    """Turn a sidecar back into a run, which other commands read.

    The run has one checkpoint, without the optimizer's moments: it cannot be trained on.
    """
    from sttx_train.memory import write_run

    check_writable(out, "--out")
    found = _read(sidecar)
    folder = write_run(found, out)
    _emit(_report(found) | {"out": str(folder)}, as_json, str(folder))


@click.command("compare")
@click.argument("first", type=PathName(path_type=Path))
@click.argument("second", type=PathName(path_type=Path))
@_json_option
@click.pass_context
def compare(context: click.Context, first: Path, second: Path, as_json: bool) -> None:
    """Compare two adapters: base, config and every number.

    Each is a sidecar, or the folder of a run or of a checkpoint. The exit code is 0 if they are equal, and
    1 if not.
    """
    from sttx_train.memory import differences

    one, other = _read(first), _read(second)
    tensors = differences(one, other)
    equal = sum(size == 0 for size in tensors.values())
    report = {
        "equal": one.sha256() == other.sha256() and one.base_sha256 == other.base_sha256,
        "same_base": one.base_sha256 == other.base_sha256,
        "same_config": one.config == other.config,
        "equal_tensors": equal,
        "different_tensors": {name: size for name, size in tensors.items() if size != 0},
    }
    if as_json:
        emit_json(report)
    else:
        for line in _sentences(report):
            emit_line(line)
    context.exit(0 if report["equal"] else 1)


def _sentences(report: dict[str, Any]) -> list[str]:
    lines = [f"{count(report['equal_tensors'], 'tensor')} equal in every bit"]
    lines += [f"the {what} differs" for what in ("base", "config") if not report[f"same_{what}"]]
    for name, size in report["different_tensors"].items():
        lines.append(f"{name}: {size if isinstance(size, str) else f'differs by up to {size:.2e}'}")
    return [*lines, "the adapters are equal" if report["equal"] else "the adapters differ"]


def _read(path: Path) -> "SavedAdapter":
    with progress_bar("loading PyTorch"):
        from sttx_train.memory import read_adapter
    return read_adapter(path)


def _check_base(adapter: "SavedAdapter", base: str) -> None:
    """Put an adapter beside a base.

    Raises:
        ModelError: it is for another base.
    """
    from sttx_train.memory import attach, load_base

    with progress_bar("loading the base"):
        memory = attach(load_base(base, cache_folder()).model, adapter.config)
    adapter.put_on(memory)


def _report(adapter: "SavedAdapter") -> dict[str, Any]:
    return {
        "base_sha256": adapter.base_sha256,
        "sha256": adapter.sha256(),
        "step": adapter.step,
        "config": adapter.config.as_dict(),
        "parameters": sum(tensor.numel() for tensor in adapter.tensors.values()),
        "tensors": {name: list(tensor.shape) for name, tensor in sorted(adapter.tensors.items())},
    }


def _refuse_existing(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise UsageError(f"{str(out)!r} exists already: give another --out, or remove it")


def _emit(report: dict[str, Any], as_json: bool, line: str) -> None:
    if as_json:
        emit_json(report)
    else:
        emit_line(line)

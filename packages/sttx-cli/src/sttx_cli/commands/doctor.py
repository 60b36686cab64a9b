"""`sttx doctor`: checks what works on this machine, and what to do about the rest."""

import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Literal

import click

from sttx_ccsniff import claude_history, live_tools
from sttx_cli.options import Name
from sttx_cli.output import emit_json, emit_line
from sttx_cli.places import check_log_dir
from sttx_cli.progress import progress_bar
from sttx_cli.runs import require_model_name
from sttx_cli.threads import choose_threads, load, wait_mode
from sttx_core.environment import log_dir
from sttx_core.errors import SttxError
from sttx_train.formats import EMBEDDED

Status = Literal["ok", "note", "broken"]
_PYTHONS = ((3, 11), (3, 13))
_SHORT_DAYS = 90
_LITTLE_SPACE = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one check: ``broken`` stops `sttx train`, a ``note`` does not."""

    name: str
    status: Status
    detail: str


@click.command("doctor")
@click.option(
    "--model",
    type=Name(),
    default=None,
    help=f"The model to check: a folder, a file, or an id on the Hugging Face hub; by default {EMBEDDED}.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(model: str | None, as_json: bool) -> int:
    """Check what works on this machine. Exits with 1 if something is broken."""
    require_model_name(model, EMBEDDED)
    with progress_bar("checking"):
        findings = [*_python(), *_torch(), *_model(model), *_archives(), *_live(), *_history(), *_log()]
    broken = any(finding.status == "broken" for finding in findings)
    if as_json:
        emit_json({"ok": not broken, "findings": [asdict(finding) for finding in findings]})
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            emit_line(f"{finding.status:6}  {finding.name:{width}}  {finding.detail}")
    return int(broken)


def _python() -> Iterator[Finding]:
    fits = _PYTHONS[0] <= sys.version_info[:2] <= _PYTHONS[1]
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Finding(
        name="python",
        status="ok" if fits else "note",
        detail=detail if fits else f"{detail}: tested with 3.11 to 3.13 only",
    )


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except ImportError as error:
        yield Finding(
            name="torch", status="broken", detail=f"cannot be imported ({error}): install sttx again"
        )
        return
    from sttx_train.devices import choose_device
    from sttx_train.wkv import choose_backend

    chosen = choose_device()
    kernel = choose_backend(chosen.device)
    yield Finding(name="torch", status="ok", detail=torch.__version__)
    yield Finding(name="device", status="ok", detail=f"{chosen.device} ({chosen.reason})")
    yield Finding(name="kernel", status="ok", detail=f"{kernel.backend} ({kernel.reason})")
    yield _threads()
    yield _fla(cuda=chosen.device.type == "cuda")


def _threads() -> Finding:
    choice = choose_threads()
    busy = "unknown" if (now := load()) is None else f"{now:.1f}"
    detail = f"{choice.threads} ({choice.reason}); idle ones {wait_mode()}; load {busy}"
    return Finding(name="threads", status="ok", detail=detail)


def _fla(*, cuda: bool) -> Finding:
    if not cuda:  # the import is slow, and proves little on a machine that cannot run it
        state = "installed" if find_spec("fla") is not None else "not installed"
        return Finding(name="fla", status="ok", detail=f"{state}; only a CUDA device uses it")
    try:
        import fla.ops.rwkv7  # noqa: F401
    except Exception as error:  # noqa: BLE001  Triton may raise anything on an unknown machine
        detail = f"cannot be imported ({type(error).__name__}: {error})"
        return Finding(name="fla", status="note", detail=f"{detail}: kernels in plain torch are used")
    return Finding(name="fla", status="ok", detail="can be imported")


def _model(spec: str | None) -> Iterator[Finding]:
    try:
        from sttx_train.inspect import inspect_model

        report = inspect_model(spec)
    except (SttxError, ImportError) as error:
        yield Finding(name="model", status="broken", detail=str(error))
        return
    if report["problems"] or not report.get("runs"):
        what = f"{report['path']!r} is {report['what']}: {report['advice']}"
        yield Finding(name="model", status="broken", detail=[*report["problems"], what][0])
        return
    sizes = report["model"]
    yield Finding(
        name="model",
        status="ok",
        detail=f"{sizes['id']}: {report['parameters']:,} parameters, {sizes['vocab_size']:,} tokens",
    )


def _archives() -> Iterator[Finding]:
    try:
        from sttx_train.coding import computes_as_expected

        right = computes_as_expected()
    except (SttxError, ImportError) as error:
        yield Finding(name="archives", status="broken", detail=str(error))
        return
    detail = (
        "this processor codes as others do: archives can be exchanged"
        if right
        else "this processor codes unlike others: it cannot read their archives, nor they those made here"
    )
    yield Finding(name="archives", status="ok" if right else "note", detail=detail)


def _live() -> Iterator[Finding]:
    for tool in live_tools():
        yield Finding(name=tool.name, status="ok" if tool.ready else "note", detail=tool.detail)


def _history() -> Iterator[Finding]:
    history = claude_history()
    folder = repr(str(history.folder))
    if not history.sessions:
        detail = f"no session files in {folder}: without --from, the sample is used"
        yield Finding(name="Claude Code", status="note", detail=detail)
        return
    yield Finding(name="Claude Code", status="ok", detail=f"{history.sessions} session files in {folder}")
    days = history.cleanup_days
    if days is None or days < _SHORT_DAYS:
        after = "at an unknown time" if days is None else f"{days} days after their last use"
        detail = (
            f"Claude Code deletes sessions {after}: set cleanupPeriodDays in its settings.json to keep them"
        )
        yield Finding(name="history kept", status="note", detail=detail)


def _log() -> Iterator[Finding]:
    folder = log_dir()
    detail = "off (STTX_LOG_DIR is not set)" if folder is None else f"in {str(folder)!r}"
    try:
        check_log_dir()
        yield Finding(name="event log", status="ok", detail=detail)
    except SttxError as error:
        yield Finding(name="event log", status="broken", detail=str(error))
    free = shutil.disk_usage(".").free
    enough = free > _LITTLE_SPACE
    yield Finding(name="disk", status="ok" if enough else "note", detail=f"{free / 1e9:.1f} GB free here")

"""`sttx service`: follows sessions, learns and serves in the background, started by the system."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sttx_ccsniff import default_source, sample_folder
from sttx_cli.environment import data_home, service_variables
from sttx_cli.options import Grouped, Name, PathName, SuggestingGroup, build, config_options
from sttx_cli.output import count, emit_json, emit_table, emit_text, facts, number, say
from sttx_cli.places import check_writable
from sttx_cli.runs import check_model, model_option
from sttx_cli.service_manager import Manager, this_manager
from sttx_cli.service_plan import ServiceConfig, ServicePlan, absolute_sources, size_of
from sttx_cli.service_report import service_report
from sttx_cli.signals import Interruptible
from sttx_cli.sources import SOURCES, check_sources
from sttx_cli.supervisor import Supervisor
from sttx_core.errors import SttxError, UsageError
from sttx_train.formats import EMBEDDED

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


@click.group("service", cls=SuggestingGroup)
def command() -> None:
    """Follow sessions, learn and serve in the background.

    One service runs two commands: `sttx train --follow`, which learns from sessions as they go on, and
    `sttx serve --run`, which answers from its newest checkpoint. The system (systemd, or launchd on macOS)
    starts them at login, at low priority and within stated memory, and again after a failure or an upgrade,
    from the last checkpoint.
    """


def _plan_options(function: Decorated) -> Decorated:
    """Add the options from which a plan is made."""
    for add in (
        config_options(ServiceConfig, title="The service"),
        model_option,
        click.option(
            "--dir",
            "folder",
            type=PathName(path_type=Path, file_okay=False),
            default=None,
            metavar="DIR",
            help="Folder of the run, the states and the logs. By default sttx/service in the user's data "
            "folder.",
        ),
        click.argument("sources", nargs=-1, type=Name(), metavar="[SOURCE]..."),
    ):
        function = add(function)
    return function


@command.command(
    "install",
    cls=Grouped,
    help=f"""Write the service's file, and start the service.

SOURCE is what to follow: {SOURCES}. By default your Claude Code history. The service starts now and at each
login; a service that is installed already is replaced, and continues from its last checkpoint.""",
)
@_plan_options
@click.option("--print", "only_print", is_flag=True, help="Print the file instead; install nothing.")
def install(
    sources: tuple[str, ...], folder: Path | None, model: str | None, only_print: bool, **options: Any
) -> None:
    """Write the service's file, and start the service."""
    plan, manager = _plan(sources, folder, model, options), this_manager()
    if only_print:
        emit_text(manager.text(plan, service_variables()))
        return
    manager.check()
    check_sources(plan.sources, "--model", EMBEDDED, follow=True)
    check_writable(plan.folder, "--dir")
    manager.install(plan, service_variables())
    say(f"installed: {str(manager.path)!r}")
    say(f"follows: {', '.join(plan.sources)}")
    say(f"keeps everything in {str(plan.folder)!r}")
    say(f"serves on {plan.url} once the model is loaded; `sttx service status` shows how it is")


@command.command("run", cls=Grouped)
@_plan_options
def run(sources: tuple[str, ...], folder: Path | None, model: str | None, **options: Any) -> None:
    """Follow, learn and serve, in the foreground.

    This is what the installed service runs. It ends when one of its two commands ends, when they take more
    than --memory-max, and when sttx is upgraded: start it again then. Ctrl-C ends it; the run is saved first.
    """
    plan = _plan(sources, folder, model, options)
    check_writable(plan.folder, "--dir")
    memory = size_of("--memory-max", plan.config.memory_max)
    supervisor = Supervisor(plan.children(), plan.logs, memory=memory, say=say)
    with Interruptible(supervisor.stop, lambda: say("stopping: the run is saved first")):
        ended = supervisor.run()
    if ended.name is None:
        say(f"ended: {ended.reason}")
        return
    failure = UsageError if ended.code == 2 else SttxError
    log = plan.logs / f"{ended.name}.log"
    raise failure(f"{ended.reason}: {_last_line(log)} (log: {str(log)!r})")


@command.command("status")
@click.option(
    "--dir",
    "folder",
    type=PathName(path_type=Path, file_okay=False),
    default=None,
    metavar="DIR",
    help="Folder of the service, where none is installed.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(folder: Path | None, as_json: bool) -> None:
    """Show the last step, what was paid, and the disk used.

    Where the system cannot be asked for the service's state, the rest is shown, and the exit code is 1.
    """
    manager = this_manager()
    installed = manager.plan()
    if installed is None or folder is not None:
        plan, url = _plan((), folder, None, {}, named=False), None
    else:
        plan, url = installed, installed.url
    state, failure = None, None
    try:
        manager.check()
        state = "not installed" if installed is None else manager.state()
    except SttxError as error:
        failure = error
    report = {"state": state, "file": str(manager.path), "url": url, **service_report(plan)}
    if as_json:
        emit_json(report)
    else:
        emit_table("sttx service", facts(_shown(report)))
    if failure is not None:
        raise failure


@command.command("stop")
def stop() -> None:
    """Stop the service until the next login, or until `sttx service install`. The run is saved first."""
    _installed().stop()
    say("stopped")


@command.command("uninstall")
def uninstall() -> None:
    """Stop the service, and remove its file. What was learned stays."""
    manager = _installed()
    plan = manager.plan()
    manager.uninstall()
    say(f"removed: {str(manager.path)!r}")
    if plan is not None:
        say(f"what was learned stays in {str(plan.folder)!r}: remove that folder to forget it")


def _installed() -> Manager:
    manager = this_manager()
    manager.check()
    if not manager.path.exists():
        raise UsageError(f"no service is installed ({str(manager.path)!r} does not exist)")
    return manager


def _plan(
    sources: tuple[str, ...],
    folder: Path | None,
    model: str | None,
    options: dict[str, Any],
    *,
    named: bool = True,
) -> ServicePlan:
    """Make the plan of the options.

    Args:
        sources: what to follow; by default the person's history.
        folder: of the service.
        model: the model.
        options: the fields of the config.
        named: whether a source is needed.

    Raises:
        UsageError: there is no source, or no such model.
    """
    check_model(model, EMBEDDED)
    if named and not sources:
        chosen = default_source()
        if chosen.spec == str(sample_folder()):
            raise UsageError(f"{chosen.reason.partition(':')[0]}: name a source to follow, such as claude")
        sources = (chosen.spec,)
    if "-" in sources:
        raise UsageError("a service has no standard input to follow: name another source than -")
    if model is not None and Path(model).exists():
        model = str(Path(model).resolve())
    where = data_home() / "sttx" / "service" if folder is None else folder.absolute()
    config = build(ServiceConfig, options)
    return ServicePlan(folder=where, sources=absolute_sources(sources), model=model, config=config)


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    return lines[-1] if lines else "it has printed nothing"


def _shown(report: dict[str, Any]) -> dict[str, object]:
    bpb, disk = report["bpb"] or {}, report["disk_bytes"]
    rows: dict[str, object] = {
        "service": report["state"] or "unknown",
        "address": report["url"] or "unknown",
        "last step": "none" if report["step"] is None else f"{report['step']:,}",
        "saved step": "none" if report["saved_step"] is None else f"{report['saved_step']:,}",
    }
    if bpb:
        rows["paid"] = (
            f"{number(bpb.get('paid'))} bits per byte of {count(report['bytes'], 'byte')} "
            f"(network {number(bpb.get('network'))}, frozen {number(bpb.get('frozen'))})"
        )
    rows["disk"] = ", ".join(f"{name} {size / 1e6:,.1f} MB" for name, size in disk.items())
    rows["logs"] = report["logs"]
    return rows

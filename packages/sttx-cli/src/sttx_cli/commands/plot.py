"""`sttx plot`: the curves of runs as a picture."""

from collections.abc import Sequence
from pathlib import Path

import click

from sttx_cli.curves import AXES, Axis, Panel, choose_panels, read_metrics, title_of
from sttx_cli.options import Name, PathName
from sttx_cli.output import count, emit_line, note
from sttx_cli.progress import progress_bar
from sttx_cli.runs import without_pointer
from sttx_core.errors import UsageError
from sttx_core.own_files import refuse_to_replace

_NAME = "curves.png"
_ENDINGS = (".png", ".svg")


@click.command("plot")
@click.argument("metrics", nargs=-1, type=Name(), metavar="[RUN]...")
@click.option(
    "--checkpoint",
    "checkpoints",
    type=Name(),
    multiple=True,
    metavar="RUN",
    help="The same as RUN; also RUN/latest or the folder of a checkpoint. May be repeated.",
)
@click.option(
    "--out",
    type=PathName(path_type=Path, dir_okay=False),
    default=None,
    help=f"The picture, a .png or .svg file. By default {_NAME} in the folder of the first run.",
)
@click.option("--title", default=None, help="Title of the picture. By default the runs and their length.")
@click.option(
    "--x",
    "axis",
    type=click.Choice(list(AXES)),
    default="steps",
    show_default=True,
    help="What the horizontal axis shows.",
)
@click.option(
    "--y",
    "names",
    type=Name(),
    multiple=True,
    metavar="NAME",
    help="A column of the metrics to draw, such as loss, lr, bpb or bpb.paid. May be repeated; the first is "
    "drawn large. By default the loss or bits per byte, the validation, and the learning rate or phrases.",
)
@click.option(
    "--smooth",
    type=click.IntRange(min=1),
    default=None,
    metavar="N",
    help="Draw the mean of the last N points bold and the points pale (1: only the points). By default N is "
    "a hundredth of each curve.",
)
def command(
    metrics: tuple[str, ...],
    checkpoints: tuple[str, ...],
    out: Path | None,
    title: str | None,
    axis: Axis,
    names: tuple[str, ...],
    smooth: int | None,
) -> None:
    """Draw the curves of runs as PNG or SVG.

    RUN is the folder of a run of `sttx train` or `sttx pretrain`, or its metrics.jsonl; several runs are
    drawn in one picture. Averages are bold, single windows pale. Needs matplotlib: pip install
    'sttx-cli[plot]'.
    """
    paths = [Path(without_pointer(name)) for name in (*metrics, *checkpoints)]
    if not paths:
        raise UsageError("no run is named: give the folder of a run, or --checkpoint RUN/latest")
    if out is not None:
        _check_ending(out)
        refuse_to_replace(out)
    runs = [read_metrics(path) for path in paths]
    out = out or runs[0].path.parent / _NAME
    panels = choose_panels(runs, axis, names)
    for run in runs:
        if run.skipped:
            note(f"{run.path}: skipped {count(run.skipped, 'line')}: not a JSON object")
    for panel in panels:
        for path in panel.absent:
            note(f"{path}: it has no {panel.name}")
    with progress_bar("drawing"):
        _draw(panels, axis, out, smooth=smooth, title=title_of(runs) if title is None else title)
    emit_line(str(out.absolute()))


def _check_ending(path: Path) -> None:
    """Check the name of a picture before anything is read.

    Raises:
        UsageError: It does not end in .png or .svg, or its folder does not exist.
    """
    if path.suffix.lower() not in _ENDINGS:
        raise UsageError(f"{str(path)!r} must end in '.png' or '.svg', the two formats there are")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {str(path.parent)!r} for {path.name!r}: make it first")


def _draw(panels: Sequence[Panel], axis: Axis, out: Path, *, smooth: int | None, title: str) -> None:
    """Draw and write the picture. Only this imports matplotlib, which takes seconds.

    Raises:
        UsageError: Matplotlib is not installed.
    """
    try:
        from sttx_cli.plotting import draw, write
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise UsageError("drawing needs matplotlib: install it with pip install 'sttx-cli[plot]'") from error
    write(draw(panels, axis, smooth=smooth, title=title), out)

"""`sttx plot`: the curves of runs as a picture."""

from pathlib import Path

import click

from sttx_cli.curves import AXES, Axis, choose_panels, read_metrics
from sttx_cli.options import Name, PathName
from sttx_cli.output import say
from sttx_core.errors import UsageError


@click.command("plot")
@click.argument("metrics", nargs=-1, required=True, type=PathName(path_type=Path), metavar="METRICS...")
@click.option(
    "--out",
    type=PathName(path_type=Path, dir_okay=False),
    default=Path("curves.png"),
    show_default=True,
    help="The picture; its ending, .png or .svg, says which kind.",
)
@click.option(
    "--x",
    "axis",
    type=click.Choice(list(AXES)),
    default="steps",
    show_default=True,
    help="What lies under the curves.",
)
@click.option(
    "--y",
    "names",
    type=Name(),
    multiple=True,
    metavar="NAME",
    help="A column to draw, such as loss, lr, bpb or bpb.paid; again for more. The first is drawn large. By "
    "default the loss or bits per byte, what was held out, and the learning rate.",
)
@click.option(
    "--smooth",
    type=click.IntRange(min=1),
    default=None,
    metavar="N",
    help="Points that a mean is taken over, the points themselves pale behind it (1: none). By default a "
    "hundredth of each curve.",
)
def command(
    metrics: tuple[Path, ...], out: Path, axis: Axis, names: tuple[str, ...], smooth: int | None
) -> None:
    """Draw the curves of runs as PNG or SVG.

    METRICS are folders of runs, of `sttx train` or `sttx pretrain`, or their metrics.jsonl. Several are drawn
    in one picture. It needs matplotlib: pip install 'sttx-cli[plot]'.
    """
    try:
        from sttx_cli.plotting import check_ending, draw, write
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise UsageError("drawing needs matplotlib: install it with pip install 'sttx-cli[plot]'") from error
    check_ending(out)
    runs = [read_metrics(path) for path in metrics]
    panels = choose_panels(runs, axis, names)
    for run in runs:
        if run.skipped:
            say(f"{run.path}: {run.skipped:,} lines are no JSON objects, and were left out")
    for panel in panels:
        for path in panel.absent:
            say(f"{path}: it has no {panel.name}")
    write(draw(panels, axis, smooth=smooth), out)
    click.echo(str(out))

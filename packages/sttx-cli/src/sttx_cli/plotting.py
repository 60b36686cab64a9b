"""Panels of curves as a picture. Needs matplotlib (the extra `plot`), whose global state it leaves alone."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sttx_cli.curves import Axis, Curve, Panel, moving_mean
from sttx_core.errors import UsageError
from sttx_train.files import replacing_file

ENDINGS = (".png", ".svg")

_UNITS = {
    "bpb": "bits per byte",
    "held_out_bpb": "held out: bits per byte",
    "held_out_loss": "held out: nats per token",
    "loss": "loss (nats per token)",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
    "grad_s0": "gradient norm of S0",
    "norm_s0": "norm of S0",
    "seconds": "time (seconds)",
    "tokens_per_second": "speed (tokens per second)",
    "bytes_per_second": "speed (bytes per second)",
    "memory_mb": "memory (MB)",
    "phrases": "phrases (number)",
    "replay": "replay (windows)",
}
_STYLES = ("-", "--", ":", "-.")
_SMALL_ROWS = 3
_FEW = 60  # points that are marked, so that one alone is seen
_SHARE = 100  # unless asked otherwise, a point is the mean over this part of its curve
_PALE = 0.25


def check_ending(path: Path) -> None:
    """Refuse a picture's name before anything is read.

    Raises:
        UsageError: another ending than .png or .svg, or no folder to put it in.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(f"{str(path)!r} must end in '.png' or '.svg', which says what is drawn")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {str(path.parent)!r} for {path.name!r}: make it first")


def draw(panels: Sequence[Panel], axis: Axis, *, smooth: int | None = None) -> Figure:
    """Draw the first panel large on the left and the others small beside it.

    Args:
        panels: what to draw, at least one.
        axis: what is under the curves.
        smooth: points that a mean is taken over; a hundredth of each curve's points when None. The points
            themselves stay, pale, behind their mean.
    """
    small = len(panels) - 1
    rows = max(min(small, _SMALL_ROWS), 1)
    columns = -(-small // rows)
    figure = Figure(figsize=(7.5 + 3.6 * columns, 4.8 + 1.2 * (rows == _SMALL_ROWS)), layout="constrained")
    grid = figure.add_gridspec(rows, 1 + columns, width_ratios=[2.0, *[1.0] * columns])
    for number, panel in enumerate(panels):
        place = grid[:, 0] if number == 0 else grid[(number - 1) % rows, 1 + (number - 1) // rows]
        axes = figure.add_subplot(place)
        _fill(axes, panel, smooth)
        axes.set_xlabel(axis if axis != "seconds" else _UNITS["seconds"])
    return figure


def write(figure: Figure, path: Path) -> None:
    """Write a picture in the format of its name's ending, whole or not at all."""
    kind = path.suffix.lower().removeprefix(".")
    with replacing_file(path) as aside, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a name in a script that the font lacks
        figure.savefig(aside, format=kind, dpi=130, metadata={"Date": None} if kind == "svg" else None)


def unit(name: str) -> str:
    """Return the words of an axis: what is measured and in what.

    >>> unit("bpb.paid"), unit("held_out_bpb"), unit("odd")
    ('bits per byte: paid', 'held out: bits per byte', 'odd')
    """
    if name in _UNITS:
        return _UNITS[name]
    head, _, rest = name.partition(".")
    return f"{_UNITS.get(head, head)}: {rest}" if rest else name


def _fill(axes: Axes, panel: Panel, smooth: int | None) -> None:
    several_runs = len({curve.run for curve in panel.curves}) > 1
    for curve in panel.curves:
        _add(axes, curve, several_runs, smooth)
    axes.set_ylabel(_words(unit(panel.name)))
    axes.grid(color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_formatter(lambda value, _: _short(value))
    axes.margins(x=0.02)
    if any(curve.label for curve in panel.curves) and len(panel.curves) > 1:
        axes.legend(frameon=False, fontsize="small")


def _words(text: str) -> str:
    r"""Write a text so that matplotlib takes it as it is: no formula, and not one of its hidden labels.

    >>> print(_words("a$b$"), _words("_run"))
    a\$b\$  _run
    """
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def _short(value: float) -> str:
    """Write a place along an axis.

    >>> _short(2500.0), _short(0.5), _short(12_500_000.0)
    ('2,500', '0.5', '12.5M')
    """
    return f"{value:,.6g}" if abs(value) < 1e6 else f"{value / 1e6:,.6g}M"


def _add(axes: Axes, curve: Curve, several_runs: bool, smooth: int | None) -> None:
    colour = f"C{curve.run if several_runs else curve.member}"
    style = _STYLES[curve.member % len(_STYLES)] if several_runs else "-"
    width = smooth if smooth is not None else max(len(curve.ys) // _SHARE, 1)
    if width > 1:
        axes.plot(curve.xs, curve.ys, color=colour, alpha=_PALE, linewidth=0.6, label="_as written")
    axes.plot(
        curve.xs,
        moving_mean(curve.ys, width),
        color=colour,
        linestyle=style,
        linewidth=1.4,
        marker="." if len(curve.ys) <= _FEW else "",
        label=_words(curve.label),
    )

"""Panels of curves as a picture. Needs matplotlib (the extra `plot`) and leaves its global state alone."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sttx_cli.curves import Axis, Curve, Panel, moving_mean
from sttx_cli.plain import visible_line
from sttx_core.own_files import replacing_file
from sttx_train.run_folder import MARKER

_UNITS = {
    "bpb": "bits per byte",
    "validation_bpb": "validation: bits per byte",
    "validation_loss": "validation: nats per token",
    "loss": "loss (nats per token)",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
    "grad_s0": "gradient norm of S0",
    "norm_s0": "norm of S0",
    "seconds": "time (seconds)",
    "tokens_per_second": "speed (tokens per second)",
    "bytes_per_second": "speed (bytes per second)",
    "memory_mb": "memory (MB)",
    "phrases": "phrases found",
    "replay": "replay (windows)",
    "bytes": "bytes of text read",
    "tokens": "tokens read",
    "steps": "steps",
}
_COLORS = ("#0b6e99", "#d9730d", "#448361", "#9065b0", "#c14c8a", "#787774")
_MODEL_COLORS = {
    "paid": "#0b6e99",
    "now": "#0b6e99",
    "network": "#d08a2e",
    "now_network": "#d08a2e",
    "frozen": "#8a8a8a",
    "now_frozen": "#8a8a8a",
}
_LINES = ("-", "--", ":", "-.")
_SMALL_ROWS = 3
_FEW = 60  # points of a curve that get markers, so that a single point is visible
_SHARE = 100  # by default the moving mean is over this part of the curve
_PALE, _FAINT, _SHADE = 0.25, 0.16, 0.1
_INK = "0.25"
_SHOWN_PERCENT = 97.0  # of the single windows that the vertical axis covers


def draw(panels: Sequence[Panel], axis: Axis, *, smooth: int | None = None, title: str = "") -> Figure:
    """Draw the first panel large on the left and the others small on the right.

    Args:
        panels: what to draw, at least one.
        axis: what the horizontal axis shows.
        smooth: points of the moving mean, drawn bold over the pale points; a hundredth of each curve when
            None.
        title: above the picture; none if empty.
    """
    small = len(panels) - 1
    rows = max(min(small, _SMALL_ROWS), 1)
    columns = -(-small // rows)
    figure = Figure(figsize=(7.5 + 3.6 * columns, 4.8 + 1.2 * (rows == _SMALL_ROWS)), layout="constrained")
    grid = figure.add_gridspec(rows, 1 + columns, width_ratios=[2.2, *[1.0] * columns])
    for number, panel in enumerate(panels):
        place = grid[:, 0] if number == 0 else grid[(number - 1) % rows, 1 + (number - 1) // rows]
        axes = figure.add_subplot(place)
        _fill(axes, panel, smooth)
        axes.set_xlabel(_UNITS[axis], color=_INK)
    if title:
        figure.suptitle(_literal(title), fontsize="large", fontweight="bold", color=_INK)
    return figure


def write(figure: Figure, path: Path) -> None:
    """Write a picture in the format of its name's ending, whole or not at all; in a run's folder, private."""
    kind, private = path.suffix.lower().removeprefix("."), (path.parent / MARKER).exists()
    with replacing_file(path, private=private) as aside, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a name in a script that the font lacks
        figure.savefig(aside, format=kind, dpi=130, metadata={"Date": None} if kind == "svg" else None)


def unit(name: str) -> str:
    """Return the text of an axis: what is measured, and in which unit.

    >>> unit("bpb.paid"), unit("validation_bpb"), unit("odd")
    ('bits per byte: paid', 'validation: bits per byte', 'odd')
    """
    if name in _UNITS:
        return _UNITS[name]
    column, _, rest = name.partition(".")
    return f"{_UNITS.get(column, column)}: {rest}" if rest else name


def _fill(axes: Axes, panel: Panel, smooth: int | None) -> None:
    several_runs = len({curve.run for curve in panel.curves}) > 1
    for curve in sorted(panel.curves, key=lambda curve: curve.style == "average"):
        _add(axes, curve, several_runs, smooth)
    averages = [curve for curve in panel.curves if curve.style == "average" and curve.ys]
    if not several_runs and len(averages) > 1:
        _compare(axes, averages)
    axes.set_ylabel(_literal(unit(panel.name)), color=_INK)
    axes.grid(color="0.93", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("0.7")
    axes.tick_params(colors=_INK, length=3)
    axes.xaxis.set_major_formatter(lambda value, _: _short(value))
    axes.margins(x=0.02)
    _cut_outliers(axes, panel)
    if any(curve.label for curve in panel.curves) and len(panel.curves) > 1:
        _add_legend(axes)


def _compare(axes: Axes, averages: Sequence[Curve]) -> None:
    """Shade what lies between two averages of one run, and write where each of them ends."""
    first, second = averages[:2]
    if first.xs == second.xs:
        color = _color(first, False)
        axes.fill_between(first.xs, first.ys, second.ys, color=color, alpha=_SHADE, linewidth=0)
    for curve in averages:
        axes.annotate(
            f"{curve.ys[-1]:.2f}",
            (curve.xs[-1], curve.ys[-1]),
            (5, 0),
            textcoords="offset points",
            verticalalignment="center",
            color=_color(curve, False),
            fontweight="bold",
        )


def _add_legend(axes: Axes) -> None:
    """Add the legend, averages first, with pale lines dark enough to see."""
    handles, labels = axes.get_legend_handles_labels()
    widths = [handle.get_linewidth() if isinstance(handle, Line2D) else 0.0 for handle in handles]
    order = sorted(range(len(handles)), key=lambda at: -widths[at])
    legend = axes.legend(
        [handles[at] for at in order],
        [labels[at] for at in order],
        frameon=False,
        fontsize="small",
        labelcolor=_INK,
    )
    for line in legend.get_lines():
        line.set_alpha(max(line.get_alpha() or 1.0, 2 * _PALE))


def _cut_outliers(axes: Axes, panel: Panel) -> None:
    """Start the axis at 0, and let it end below the few highest windows, which would flatten the rest."""
    single = [y for curve in panel.curves if curve.style == "single" for y in curve.ys]
    if len(single) < _FEW:
        return
    bold = [y for curve in panel.curves if curve.style == "average" for y in curve.ys]
    top = max(float(np.percentile(single, _SHOWN_PERCENT)), *bold)
    axes.set_ylim(0, top or None)


def _literal(text: str) -> str:
    r"""Write a text so that matplotlib shows it as it is: not as a formula, nor as a hidden label.

    >>> print(_literal("a$b$"), _literal("_run"))
    a\$b\$  _run
    """
    text = visible_line(text).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def _short(value: float) -> str:
    """Write a position on an axis.

    >>> _short(2500.0), _short(0.5), _short(12_500_000.0)
    ('2,500', '0.5', '12.5M')
    """
    return f"{value:,.6g}" if abs(value) < 1e6 else f"{value / 1e6:,.6g}M"


def _add(axes: Axes, curve: Curve, several_runs: bool, smooth: int | None) -> None:
    color = _color(curve, several_runs)
    line = _LINES[curve.member % len(_LINES)] if several_runs else "-"
    label = _literal(curve.label)
    marker = "." if len(curve.ys) <= _FEW else ""
    if curve.style == "single":
        axes.plot(curve.xs, curve.ys, color=color, alpha=_FAINT, linewidth=0.6, marker=marker, label=label)
        return
    width = smooth if smooth is not None else max(len(curve.ys) // _SHARE, 1)
    means = curve.ys if curve.style == "average" else moving_mean(curve.ys, width)
    if means is not curve.ys and width > 1:
        axes.plot(curve.xs, curve.ys, color=color, alpha=_PALE, linewidth=0.6, label="_points")
    axes.plot(
        curve.xs,
        means,
        color=color,
        linestyle=line,
        linewidth=2.2 if curve.style == "average" else 1.4,
        marker="" if curve.style == "average" and len(curve.ys) > 1 else marker,
        label=label,
    )


def _color(curve: Curve, several_runs: bool) -> str:
    if several_runs:
        return _COLORS[curve.run % len(_COLORS)]
    member = curve.column.rpartition(".")[2]
    return _MODEL_COLORS.get(member, _COLORS[curve.member % len(_COLORS)])

"""The numbers of a run, read from its metrics (JSON lines) and chosen for drawing. Draws nothing.

It accepts any fields: a line is flattened (`{"bpb": {"paid": 2.1}}` becomes `bpb.paid`), and every finite
number is kept. A column may be on some lines only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from sttx_cli.plain import one_line
from sttx_core.errors import DataError, UsageError
from sttx_train.run_folder import METRICS, current_metric, finite_numbers, metric_lines

Axis = Literal["steps", "tokens", "bytes", "seconds"]
AXES: dict[Axis, str] = {"steps": "step", "tokens": "tokens", "bytes": "bytes", "seconds": "seconds"}
"""What the horizontal axis can show, and the field that holds it."""

_PER_STEP = "bpb.paid"  # on the lines of `sttx train`, whose `seconds` are those of one step
_MAIN = ("bpb", "loss")
_VALIDATION = ("validation_bpb", "validation_loss")
_SMALL = ("lr", "phrases")

Style = Literal["average", "single", "values"]
_STYLES: dict[str, Style] = {
    "bpb.paid": "average",
    "bpb.network": "average",
    "bpb.frozen": "average",
    "bpb.now": "single",
    "bpb.now_network": "single",
    "bpb.now_frozen": "single",
}
_WORDS = {
    "bpb.now": "each window, paid",
    "bpb.now_network": "each window, network",
    "bpb.now_frozen": "each window, frozen",
}
"""Words of the legend; other columns of a panel go by the last part of their names."""


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """The metrics of one run.

    Attributes:
        path: the file.
        lines: the finite numbers of each line, by flattened name; true is 1 and false is 0.
        skipped: how many lines are not JSON objects; a last line that was cut short does not count.
    """

    path: Path
    lines: list[dict[str, float]]
    skipped: int

    @cached_property
    def columns(self) -> list[str]:
        """Return the name of every column, in the order of their first lines."""
        return list(dict.fromkeys(name for line in self.lines for name in line))

    def members(self, name: str) -> list[str]:
        """Return the columns that a name means: itself, or those under it, as `bpb` means `bpb.paid`."""
        if name in self.columns:
            return [name]
        return [column for column in self.columns if column.startswith(f"{name}.")]

    def curve(self, axis: Axis, column: str) -> tuple[list[float], list[float]]:
        """Return the positions along an axis and the values there, of the lines that have the column.

        A line without a position has the position of the line before it.
        """
        pairs = [
            (x, line[column])
            for x, line in zip(self._positions(axis), self.lines, strict=True)
            if column in line and not math.isnan(x)
        ]
        return [x for x, _ in pairs], [y for _, y in pairs]

    def _positions(self, axis: Axis) -> list[float]:
        field = AXES[axis]
        if field not in self.columns:
            axes = ", ".join(name for name, field in AXES.items() if field in self.columns)
            raise UsageError(
                f"{str(self.path)!r} has no {field!r} to draw along: "
                + (f"give --x as one of {axes}" if axes else "it does not hold the metrics of a run")
            )
        if axis == "seconds" and _PER_STEP in self.columns:
            return list(accumulate(line.get(field, 0.0) for line in self.lines))
        positions = (line.get(field, math.nan) for line in self.lines)
        return list(accumulate(positions, lambda before, now: before if math.isnan(now) else now))


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of a panel.

    Attributes:
        run: number of the file, from 0.
        member: number of the column among the panel's, from 0.
        column: name of the column.
        label: its text in the legend.
        xs: positions along the axis.
        ys: the values.
        style: "average" is drawn bold as it is; "single" is drawn pale, as single windows; "values" is drawn
            pale, with its moving mean bold.
    """

    run: int
    member: int
    column: str
    label: str
    xs: list[float]
    ys: list[float]
    style: Style = "values"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """The curves of one name.

    Attributes:
        name: the column, or what several have in common.
        curves: one for each file and column.
        absent: the files that have no such column.
    """

    name: str
    curves: list[Curve]
    absent: list[Path]


def read_metrics(spec: Path) -> Metrics:
    """Read a file of JSON lines, or the metrics in the folder of a run or of one of its checkpoints.

    Raises:
        UsageError: the file does not exist.
        DataError: no line of it holds a number.
    """
    path = spec
    if spec.is_dir():
        inside = [spec / METRICS, spec.resolve().parent / METRICS]
        is_checkpoint = (spec / "manifest.json").is_file()
        path = inside[1] if is_checkpoint else inside[0]
    if not path.is_file():
        where = f"no {METRICS!r} in {str(spec)!r}" if spec.is_dir() else f"no metrics at {str(spec)!r}"
        raise UsageError(f"{where}: give the folder of a run, or its {METRICS}")
    lines, skipped = [], 0
    for row, ended in metric_lines(path):
        if row is None:
            skipped += ended
        elif numbers := _numbers(row):
            lines.append(numbers)
    if not lines:
        raise DataError(f"{str(path)!r} has no line with numbers: metrics are JSON objects, one a line")
    return Metrics(path=path, lines=lines, skipped=skipped)


def choose_panels(runs: Sequence[Metrics], axis: Axis, names: Sequence[str] = ()) -> list[Panel]:
    """Choose what is drawn: the names given, or the usual ones.

    Raises:
        UsageError: no file has the name, or a file lacks the axis; the message lists what there is.
    """
    labels = _labels([run.path for run in runs])
    panels = []
    for name in dict.fromkeys(names or _usual(runs)):
        members = list(dict.fromkeys(column for run in runs for column in run.members(name)))
        if not members:
            raise UsageError(f"no line has a column {name!r}: there are {_all_columns(runs)}")
        curves = [
            Curve(
                run=number,
                member=members.index(column),
                column=column,
                label=_label(labels[number] if len(runs) > 1 else "", name, column),
                xs=xs,
                ys=ys,
                style=_STYLES.get(column, "values"),
            )
            for number, run in enumerate(runs)
            for column in run.members(name)
            for xs, ys in [run.curve(axis, column)]
        ]
        absent = [run.path for run in runs if not run.members(name)]
        panels.append(Panel(name=name, curves=curves, absent=absent))
    return panels


def moving_mean(values: Sequence[float], width: int) -> list[float]:
    """Return the mean of each value and those before it, `width` in all; of fewer at the start.

    >>> moving_mean([1.0, 3.0, 5.0, 7.0], 2)
    [1.0, 2.0, 4.0, 6.0]
    """
    import numpy as np
    from numpy.lib.stride_tricks import sliding_window_view

    array = np.asarray(values, dtype=np.float64)
    start = array[: width - 1]
    means = [np.cumsum(start) / np.arange(1, len(start) + 1)]
    if len(array) >= width:  # each mean by itself: with differences of sums, one outlier would spoil the rest
        means.append(sliding_window_view(array, width).mean(axis=1))
    return np.concatenate(means).tolist()


def title_of(runs: Sequence[Metrics]) -> str:
    """Return the title of a picture: the runs, and how long the longest is."""
    names = ", ".join(_labels([run.path for run in runs]))
    steps = max(line.get("step", 0.0) for run in runs for line in run.lines)
    size = max(line.get("bytes", 0.0) for run in runs for line in run.lines)
    length = [f"{steps:,.0f} steps" if steps else "", f"{size / 1e6:,.1f} MB of text" if size >= 1e5 else ""]
    return f"{names}: {', '.join(filter(None, length))}" if any(length) else names


def _usual(runs: Sequence[Metrics]) -> list[str]:
    """Return what is drawn by default: the loss or bits per byte that all runs have, validation, the rest."""
    main = [name for name in _MAIN if all(run.members(name) for run in runs)]
    main = main or [name for name in _MAIN if any(run.members(name) for run in runs)]
    validation = [name for name in _VALIDATION if any(run.members(name) for run in runs)]
    small = [name for name in _SMALL if any(run.members(name) for run in runs)]
    if not main + validation + small:
        raise UsageError(f"there is no loss or bits per byte: choose with --y among {_all_columns(runs)}")
    return main[:1] + validation[:1] + small


def _all_columns(runs: Sequence[Metrics]) -> str:
    return ", ".join(dict.fromkeys(column for run in runs for column in run.columns))


def _numbers(line: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of one line, flattened."""
    return {_readable(current_metric(name)): float(value) for name, value in finite_numbers(line)}


@cache
def _readable(name: str) -> str:
    """Make a column's name fit for messages: short, without control characters and broken characters."""
    return one_line(name.encode("utf-8", "replace").decode(), 60)


def _label(run: str, name: str, column: str) -> str:
    words = _WORDS.get(column, column.removeprefix(name).removeprefix(".")) if column != name else ""
    return ": ".join(word for word in (run, words) if word)


def _labels(paths: Sequence[Path]) -> list[str]:
    """Return short names of files: their folders or stems, or their paths if those are not unique."""
    short = [path.resolve().parent.name if path.name == METRICS else path.stem for path in paths]
    return short if len(set(short)) == len(short) else [str(path) for path in paths]

"""The figures of a run, read from its metrics (JSON lines) and chosen for drawing. Draws nothing.

It knows the fields of no trainer: a line is flattened (`{"bpb": {"paid": 2.1}}` becomes `bpb.paid`), whatever
is a finite number is a figure, and a figure may be on some lines only.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import accumulate
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from sttx_cli.plain import one_line
from sttx_core.errors import DataError, UsageError
from sttx_train.figures import METRICS, finite_numbers

Axis = Literal["steps", "tokens", "bytes", "seconds"]
AXES: dict[Axis, str] = {"steps": "step", "tokens": "tokens", "bytes": "bytes", "seconds": "seconds"}
"""What can be under the curves, and the field that holds it."""

_PER_STEP = "bpb.paid"  # on the lines of `sttx train`, whose `seconds` are one step's and not the run's
_MAIN = ("bpb", "loss")
_HELD_OUT = ("held_out_bpb", "held_out_loss")
_BESIDE = ("lr", "phrases")


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """One file of figures.

    Attributes:
        path: where it was read.
        lines: the finite numbers of each line, by flattened name; true is 1 and false is 0.
        skipped: how many lines were no JSON object, a last one cut short apart.
    """

    path: Path
    lines: list[dict[str, float]]
    skipped: int

    @cached_property
    def columns(self) -> list[str]:
        """Return every figure's name, in the order of their first lines."""
        return list(dict.fromkeys(name for line in self.lines for name in line))

    def members(self, name: str) -> list[str]:
        """Return the columns that a name means: itself, or those inside it, as `bpb` means `bpb.paid`."""
        if name in self.columns:
            return [name]
        return [column for column in self.columns if column.startswith(f"{name}.")]

    def curve(self, axis: Axis, column: str) -> tuple[list[float], list[float]]:
        """Return the places along an axis, and the figures there, of the lines that have the figure.

        A line that does not say where it is has the place of the line before it.
        """
        pairs = [
            (x, line[column])
            for x, line in zip(self._places(axis), self.lines, strict=True)
            if column in line and not math.isnan(x)
        ]
        return [x for x, _ in pairs], [y for _, y in pairs]

    def _places(self, axis: Axis) -> list[float]:
        field = AXES[axis]
        if field not in self.columns:
            there = ", ".join(name for name, field in AXES.items() if field in self.columns)
            raise UsageError(
                f"{str(self.path)!r} has no {field!r} to draw along: "
                + (f"give --x as one of {there}" if there else "it holds no metrics of a run")
            )
        if axis == "seconds" and _PER_STEP in self.columns:
            return list(accumulate(line.get(field, 0.0) for line in self.lines))
        found = (line.get(field, math.nan) for line in self.lines)
        return list(accumulate(found, lambda before, now: before if math.isnan(now) else now))


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of a panel.

    Attributes:
        run: number of the file, from 0.
        member: number of the column among the panel's, from 0.
        label: its words in the legend.
        xs: places.
        ys: figures, as they were written.
    """

    run: int
    member: int
    label: str
    xs: list[float]
    ys: list[float]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """The curves of one name.

    Attributes:
        name: the column, or what several have in common.
        curves: one for each file and column.
        absent: the files that have no such figure.
    """

    name: str
    curves: list[Curve]
    absent: list[Path]


def read_metrics(spec: Path) -> Metrics:
    """Read a file of JSON lines, or the one in a run's folder.

    Raises:
        UsageError: nothing is there.
        DataError: no line of it holds a number.
    """
    path = spec / METRICS if spec.is_dir() else spec
    if not path.is_file():
        where = f"no {METRICS!r} in {str(spec)!r}" if spec.is_dir() else f"no metrics at {str(spec)!r}"
        raise UsageError(f"{where}: give the folder of a run, or its {METRICS}")
    lines, skipped = [], 0
    with path.open("rb") as file:
        for raw in file:
            figures = _figures(raw)
            if figures:
                lines.append(figures)
            elif figures is None and raw.strip() and raw.endswith(b"\n"):
                skipped += 1
    if not lines:
        raise DataError(f"{str(path)!r} has no line with numbers: metrics are JSON objects, one a line")
    return Metrics(path=path, lines=lines, skipped=skipped)


def choose_panels(runs: Sequence[Metrics], axis: Axis, names: Sequence[str] = ()) -> list[Panel]:
    """Choose what is drawn: the names given, or what a person looks for first.

    Raises:
        UsageError: a name that no file has, or a file without the axis; names what there is.
    """
    labels = _labels([run.path for run in runs])
    panels = []
    for name in dict.fromkeys(names or _usual(runs)):
        members = list(dict.fromkeys(column for run in runs for column in run.members(name)))
        if not members:
            there = ", ".join(dict.fromkeys(column for run in runs for column in run.columns))
            raise UsageError(f"no line has a column {name!r}: there are {there}")
        curves = [
            Curve(
                run=number,
                member=members.index(column),
                label=_label(labels[number] if len(runs) > 1 else "", name, column),
                xs=xs,
                ys=ys,
            )
            for number, run in enumerate(runs)
            for column in run.members(name)
            for xs, ys in [run.curve(axis, column)]
        ]
        absent = [run.path for run in runs if not run.members(name)]
        panels.append(Panel(name=name, curves=curves, absent=absent))
    return panels


def moving_mean(values: Sequence[float], width: int) -> list[float]:
    """Average each value with those before it, `width` in all; fewer at the start.

    >>> moving_mean([1.0, 3.0, 5.0, 7.0], 2)
    [1.0, 2.0, 4.0, 6.0]
    """
    figures = np.asarray(values, dtype=np.float64)
    start = figures[: width - 1]
    means = [np.cumsum(start) / np.arange(1, len(start) + 1)]
    if len(figures) >= width:  # window by window: from differences of sums one outlier would spoil the rest
        means.append(sliding_window_view(figures, width).mean(axis=1))
    return np.concatenate(means).tolist()


def _usual(runs: Sequence[Metrics]) -> list[str]:
    """Name what is drawn unasked: what all files have of the loss, then what was held out, and the rest."""
    main = [name for name in _MAIN if all(run.members(name) for run in runs)]
    main = main or [name for name in _MAIN if any(run.members(name) for run in runs)]
    held = [name for name in _HELD_OUT if any(run.members(name) for run in runs)]
    beside = [name for name in _BESIDE if any(run.members(name) for run in runs)]
    if not main + held + beside:
        there = ", ".join(dict.fromkeys(column for run in runs for column in run.columns))
        raise UsageError(f"there is no loss and no bits per byte: choose with --y among {there}")
    return main[:1] + held[:1] + beside


def _figures(raw: bytes) -> dict[str, float] | None:
    """Flatten one line; None if it is no JSON object."""
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict):
        return None
    return {_readable(name): float(value) for name, value in finite_numbers(line)}


@cache
def _readable(name: str) -> str:
    """Make a name of a file fit for messages: no control characters, no halves of characters, not long."""
    return one_line(name.encode("utf-8", "replace").decode(), 60)


def _label(run: str, name: str, column: str) -> str:
    return ": ".join(word for word in (run, column.removeprefix(name).removeprefix(".")) if word)


def _labels(paths: Sequence[Path]) -> list[str]:
    """Name files shortly: by their folder, or their stem; by their path where that is not enough."""
    short = [path.resolve().parent.name if path.name == METRICS else path.stem for path in paths]
    return short if len(set(short)) == len(short) else [str(path) for path in paths]

"""Curves and minimaps as paths of SVG. Knows sums along a text, not pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sttx_train.report.cells import Cell

WIDTH, HEIGHT = 1000, 100
"""Of every drawing, in its own units; a page stretches it."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Paths in a box of `WIDTH` times `HEIGHT`; zero is at the bottom.

    Attributes:
        top: bits per byte at the upper edge.
        paid: area under what was paid.
        frozen: line of what the frozen network would have paid.
        repeated: columns where most of the text repeats what was read before.
        news: columns of new information.
        kinds: for each kind of trace, the columns where it is most of the text.
    """

    top: float
    paid: str
    frozen: str
    repeated: str
    news: str
    kinds: tuple[tuple[str, str], ...]


def draw(cells: Sequence[Cell], columns: int, top: float | None = None) -> Drawing:
    """Draw sums along a text.

    Args:
        cells: the sums.
        columns: how many columns to draw at most.
        top: bits per byte at the upper edge; by default what all of it fits under.
    """
    edges, sums = _columns(cells, columns)
    sizes = np.maximum(sums["bytes"], 1e-9)
    paid, frozen = sums["paid"] / sizes, sums["frozen"] / sizes
    if top is None:
        top = _rounded(float(max(paid.max(initial=0), frozen.max(initial=0))))
    news = sums["news"] / max(float(sums["news"].max(initial=0)), 1e-9)
    return Drawing(
        top=top,
        paid=_steps(edges, paid / top, closed=True),
        frozen=_steps(edges, frozen / top, closed=False),
        repeated=_bars(edges, (sums["repeated"] > 0.5 * sizes).astype(float)),
        news=_bars(edges, np.where(news > 0.02, np.maximum(news, 0.12), 0)),
        kinds=tuple(
            (kind, _bars(edges, (sums["kind"] == kind).astype(float)))
            for kind in dict.fromkeys(sums["kind"].tolist())
            if kind
        ),
    )


def _columns(cells: Sequence[Cell], columns: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the edges of the columns, from 0 to 1, and the sums in them. Few cells are a column each."""
    ends = np.cumsum([cell.bytes for cell in cells], dtype=np.float64)
    if not len(ends) or ends[-1] <= 0:
        return np.array([0.0, 1.0]), {
            name: np.zeros(1) for name in ("bytes", "paid", "frozen", "news", "repeated", "kind")
        } | {"kind": np.array([""])}
    chosen = np.searchsorted(ends, np.linspace(0, ends[-1], columns + 1)[1:] - 1e-6)
    last = np.unique(chosen)
    groups = np.split(np.arange(len(cells)), last[:-1] + 1)

    def each(of: Callable[[Cell], float]) -> np.ndarray:
        return np.array([sum(of(cells[at]) for at in group) for group in groups], dtype=np.float64)

    return np.concatenate([[0.0], ends[last] / ends[-1]]), {
        "bytes": each(lambda cell: cell.bytes),
        "paid": each(lambda cell: cell.paid),
        "frozen": each(lambda cell: cell.frozen),
        "news": each(lambda cell: cell.news),
        "repeated": each(lambda cell: cell.repeated),
        "kind": np.array(
            [max((cells[at] for at in group), key=lambda cell: cell.bytes).kind for group in groups]
        ),
    }


def _steps(edges: np.ndarray, heights: np.ndarray, *, closed: bool) -> str:
    """Return a line of steps; closed, the area under it."""
    x, y = np.rint(edges * WIDTH).astype(int), np.rint((1 - np.clip(heights, 0, 1)) * HEIGHT).astype(int)
    line = "".join(f"V{at}H{to}" for at, to in zip(y.tolist(), x[1:].tolist(), strict=True))
    return f"M0 {HEIGHT}{line}V{HEIGHT}Z" if closed else f"M0 {y[0]}{line}"


def _bars(edges: np.ndarray, heights: np.ndarray) -> str:
    """Return columns that stand on the lower edge; equal neighbors are one."""
    x, tall = np.rint(edges * WIDTH).astype(int).tolist(), np.rint(heights * HEIGHT).astype(int).tolist()
    path, at = [], 0
    while at < len(tall):
        end = at + 1
        while end < len(tall) and tall[end] == tall[at]:
            end += 1
        if tall[at]:
            path.append(f"M{x[at]} {HEIGHT}V{HEIGHT - tall[at]}H{x[end]}V{HEIGHT}Z")
        at = end
    return "".join(path)


def _rounded(value: float) -> float:
    """Return the next of 1, 2, 4, 6, 8, … bits per byte."""
    return next(
        (step for step in (0.5, 1.0, 2.0, 4.0, 6.0, 8.0) if value <= step), float(2 * np.ceil(value / 2))
    )

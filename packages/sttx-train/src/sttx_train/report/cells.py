"""Sums along a stream, in a bounded number of cells: what curves and minimaps are drawn from."""

from __future__ import annotations

from dataclasses import dataclass, replace

_MOST = 512


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Consecutive text: its bytes, prices and new information in bits, repeated bytes, kind of trace."""

    bytes: int
    paid: float
    frozen: float
    news: float = 0.0
    repeated: int = 0
    kind: str = ""

    def __add__(self, other: Cell) -> Cell:
        """Return both as one; the kind is that of the longer."""
        return replace(
            self,
            bytes=self.bytes + other.bytes,
            paid=self.paid + other.paid,
            frozen=self.frozen + other.frozen,
            news=self.news + other.news,
            repeated=self.repeated + other.repeated,
            kind=self.kind if self.bytes >= other.bytes else other.kind,
        )


class Cells:
    """Cells in the order of the text. When there are too many, each becomes one with the next.

    >>> cells = Cells(most=2)
    >>> for size in (1, 2, 3):
    ...     cells.add(Cell(bytes=size, paid=0, frozen=0))
    >>> [cell.bytes for cell in cells.all]
    [3, 3]
    """

    def __init__(self, most: int = _MOST) -> None:
        self.all: list[Cell] = []
        self._most = most
        self._together = 1  # additions in a full cell
        self._last = 0  # additions in the last one

    def add(self, cell: Cell) -> None:
        """Add text at the end."""
        if self.all and self._last < self._together:
            self.all[-1] += cell
            self._last += 1
            return
        if len(self.all) >= self._most:
            pairs = [self.all[at : at + 2] for at in range(0, len(self.all), 2)]
            self.all = [pair[0] + pair[1] if len(pair) == 2 else pair[0] for pair in pairs]
            self._together *= 2
        self.all.append(cell)
        self._last = 1

"""Which ids are trained on when: every id once an epoch, documents in a new order each time. Knows no model.

The documents of an epoch stand one behind the other in a drawn order, and that row of ids is cut into as many
streams as there are rows in a batch, each read window by window. So a stream's state can be carried from
window to window, and the whole position is one number.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sttx_core.errors import DataError
from sttx_train.data.documents import Documents

IGNORED = -100
"""Target of a step that has none: ``torch.nn.functional.cross_entropy`` passes over it."""


class WindowBatch(NamedTuple):
    """Ids ``[rows, context]``, and what comes after each (IGNORED where nothing does), int64."""

    inputs: np.ndarray
    targets: np.ndarray


class Sampler:
    """Windows of documents.

    Args:
        documents: what is read.
        rows: streams side by side.
        context: ids of a window.
        seed: draws the order of the documents, anew for each epoch.

    Attributes:
        total: ids of an epoch. Each is a target once, but for the first.
        windows: windows of an epoch; the last may hold less than the others.
    """

    def __init__(self, documents: Documents, *, rows: int, context: int, seed: int = 0) -> None:
        self._documents, self._rows, self._context, self._seed = documents, rows, context, seed
        self.total = int(documents.lengths.sum())
        if self.total < 2:
            raise DataError(f"{self.total} ids are too few to learn from: give more data")
        self._stride = -(-(self.total - 1) // rows)  # of ids that have one behind them
        self.windows = -(-self._stride // context)
        self._epoch = -1
        self._order = self._ends = np.zeros(0, np.int64)

    def epoch(self, step: int) -> int:
        """Number of the epoch that a step is in, from 0."""
        return step // self.windows

    def begins_epoch(self, step: int) -> bool:
        """Whether no stream goes on from the step before."""
        return step % self.windows == 0

    def window(self, step: int, first: int = 0, rows: int | None = None) -> WindowBatch:
        """Return the window of a step: all rows, or some of them from ``first`` on."""
        self._draw(self.epoch(step))
        count = self._rows if rows is None else rows
        inputs = np.zeros((count, self._context), np.int64)
        targets = np.full((count, self._context), IGNORED, np.int64)
        offset = step % self.windows * self._context
        for row in range(count):
            start = (first + row) * self._stride + offset
            end = min(start + self._context, (first + row + 1) * self._stride, self.total - 1)
            if start < end:
                ids = self._read(start, end + 1)
                inputs[row, : end - start], targets[row, : end - start] = ids[:-1], ids[1:]
        return WindowBatch(inputs, targets)

    def _draw(self, epoch: int) -> None:
        if epoch != self._epoch:
            self._epoch = epoch
            lengths = self._documents.lengths
            self._order = np.random.default_rng([self._seed, epoch]).permutation(len(lengths))
            self._ends = np.cumsum(lengths[self._order])

    def _read(self, start: int, stop: int) -> np.ndarray:
        """Return a piece of the epoch's row of documents."""
        pieces = []
        at = int(np.searchsorted(self._ends, start, side="right"))
        while start < stop:
            end = int(self._ends[at])
            document = int(self._order[at])
            begin = end - int(self._documents.lengths[document])
            upto = min(stop, end)
            pieces.append(self._documents.read(document, start - begin, upto - begin))
            start, at = upto, at + 1
        return np.concatenate(pieces)

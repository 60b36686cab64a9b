"""Draws training windows: every id once an epoch, the documents shuffled for each epoch. Knows no model.

The shuffled documents of an epoch are concatenated and cut into as many streams as a batch has rows. Each
stream is read window by window, so a stream's state can be carried from window to window, and the position of
a run is one number.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sttx_core.errors import DataError
from sttx_train.data.documents import Documents

IGNORED = -100
"""Target where no next id exists; ``torch.nn.functional.cross_entropy`` ignores it."""


class WindowBatch(NamedTuple):
    """Ids ``[rows, context]``, and the id after each (IGNORED if there is none), int64."""

    inputs: np.ndarray
    targets: np.ndarray


class Sampler:
    """Windows of documents.

    Args:
        documents: the training data.
        rows: number of parallel streams.
        context: number of ids in a window.
        seed: draws the order of the documents, another one for each epoch.

    Attributes:
        total: number of ids in an epoch. Each except the first is a target once.
        windows_per_epoch: number of windows in an epoch; the last may be shorter.
    """

    def __init__(self, documents: Documents, *, rows: int, context: int, seed: int = 0) -> None:
        self._documents, self._rows, self._context, self._seed = documents, rows, context, seed
        self.total = int(documents.lengths.sum())
        if self.total < 2:
            raise DataError(f"{self.total} ids are too few to learn from: give more data")
        self._stride = -(-(self.total - 1) // rows)  # counts the ids that have a next one
        self.windows_per_epoch = -(-self._stride // context)
        self._epoch = -1
        self._order = self._ends = np.zeros(0, np.int64)

    def epoch(self, step: int) -> int:
        """Return the epoch of a step, from 0."""
        return step // self.windows_per_epoch

    def begins_epoch(self, step: int) -> bool:
        """Return whether the step starts an epoch: no stream continues from the step before."""
        return step % self.windows_per_epoch == 0

    def window(self, step: int, first: int = 0, rows: int | None = None) -> WindowBatch:
        """Return the window of a step: all rows, or ``rows`` of them from ``first`` on."""
        self._draw(self.epoch(step))
        count = self._rows if rows is None else rows
        inputs = np.zeros((count, self._context), np.int64)
        targets = np.full((count, self._context), IGNORED, np.int64)
        offset = step % self.windows_per_epoch * self._context
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
        """Return a piece of the epoch's concatenated documents."""
        pieces = []
        index = int(np.searchsorted(self._ends, start, side="right"))  # of the document in the epoch's order
        first = start
        while first < stop:
            document, document_end = int(self._order[index]), int(self._ends[index])
            document_start = document_end - int(self._documents.lengths[document])
            end = min(stop, document_end)
            pieces.append(self._documents.read(document, first - document_start, end - document_start))
            first, index = end, index + 1
        return np.concatenate(pieces)

"""The parts of a text that were read before and cost almost nothing. Knows prices only."""

from __future__ import annotations

import numpy as np

from sttx_train.report.words import PricedText, next_character

_SHORTEST = 120  # bytes of a repeat
_CHEAP = 1.0  # most bits of each of its tokens
_PER_BYTE = 0.08  # most bits per byte of all of it
_TIMES = 4.0  # the frozen network would have paid so many times as much, or more


def repeats(text: PricedText) -> list[tuple[int, int]]:
    """Return where the repeats of a text start and end, in bytes."""
    cheap = text.paid_T <= _CHEAP
    steps = np.diff(np.concatenate([[0], cheap.astype(np.int8), [0]]))
    starts_T = np.concatenate([[0], text.ends_T])
    found = []
    for first, last in zip(np.flatnonzero(steps == 1), np.flatnonzero(steps == -1), strict=True):
        start, end = int(starts_T[first]), int(starts_T[last])
        paid, frozen = text.paid_T[first:last].sum(), text.frozen_T[first:last].sum()
        if (
            end - start >= _SHORTEST
            and paid <= _PER_BYTE * (end - start)
            and frozen >= _TIMES * paid
            and frozen > 0
        ):
            found.append((next_character(text.data, start), next_character(text.data, end)))
    return found

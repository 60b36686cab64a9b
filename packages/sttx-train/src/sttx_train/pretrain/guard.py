"""Losses that must not be learned from: what is no number, and spikes. Knows no model.

The mean of the losses is exponential, over about the last fifty steps that were learned from.
"""

from __future__ import annotations

import math
from typing import Any

_FADING = 0.98
_KNOWN_AFTER = 20  # steps until the mean says enough
_HARMLESS = 1.0  # nats above the mean that are no spike, however small the mean: easy data has hard moments
PATIENCE = 5
"""Steps left out in a row after which a run has come to its end."""


class Guard:
    """Says which steps to leave out.

    Args:
        spike: factor on the mean above which a loss is one, if it is a nat above it too; 0: only what is not
            finite.

    Attributes:
        skipped: steps left out so far.
        in_a_row: the last of them without one between.

    >>> guard = Guard(spike=3.0)
    >>> [guard.refuses(loss, 1.0) for loss in (*[2.0] * 20, 5.0, 7.0, float("nan"))][-3:]
    [False, True, True]
    """

    def __init__(self, spike: float) -> None:
        self._spike = spike
        self._mean, self._seen = 0.0, 0
        self.skipped = self.in_a_row = 0

    def refuses(self, loss: float, grad_norm: float) -> bool:
        """Judge a step by its loss and the norm of its gradient, and remember it."""
        limit = max(self._spike * self._mean, self._mean + _HARMLESS)
        spiked = self._spike and self._seen >= _KNOWN_AFTER and loss > limit
        if spiked or not (math.isfinite(loss) and math.isfinite(grad_norm)):
            self.skipped += 1
            self.in_a_row += 1
            return True
        self.in_a_row = 0
        self._mean = loss if not self._seen else _FADING * self._mean + (1 - _FADING) * loss
        self._seen += 1
        return False

    @property
    def exhausted(self) -> bool:
        """Whether so many steps were left out in a row that going on is of no use."""
        return self.in_a_row >= PATIENCE

    def state_dict(self) -> dict[str, Any]:
        """Return all that decides what comes next, JSON-able."""
        return {
            "mean": self._mean,
            "seen": self._seen,
            "skipped": self.skipped,
            "in_a_row": self.in_a_row,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a `state_dict` was taken."""
        self._mean, self._seen = float(state["mean"]), int(state["seen"])
        self.skipped, self.in_a_row = int(state["skipped"]), int(state["in_a_row"])

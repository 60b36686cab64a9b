"""Which steps not to learn from: those with a loss that is not finite, or with a spike. Knows no model.

The guard compares a loss with an exponential mean over about the last fifty steps that were learned from.
"""

from __future__ import annotations

import math
from typing import Any

from sttx_core.saved_state import checked
from sttx_train.run_folder.parts import GuardState

_FADING = 0.98
_KNOWN_AFTER = 20  # steps after which the mean is reliable
_HARMLESS = 1.0  # nats above the mean that are not a spike even if the mean is small: easy data varies
PATIENCE = 5
"""Number of skipped steps in a row after which a run ends."""


class SpikeGuard:
    """Decides which steps to skip.

    Args:
        spike: a loss is a spike if it is above this factor times the mean, and one nat above the mean; with 0
            no loss is a spike, and only losses that are not finite are skipped.

    Attributes:
        skipped: number of steps skipped so far.
        in_a_row: number of steps skipped since the last step that was learned from.

    >>> guard = SpikeGuard(spike=3.0)
    >>> [guard.skips(loss, 1.0) for loss in (*[2.0] * 20, 5.0, 7.0, float("nan"))][-3:]
    [False, True, True]
    """

    def __init__(self, spike: float) -> None:
        self._spike = spike
        self._mean, self._seen = 0.0, 0
        self.skipped = self.in_a_row = 0

    def skips(self, loss: float, grad_norm: float) -> bool:
        """Return whether to skip a step, given its loss and the norm of its gradient, and count it."""
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
        """Whether so many steps in a row were skipped that the run should end."""
        return self.in_a_row >= PATIENCE

    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides what comes next, JSON-able."""
        return {
            "mean": self._mean,
            "seen": self._seen,
            "skipped": self.skipped,
            "in_a_row": self.in_a_row,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`.

        Raises:
            CheckpointError: it is damaged.
        """
        saved = checked(GuardState, state, "counts of skipped steps")
        self._mean, self._seen = saved.mean, saved.seen
        self.skipped, self.in_a_row = saved.skipped, saved.in_a_row

"""The average of S0: what a reader that learns nothing starts from. Knows no learner.

At the rate that pays best while it learns, S0 follows the newest text. Standing still, its last value costs
bits in other sessions, where half of its average saves some (docs/log.md, "which S0 should readers take?").
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

AVERAGE = "s0_average"
"""Its name among the learned tensors of a checkpoint."""

_STEPS = 1000  # about as many of the last steps are averaged
_SHARE = 0.5


class RunningAverage:
    """The mean of S0 over all steps, and after a thousand of them over about the last thousand.

    Attributes:
        value: the mean ``[L, H, N, N]``; zeros before the first step.
        steps: how many steps it has seen.
    """

    def __init__(self, s0: Tensor) -> None:
        self.value = torch.zeros_like(s0, requires_grad=False)
        self.steps = 0

    @torch.no_grad()
    def add(self, s0: Tensor) -> None:
        """Take in S0 after a step."""
        self.steps += 1
        self.value.lerp_(s0.detach(), 1 / min(self.steps, _STEPS))

    @torch.no_grad()
    def load(self, value: Tensor, steps: int) -> None:
        """Continue from a saved average."""
        self.value.copy_(value)
        self.steps = steps


def for_reading(learned: Mapping[str, Tensor]) -> Tensor | None:
    """Return the S0 that readers take from a checkpoint's learned tensors; None if its scope has none.

    Without an average, before the first step or in a checkpoint of an earlier version, it is the last S0.
    """
    if (average := learned.get(AVERAGE)) is None:
        return learned.get("s0")
    return average * _SHARE

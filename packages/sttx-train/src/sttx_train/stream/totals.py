"""What a run has paid so far, summed over its whole stream. Knows no model and no files."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class Totals:
    """Sums over the whole stream so far, earlier runs that this one resumes included."""

    steps: int = 0
    windows: int = 0
    bits: float = 0.0
    frozen_bits: float = 0.0
    bytes: int = 0
    tokens: int = 0
    model_steps: int = 0

    @property
    def bpb_paid(self) -> float:
        """Bits per byte paid so far, each window before it was learned from; NaN before the first."""
        return self.bits / self.bytes if self.bytes else math.nan

    @property
    def bpb_frozen(self) -> float:
        """What the frozen model would have paid for the same bytes, its state carried too."""
        return self.frozen_bits / self.bytes if self.bytes else math.nan


def finite(value: float) -> float | None:
    """Return a number as JSON can hold it: None where it is none or infinite."""
    return value if math.isfinite(value) else None


def ratio(bits: float, size: int) -> float | None:
    """Return bits per byte, None of no bytes."""
    return finite(bits / size) if size else None

"""What a stream has cost so far, and what a listener gets after each step. Loads no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from sttx_train.online.window import Score, StepReport


@dataclass
class Totals:
    """Sums over the whole stream so far, including the earlier runs that this one resumes."""

    steps: int = 0
    windows: int = 0
    bits: float = 0.0
    network_bits: float = 0.0
    frozen_bits: float = 0.0
    bytes: int = 0
    tokens: int = 0
    model_steps: int = 0

    def add(self, score: Score, windows: int) -> None:
        """Count a step over some windows."""
        self.steps += 1
        self.windows += windows
        self.bits += score.bits
        self.network_bits += score.network_bits
        self.frozen_bits += 0.0 if math.isnan(score.frozen_bits) else score.frozen_bits
        self.bytes += score.bytes
        self.tokens += score.tokens
        self.model_steps += score.model_steps

    @property
    def bpb_paid(self) -> float:
        """Bits per byte paid so far, each window before it was learned from; NaN before the first."""
        return self.bits / self.bytes if self.bytes else math.nan

    @property
    def bpb_network(self) -> float:
        """What the learning network would have paid alone, without experts."""
        return self.network_bits / self.bytes if self.bytes else math.nan

    @property
    def bpb_frozen(self) -> float:
        """What the frozen network would have paid alone for the same bytes, its state carried too."""
        return self.frozen_bits / self.bytes if self.bytes else math.nan

    def bpb(self, *, frozen: bool) -> dict[str, float | None]:
        """Return the three prices, JSON-able; that of the frozen network only if it was computed."""
        return {
            "paid": finite(self.bpb_paid),
            "network": finite(self.bpb_network),
            "frozen": finite(self.bpb_frozen) if frozen else None,
        }


@dataclass
class Progress:
    """What a listener gets after each step."""

    totals: Totals
    report: StepReport
    metrics: dict[str, Any] = field(default_factory=dict)


def finite(value: float) -> float | None:
    """Return a number as JSON can hold it: None for NaN and infinity."""
    return value if math.isfinite(value) else None


def ratio(bits: float, size: int) -> float | None:
    """Return bits per byte, None for no bytes."""
    return finite(bits / size) if size else None

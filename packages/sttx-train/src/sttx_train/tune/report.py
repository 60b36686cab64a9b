"""What a tuning run reports: one step, and all of it. Loads no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class TuneStep:
    """One step.

    Attributes:
        step: its number, from 1.
        epochs: how often the examples were read.
        loss: nats per token that is learned.
        bpb: bits per byte of the same, before the step; NaN if they have no bytes.
        lr: the learning rate.
        grad_norm: norm of the gradient before clipping.
        norm_s0: norm of the state after the step.
        std_s0: standard deviation of the state's numbers after the step.
        tokens: tokens read so far.
        seconds: time so far.
        validation_bpb: bits per byte of the validation examples, if they were measured.
    """

    step: int
    epochs: float
    loss: float
    bpb: float
    lr: float
    grad_norm: float
    norm_s0: float
    std_s0: float
    tokens: int
    seconds: float
    validation_bpb: float | None = None

    def row(self) -> dict[str, Any]:
        """Return the numbers by their names in a run's metrics."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class TuneReport:
    """The result of a run.

    Attributes:
        epochs: how often the examples were read.
        steps: number of steps.
        ended: ``done``, ``patience`` or ``interrupted``.
        examples: how many are learned, and how many measured.
        before: bits per byte of the validation examples before the first step; None without them.
        after: the same of the state that is kept.
        best_step: the step of that state.
        seconds: time of the steps and measurements.
    """

    epochs: float
    steps: int
    ended: str
    examples: tuple[int, int]
    before: float | None
    after: float | None
    best_step: int
    seconds: float

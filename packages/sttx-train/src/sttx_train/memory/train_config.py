"""The config of an adapter's training, and its learning rate over the run. Loads no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sttx_core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class MemoryTrainConfig:
    """How an adapter is trained.

    Attributes:
        steps: optimizer steps.
        batch: windows of a step.
        write: tokens of a window that are written.
        score: tokens after them that are scored; they see no other tokens than these.
        lead: of the scored tokens, how many are only read, so that there is something to search with.
        lr: peak learning rate; it falls along a cosine to a tenth.
        warmup: steps in which the learning rate rises to its peak.
        weight_decay: AdamW's weight decay.
        clip: largest norm of the gradient; a larger one is scaled down to it.
        checkpoint_every: steps between checkpoints.
        train_seed: of the windows' order.
    """

    steps: int = 300
    batch: int = 4
    write: int = 256
    score: int = 96
    lead: int = 16
    lr: float = 0.003
    warmup: int = 20
    weight_decay: float = 0.0
    clip: float = 1.0
    checkpoint_every: int = 50
    train_seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "write", "lead", "checkpoint_every"):
            _require(name, type(getattr(self, name)) is int and getattr(self, name) >= 1, "1 or more", self)
        for name in ("warmup", "train_seed"):
            _require(name, type(getattr(self, name)) is int and getattr(self, name) >= 0, "0 or more", self)
        for name in ("lr", "clip"):
            _require(name, 0 < getattr(self, name) < math.inf, "above 0 and finite", self)
        _require("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more and finite", self)
        _require("score", type(self.score) is int and self.score > self.lead, "more than --lead", self)

    @property
    def length(self) -> int:
        """Tokens of a window."""
        return self.write + self.score

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step, from 0.

        >>> config = MemoryTrainConfig(lr=1.0, warmup=2, steps=4)
        >>> [round(config.learning_rate(step), 3) for step in range(4)]
        [0.5, 1.0, 1.0, 0.55]
        """
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        done = (step - self.warmup) / max(self.steps - self.warmup, 1)
        return self.lr * (0.55 + 0.45 * math.cos(math.pi * done))


def _require(name: str, holds: bool, what: str, config: MemoryTrainConfig) -> None:
    if not holds:
        raise UsageError(f"--{name.replace('_', '-')} must be {what}, not {getattr(config, name)!r}")

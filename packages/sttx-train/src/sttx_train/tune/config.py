"""The config of state tuning, and its learning rate over a run. Loads no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from sttx_core.errors import UsageError

Schedule = Literal["cosine", "linear", "constant"]
Loss = Literal["completions", "all"]

_COUNTS = ("steps", "warmup", "eval_every", "patience", "seed")
_AT_LEAST_ONE = ("epochs", "batch", "accumulate", "checkpoint_every")
_SHARES = ("final",)
_LEAST_CTX = 2


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """How to tune a state. The rates were chosen by measurement, see docs/tuning.md.

    Attributes:
        epochs: how often all examples are read.
        steps: stop after this many steps (0: no limit).
        batch: examples of a pass.
        accumulate: passes whose gradients make one step; like a batch that many times larger, in less memory.
        ctx: most tokens of an example; the end of a longer one is left out.
        lr: peak learning rate.
        schedule: how the learning rate falls after its peak: along a cosine, in a line, or never (constant).
        final: learning rate at the end, as a share of the peak.
        warmup: steps in which the learning rate rises to its peak.
        weight_decay: AdamW's weight decay of the state.
        clip: largest norm of the gradient; a larger one is scaled down to it.
        loss: what is learned: the completions and the assistant's turns, or all text.
        eot: begin each example with the end-of-text token, as sttx reads documents; other programs mostly do
            not give it.
        eval_every: steps between two measurements of the validation examples (0: once an epoch).
        patience: stop after this many measurements in a row without a lower one (0: never).
        bf16: run matrix products in bfloat16; if neither is given, where the device has instructions for it.
        recompute: compute activations again in the backward pass instead of keeping them; saves memory.
        checkpoint_every: steps between checkpoints.
        seed: of the order of the examples, and of the draw of validation examples.
    """

    epochs: int = 3
    steps: int = 0
    batch: int = 8
    accumulate: int = 1
    ctx: int = 1024
    lr: float = 0.1
    schedule: Schedule = "cosine"
    final: float = 0.01
    warmup: int = 10
    weight_decay: float = 0.0
    clip: float = 1.0
    loss: Loss = "completions"
    eot: bool = True
    eval_every: int = 0
    patience: int = 3
    bf16: bool | None = None
    recompute: bool = False
    checkpoint_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        holds = {
            "be a whole number of 0 or more": (_COUNTS, lambda value: isinstance(value, int) and value >= 0),
            "be a whole number of 1 or more": (
                _AT_LEAST_ONE,
                lambda value: isinstance(value, int) and value >= 1,
            ),
            f"be a whole number of {_LEAST_CTX} or more": (
                ("ctx",),
                lambda value: isinstance(value, int) and value >= _LEAST_CTX,
            ),
            "be above 0 and finite": (("lr", "clip"), lambda value: value > 0 and math.isfinite(value)),
            "be 0 or more and finite": (("weight_decay",), lambda value: 0 <= value < math.inf),
            "be a share from 0 to 1": (_SHARES, lambda value: 0 <= value <= 1),
            f"be one of {', '.join(get_args(Schedule))}": (("schedule",), get_args(Schedule).__contains__),
            f"be one of {', '.join(get_args(Loss))}": (("loss",), get_args(Loss).__contains__),
        }
        for what, (names, allowed) in holds.items():
            for name in names:
                if not allowed(getattr(self, name)):
                    raise UsageError(f"--{name.replace('_', '-')} must {what}, not {getattr(self, name)!r}")

    def without_effect(self, *, validation: bool) -> dict[str, str]:
        """Return the fields that have no effect with these settings, each with the reason.

        Args:
            validation: whether there are validation examples.

        >>> TuneConfig(schedule="constant").without_effect(validation=True)["final"]
        'with --schedule constant the learning rate never falls'
        """
        reasons = {}
        if self.schedule == "constant":
            reasons["final"] = "with --schedule constant the learning rate never falls"
        if not validation:
            reasons |= dict.fromkeys(("eval_every", "patience"), "there are no validation examples")
        return reasons

    def learning_rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step.

        Args:
            step: its number, from 0.
            steps: all steps of the run.

        >>> config = TuneConfig(lr=1.0, schedule="linear", final=0.0, warmup=2)
        >>> [config.learning_rate(step, 10) for step in (0, 2, 6)]
        [0.5, 1.0, 0.5]
        """
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        done = min((step - self.warmup) / max(steps - self.warmup, 1), 1.0)
        match self.schedule:
            case "cosine":
                left = 0.5 * (1 + math.cos(math.pi * done))
            case "linear":
                left = 1 - done
            case "constant":
                left = 1.0
        return self.lr * (self.final + (1 - self.final) * left)

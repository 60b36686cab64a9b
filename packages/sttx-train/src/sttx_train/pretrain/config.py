"""How to pretrain, as one frozen config, and when a run by it is done. Knows no model and no data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from sttx_core.errors import UsageError

Schedule = Literal["cosine", "wsd", "constant"]
Parallel = Literal["ddp", "fsdp"]

_COUNTS = ("vocab_size", "epochs", "steps", "tokens", "warmup", "seed")
_AT_LEAST_ONE = (
    "hidden_size",
    "layers",
    "head_size",
    "ctx",
    "batch",
    "accumulate",
    "eval_every",
    "checkpoint_every",
)
_NOT_NEGATIVE = (*_COUNTS, "minutes", "weight_decay")
_SHARES = ("final", "decay", "phrases")
_ABOVE_ZERO = ("lr", "clip")


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """How to pretrain.

    Of ``epochs``, ``steps``, ``tokens`` and ``minutes`` the first that is reached ends the run; where none is
    given, it is one epoch.

    Attributes:
        vocab_size: ids of the vocabulary: rows of the embedding and of the head (0: as the tokenizer has).
        hidden_size: width of the model, a multiple of the head size.
        layers: number of the model's layers.
        head_size: side of each head's square state.
        ctx: tokens of a window.
        batch: streams read side by side, in each process and pass.
        accumulate: passes whose gradients make one step; as good as so many times the batch, in less memory.
        lr: learning rate at its peak; the decay bias ``w0`` learns at twice this rate, as published.
        schedule: how the rate falls: along a cosine, at the end only (wsd), or never.
        final: learning rate at the end, as a share of the peak.
        decay: share of the run in which a wsd schedule falls.
        warmup: steps in which the learning rate rises to its peak.
        epochs: stop after the data was read this many times (0: no such limit).
        steps: stop after this many steps (0: no such limit).
        tokens: stop after the step that makes it this many tokens (0: no such limit).
        minutes: stop after this much time (0: no such limit).
        weight_decay: AdamW's weight decay, on matrices only.
        clip: largest norm of the gradient; a longer one is shortened to it.
        spike: leave out a step whose loss is so many times the mean before it (0: only if it is no number).
        bf16: run matrix products in bfloat16 (weights stay float32).
        recompute: compute activations again in the backward pass, instead of keeping them: less memory.
        compile: compile the model with torch.compile (needs a C++ compiler).
        phrases: probability that a row's window is read over phrases found in the text just before it, which
            the model and a hypernetwork then know as `sttx train` uses them (0: never, no hypernetwork).
        held_out: share of the data that is only measured: whole documents drawn by the seed, or the ends of
            very few documents.
        eval_every: steps between measurements of what is held out.
        checkpoint_every: steps between checkpoints.
        parallel: what each process of a torchrun holds: all weights (ddp) or a part of each (fsdp).
        seed: draws the initial weights, the order of the documents and what is held out.
    """

    vocab_size: int = 0
    hidden_size: int = 256
    layers: int = 8
    head_size: int = 64
    ctx: int = 256
    batch: int = 16
    accumulate: int = 1
    lr: float = 1.5e-3
    schedule: Schedule = "cosine"
    final: float = 0.05
    decay: float = 0.2
    warmup: int = 100
    epochs: int = 0
    steps: int = 0
    tokens: int = 0
    minutes: float = 0.0
    weight_decay: float = 0.1
    clip: float = 1.0
    spike: float = 3.0
    bf16: bool = True
    recompute: bool = False
    compile: bool = False
    phrases: float = 0.0
    held_out: float = 0.01
    eval_every: int = 500
    checkpoint_every: int = 250
    parallel: Parallel = "ddp"
    seed: int = 0

    def __post_init__(self) -> None:
        holds = {
            "be a whole number": ((*_COUNTS, *_AT_LEAST_ONE), lambda value: isinstance(value, int)),
            "be at least 1": (_AT_LEAST_ONE, lambda value: value >= 1),
            "not be negative": (_NOT_NEGATIVE, lambda value: value >= 0),
            "be above 0": (_ABOVE_ZERO, lambda value: value > 0),
            "be a share from 0 to 1": (_SHARES, lambda value: 0 <= value <= 1),
            "be a share from 0 to below 1": (("held_out",), lambda value: 0 <= value < 1),
            "be finite": (("lr", "minutes", "weight_decay", "clip", "spike"), math.isfinite),
            f"be one of {', '.join(get_args(Schedule))}": (("schedule",), get_args(Schedule).__contains__),
            f"be one of {', '.join(get_args(Parallel))}": (("parallel",), get_args(Parallel).__contains__),
            "be 0, or a factor above 1": (("spike",), lambda value: value == 0 or value > 1),
        }
        for what, (names, allowed) in holds.items():
            for name in names:
                if not allowed(getattr(self, name)):
                    raise UsageError(f"{option(name)} must {what}, not {getattr(self, name)!r}")
        if self.phrases and self.compile:
            raise UsageError(
                "--compile cannot be used with --phrases, whose windows differ in length: leave one out"
            )

    def idle(self, *, alone: bool) -> dict[str, str]:
        """Return the fields that change nothing beside the others, each with why.

        Args:
            alone: whether no `torchrun` started this process.

        >>> PretrainConfig(schedule="constant").idle(alone=False)["final"]
        'the rate of --schedule constant never falls'
        """
        found = {}
        if self.schedule != "wsd":
            found["decay"] = f"--schedule {self.schedule} is no wsd"
        if self.schedule == "constant":
            found["final"] = "the rate of --schedule constant never falls"
        if not self.held_out:
            found["eval_every"] = "nothing is held out"
        if alone:
            found["parallel"] = "there is one process; torchrun starts several"
        return found

    def share_done(self, step: int, tokens: int, epochs: float, seconds: float) -> float:
        """Say how much of the run is done, from 0 to 1: by the limit that it is nearest to.

        Args:
            step: steps so far.
            tokens: tokens trained on so far.
            epochs: how often the data was read so far.
            seconds: time so far.

        >>> PretrainConfig(steps=10, minutes=1).share_done(step=2, tokens=0, epochs=0.1, seconds=30)
        0.5
        """
        limits = ((self.steps, step), (self.tokens, tokens), (self.minutes, seconds / 60))
        shares = [done / limit for limit, done in limits if limit]
        if self.epochs or not shares:
            shares.append(epochs / (self.epochs or 1))
        return min(1.0, max(shares))

    def learning_rate(self, step: int, done: float) -> float:
        """Return the rate of a step.

        Args:
            step: its number, from 0.
            done: share of the run that is done.

        >>> config = PretrainConfig(lr=1.0, schedule="wsd", decay=0.5, final=0.0, warmup=2)
        >>> [config.learning_rate(step, done) for step, done in ((0, 0.0), (9, 0.5), (15, 0.75))]
        [0.5, 1.0, 0.5]
        """
        warm = min((step + 1) / max(self.warmup, 1), 1.0)
        match self.schedule:
            case "cosine":
                left = 0.5 * (1 + math.cos(math.pi * done))
            case "wsd":
                left = min(1.0, (1 - done) / self.decay) if self.decay else 1.0
            case "constant":
                return self.lr * warm
        return self.lr * warm * (self.final + (1 - self.final) * left)


def option(name: str) -> str:
    """Name a field as the command line does.

    >>> option("head_size")
    '--head-size'
    """
    return "--" + name.replace("_", "-")

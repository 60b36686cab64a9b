"""How to pretrain, as one frozen config: sizes, schedule and limits. Knows no model and no data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from sttx_core.errors import UsageError
from sttx_train.architectures import ARCHITECTURES, Architecture
from sttx_train.rwkv7.config import MOMENTA, MOST_INNER

Schedule = Literal["cosine", "wsd", "constant"]
Parallel = Literal["ddp", "fsdp"]

_COUNTS = ("inner_steps", "vocab_size", "epochs", "steps", "tokens", "warmup", "seed")
_AT_LEAST_ONE = (
    "hidden_size",
    "layers",
    "head_size",
    "ctx",
    "batch",
    "accumulate",
    "inner_batch",
    "eval_every",
    "checkpoint_every",
)
META = "pretrained with --meta"
"""Name of :func:`meta_facts` among the strings that a model's file keeps."""

_INNER = ("inner_lr", "inner_momentum", "inner_batch")
_META = ("meta_lr", "meta_weight")
_NOT_NEGATIVE = (*_COUNTS, "minutes", "weight_decay", "meta_weight")
_SHARES = ("inner_lr", "final", "decay", "phrase_prob")
_ABOVE_ZERO = ("lr", "clip", "meta_lr")
_FINITE = ("lr", "minutes", "weight_decay", "clip", "spike", *_META)
_NOT_WITH_META = {
    "phrase_prob": "its windows have phrases, which a half may cut",
    "compile": "compiled kernels have no second gradients",
    "recompute": "second gradients need the activations",
}


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """How to pretrain.

    A run ends at the first of ``epochs``, ``steps``, ``tokens`` and ``minutes`` that is reached; without any
    of them, after one epoch.

    Attributes:
        architecture: the model's equations: RWKV-7 (x070), RWKV-6 (x060) or RWKV-5.2 (x052).
        ghost_ratio: share of the rows of the channel mix and the projections that a small projection makes of
            the others (0: none), for RWKV-7.
        inner_steps: extra steps of gradient descent that each token takes on the state, for RWKV-7 (0: none).
        inner_lr: start of the learned rates of these steps, from 0 to 1; with 0 the model starts as plain
            RWKV-7.
        inner_momentum: share of its velocity that each of these steps keeps: 0, or from 0.05 to 0.99.
        inner_batch: number of the last tokens whose errors these steps lower.
        vocab_size: size of the vocabulary: rows of the embedding and of the head (0: the tokenizer's).
        hidden_size: width of the model, a multiple of the head size.
        layers: number of the model's layers.
        head_size: side of each head's square state.
        ctx: tokens of a window.
        batch: streams read side by side, in each process and pass.
        accumulate: passes whose gradients make one step; like a batch that many times larger, in less memory.
        lr: peak learning rate; the bias of the decay learns at twice this rate, as published.
        schedule: how the learning rate falls: along a cosine, at the end only (wsd), or never (constant).
        final: learning rate at the end, as a share of the peak.
        decay: share of the run in which the wsd schedule falls.
        warmup: steps in which the learning rate rises to its peak.
        epochs: stop after reading the data this many times (0: no limit).
        steps: stop after this many steps (0: no limit).
        tokens: stop after the step that reaches this many tokens (0: no limit).
        minutes: stop after this many minutes of training (0: no limit).
        weight_decay: AdamW's weight decay, on matrices only.
        clip: largest norm of the gradient; a larger one is scaled down to it.
        spike: skip a step whose loss is this many times the mean before it (0: only if it is not finite).
        bf16: run matrix products in bfloat16 (weights stay float32); if neither is given, where the device
            has instructions for it.
        recompute: compute activations again in the backward pass instead of keeping them; saves memory.
        compile: compile the model with torch.compile (needs a C++ compiler).
        phrase_prob: probability that a row's window is read in phrases found in the preceding text, as
            `sttx train` does, so that the model and a hypernetwork learn them (0: never, no hypernetwork).
        meta: train for the price after an outer step (see `sttx train --state-lr`): the first half of each
            window moves an offset of the state, and the second half is paid for from there.
        meta_lr: rate of that step, best also the --state-lr of the finished model.
        meta_weight: weight of the first half's own price; the second half's is 1.
        validation: share of the data that is only measured: whole documents drawn by the seed, or the ends of
            all documents if there are very few.
        eval_every: steps between two measurements of the validation loss.
        checkpoint_every: steps between checkpoints.
        parallel: what each process of a torchrun holds: all weights (ddp) or a part of each weight (fsdp).
        seed: seed of the initial weights, of the order of the documents and of the validation documents.
    """

    architecture: Architecture = "x070"
    ghost_ratio: float = 0.0
    inner_steps: int = 0
    inner_lr: float = 0.0
    inner_momentum: float = 0.0
    inner_batch: int = 1
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
    bf16: bool | None = None
    recompute: bool = False
    compile: bool = False
    phrase_prob: float = 0.0
    meta: bool = False
    meta_lr: float = 0.1
    meta_weight: float = 1.0
    validation: float = 0.01
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
            "be a share from 0 to below 1": (("validation", "ghost_ratio"), lambda value: 0 <= value < 1),
            "be 0, or from 0.05 to 0.99": (
                ("inner_momentum",),
                lambda value: value == 0 or MOMENTA[0] <= value <= MOMENTA[1],
            ),
            f"be at most {MOST_INNER}": (("inner_steps", "inner_batch"), lambda value: value <= MOST_INNER),
            "be finite": (_FINITE, math.isfinite),
            f"be one of {', '.join(get_args(Schedule))}": (("schedule",), get_args(Schedule).__contains__),
            f"be one of {', '.join(ARCHITECTURES)}": (("architecture",), ARCHITECTURES.__contains__),
            f"be one of {', '.join(get_args(Parallel))}": (("parallel",), get_args(Parallel).__contains__),
            "be 0, or a factor above 1": (("spike",), lambda value: value == 0 or value > 1),
        }
        for what, (names, allowed) in holds.items():
            for name in names:
                if not allowed(getattr(self, name)):
                    raise UsageError(f"{option(name)} must {what}, not {getattr(self, name)!r}")
        if self.ghost_ratio and self.architecture != "x070":
            raise UsageError(
                f"--ghost-ratio is for x070, not --architecture {self.architecture}: leave it out"
            )
        if self.inner_steps and self.architecture != "x070":
            raise UsageError(
                f"--inner-steps is for x070, not --architecture {self.architecture}: leave it out"
            )
        self._check_meta()
        if self.phrase_prob and self.compile:
            raise UsageError(
                "--compile cannot be used with --phrase-prob, whose windows differ in length: leave one out"
            )

    def _check_meta(self) -> None:
        if not self.meta:
            return
        for name, reason in _NOT_WITH_META.items():
            if getattr(self, name):
                raise UsageError(f"{option(name)} cannot be used with --meta: {reason}; leave one out")
        if self.ctx < 2:
            raise UsageError(f"--meta halves each window: --ctx must be at least 2, not {self.ctx!r}")

    def without_effect(self, *, alone: bool) -> dict[str, str]:
        """Return the fields that have no effect with these settings, each with the reason.

        Args:
            alone: whether there is one process, not started by `torchrun`.

        >>> PretrainConfig(schedule="constant").without_effect(alone=False)["final"]
        'with --schedule constant the learning rate never falls'
        """
        reasons = {}
        if self.schedule != "wsd":
            reasons["decay"] = f"--schedule is {self.schedule}, not wsd"
        if self.schedule == "constant":
            reasons["final"] = "with --schedule constant the learning rate never falls"
        if not self.validation:
            reasons["eval_every"] = "--validation 0 leaves nothing to measure"
        if not self.inner_steps:
            reasons |= dict.fromkeys(_INNER, "--inner-steps is 0")
        if not self.meta:
            reasons |= dict.fromkeys(_META, "no step is taken without --meta")
        if alone:
            reasons["parallel"] = "there is one process; torchrun starts several"
        return reasons

    @property
    def plain_recurrence(self) -> bool:
        """Whether a new model's recurrence is the architecture's own (`ModelConfig.plain_recurrence`)."""
        return not self.inner_steps or (not self.inner_momentum and self.inner_batch == 1)

    def inner(self) -> dict[str, int | float]:
        """Return the sizes of the model's inner steps; none without them."""
        return {name: getattr(self, name) for name in ("inner_steps", *_INNER)} if self.inner_steps else {}

    def share_done(self, step: int, tokens: int, epochs: float, seconds: float) -> float:
        """Return the share of the run that is done, from 0 to 1, by the limit that is nearest.

        Args:
            step: steps so far.
            tokens: tokens trained on so far.
            epochs: how often the data was read so far.
            seconds: training time so far.

        >>> PretrainConfig(steps=10, minutes=1).share_done(step=2, tokens=0, epochs=0.1, seconds=30)
        0.5
        """
        limits = ((self.steps, step), (self.tokens, tokens), (self.minutes, seconds / 60))
        shares = [done / limit for limit, done in limits if limit]
        if self.epochs or not shares:
            shares.append(epochs / (self.epochs or 1))
        return min(1.0, max(shares))

    def learning_rate(self, step: int, done: float) -> float:
        """Return the learning rate of a step.

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


def meta_facts(config: PretrainConfig) -> str:
    """Return how a run with `--meta` took its steps, to keep with the model.

    >>> meta_facts(PretrainConfig(meta=True))
    '--meta-lr 0.1, --meta-weight 1, windows of 128'
    """
    halves = config.ctx // 2
    return f"--meta-lr {config.meta_lr:g}, --meta-weight {config.meta_weight:g}, windows of {halves}"


def option(name: str) -> str:
    """Return a field's option on the command line.

    >>> option("head_size")
    '--head-size'
    """
    return "--" + name.replace("_", "-")

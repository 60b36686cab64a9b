"""The config of the online learner. Loads no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from sttx_core.errors import UsageError
from sttx_core.phrases import PhraseConfig
from sttx_train.online.gate import PhraseMode
from sttx_train.online.scope import SCOPES, Scope

PHRASES = PhraseConfig(capacity=512)  # twice the table's default: fewer bits and fewer steps (docs/log.md)
STATE_DECAY = 0.03  # of an outer step; see docs/log.md
Injection = Literal["every", "start", "none"]
Loss = Literal["network", "mixed"]
_RATES = ("lr_state", "lr_hypernet", "lr_bias", "lr_vectors", "lr_weights")
_LEARNS = (  # fields, the scopes that use them, and what those scopes learn
    (("lr_state", "inject", "lr_hypernet"), ("state",), "state"),
    (("lr_bias",), ("bias",), "bias"),
    (("lr_vectors",), ("vectors", "all"), "vectors"),
    (("lr_weights",), ("head", "all"), "matrices"),
)


@dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """How the learner learns. The rates were chosen by measurement, see docs/log.md.

    Attributes:
        scope: which tensors learn, one or more with commas between: state (S0 and the hypernetwork), bias (an
            output bias), vectors (norms, mixes, decay and gate biases), head (the output matrix), all (every
            weight of the model).
        inject: add S0 at every window, only at a document's start, or never.
        phrases: read phrases in one step: on, off, or auto, which keeps them only while they cost no bits.
        lr_state: learning rate of S0.
        lr_hypernet: learning rate of the hypernetwork.
        lr_bias: learning rate of the output bias, if it is in scope.
        lr_vectors: learning rate of the model's vectors, if they are in scope.
        lr_weights: learning rate of the model's matrices, if they are in scope.
        weight_decay: AdamW's weight decay of S0, so that what is not learned again fades.
        clip: maximum norm of the whole gradient; a larger gradient is scaled down to it.
        replay_rows: replayed windows in each step, in addition to the new ones (0: no replay).
        replay_weight: weight of the replayed windows' mean loss; the new windows' weight is 1.
        replay_capacity: most windows kept for replay.
        max_documents: most documents whose states are carried; the least recently used is forgotten.
        loss: what is minimized: the network's own price, or that of the mixture with experts, so that the
            network learns where the experts are unsure.
        frozen: also compute the price of every window under the frozen model, with its own carried state. It
            is reported, and `--phrases auto` compares with it (otherwise with the bytes, which is noisier).
        state_lr: rate of the outer step: at each window's end a step of gradient descent on an offset of its
            document's state, also where a policy learns nothing (0: none).
        state_decay: share of the offset that each outer step takes away, so that the offset stays bounded.
        seed: seed of the hypernetwork's first layers and of the draws of replay.
    """

    scope: tuple[Scope, ...] = ("state",)
    inject: Injection = "every"
    phrases: PhraseMode = "auto"
    lr_state: float = 0.3
    lr_hypernet: float = 3e-4
    lr_bias: float = 0.01
    lr_vectors: float = 3e-3
    lr_weights: float = 3e-4
    weight_decay: float = 0.03
    clip: float = 1.0
    replay_rows: int = 1
    replay_weight: float = 0.2
    replay_capacity: int = 1000
    max_documents: int = 64
    loss: Loss = "network"
    frozen: bool = True
    state_lr: float = 0.0
    state_decay: float = STATE_DECAY
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (*_RATES, "weight_decay", "replay_weight", "replay_rows", "state_lr"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(
                    f"--{name.replace('_', '-')} must be a number of 0 or more, not {getattr(self, name)!r}"
                )
        for name in ("replay_capacity", "max_documents"):
            if getattr(self, name) < 1:
                raise UsageError(
                    f"--{name.replace('_', '-')} must be at least 1, not {getattr(self, name)!r}"
                )
        if not self.clip > 0:
            raise UsageError(f"--clip must be above 0, not {self.clip!r}")
        if not 0 < self.state_decay <= 1:
            raise UsageError(f"--state-decay must be above 0 and at most 1, not {self.state_decay!r}")
        if self.inject not in get_args(Injection):
            raise UsageError(f"--inject must be every, start or none, not {self.inject!r}")
        if self.loss not in get_args(Loss):
            raise UsageError(f"--loss must be network or mixed, not {self.loss!r}")
        if unknown := [name for name in self.scope if name not in SCOPES]:
            raise UsageError(f"unknown --scope {unknown[0]!r}; choose among {', '.join(SCOPES)}")

    def without_effect(self) -> dict[str, str]:
        """Return the fields that have no effect because of the others, each with the reason.

        >>> LearnerConfig(scope=("state",), replay_rows=0).without_effect()["lr_bias"]
        'the scope state has no bias'
        """
        scope, reasons = ",".join(self.scope), {}
        for names, scopes, what in _LEARNS:
            if not set(scopes) & set(self.scope):
                reasons |= dict.fromkeys(names, f"the scope {scope} has no {what}")
        if self.phrases == "off":
            reasons["lr_hypernet"] = "phrases are off"
        if not self.replay_rows:
            reasons |= dict.fromkeys(("replay_weight", "replay_capacity"), "no rows are replayed")
        if not self.state_lr:
            reasons["state_decay"] = "there is no offset without --state-lr"
        return reasons

"""How the online learner learns, as one frozen config. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from sttx_core.errors import UsageError
from sttx_core.phrases import PhraseConfig
from sttx_train.online.gate import PhraseMode
from sttx_train.online.scope import SCOPES, Scope

PHRASES = PhraseConfig(capacity=512)  # twice the table's own 256: fewer bits and fewer steps (docs/log.md)
Injection = Literal["every", "start", "none"]
_RATES = ("lr_state", "lr_hypernet", "lr_bias", "lr_vectors", "lr_weights")
_LEARNS = (  # fields, the scopes that need them, and what those learn
    (("lr_state", "inject", "lr_hypernet"), ("state",), "state"),
    (("lr_bias",), ("bias",), "bias"),
    (("lr_vectors",), ("vectors", "all"), "vectors"),
    (("lr_weights",), ("head", "all"), "matrices"),
)


@dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """How the learner learns. Rates were chosen by measurement; docs/log.md has the figures.

    Attributes:
        scope: which tensors learn, one or more with commas between: state (S0 and the hypernetwork), bias (an
            output bias), vectors (norms, mixes, decay and gate biases), head (the output matrix), all (every
            weight of the model).
        inject: add S0 at every window, only at a document's start, or never.
        phrases: phrases inside the model: on, off, or auto: kept only while they cost no bits.
        lr_state: learning rate of S0.
        lr_hypernet: learning rate of the hypernetwork.
        lr_bias: learning rate of the output bias, where the scope names it.
        lr_vectors: learning rate of the model's vectors, where the scope names them.
        lr_weights: learning rate of the model's matrices, where the scope names them.
        weight_decay: AdamW's weight decay of S0: what is not taught again fades.
        clip: largest norm of the whole gradient; a longer one is shortened to it.
        replay_rows: replayed windows beside each step's new ones (0: no replay).
        replay_weight: weight of the replayed windows' mean loss beside the new windows'.
        replay_capacity: most windows kept for replay.
        max_documents: most documents whose states are carried; the least recently used is forgotten.
        frozen: also price every window with the frozen model, its own state carried: for comparison, and
            what `--phrases auto` holds prices against (else the length of the text, which says less).
        seed: seed of the hypernetwork's first layers and of replay's draws.
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
    frozen: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (*_RATES, "weight_decay", "replay_weight", "replay_rows"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"--{name.replace('_', '-')} must not be negative: {getattr(self, name)!r}")
        for name in ("replay_capacity", "max_documents"):
            if getattr(self, name) < 1:
                raise UsageError(
                    f"--{name.replace('_', '-')} must be at least 1, not {getattr(self, name)!r}"
                )
        if not self.clip > 0:
            raise UsageError(f"--clip must be above 0, not {self.clip!r}")
        if self.inject not in get_args(Injection):
            raise UsageError(f"--inject must be every, start or none, not {self.inject!r}")
        if unknown := [name for name in self.scope if name not in SCOPES]:
            raise UsageError(f"unknown --scope {unknown[0]!r}; choose among {', '.join(SCOPES)}")

    def idle(self) -> dict[str, str]:
        """Return the fields that change nothing beside the others, each with why.

        >>> LearnerConfig(scope=("state",), replay_rows=0).idle()["lr_bias"]
        'the scope state has no bias'
        """
        scope, found = ",".join(self.scope), {}
        for names, scopes, what in _LEARNS:
            if not set(scopes) & set(self.scope):
                found |= dict.fromkeys(names, f"the scope {scope} has no {what}")
        if self.phrases == "off":
            found["lr_hypernet"] = "phrases are off"
        if not self.replay_rows:
            found |= dict.fromkeys(("replay_weight", "replay_capacity"), "no rows are replayed")
        return found

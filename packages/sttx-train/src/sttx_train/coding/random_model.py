"""Models of random weights, `cfg:…` in a method: all that they predict they learn while they code.

Two forms are read, and the first one is canonical:

    cfg:hidden=256,layers=6,intermediate=1024,seed=7,train=adam,lr=0.003,stride=1
    cfg:256,1024,6,adam,7,0.003,1         hidden,intermediate,layers,train,seed,lr[,stride]

Knows sizes and options; builds nothing. Loads no torch.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from typing import Any, Literal

from sttx_core.errors import UsageError
from sttx_train.online.policy import Phase, Policy, Train, Turn
from sttx_train.rwkv7.config import RWKV7Config, parameter_shapes

CONFIG = "cfg:"
"""How such a model starts in a method."""

MOST_RANDOM_WEIGHTS = 1 << 26
"""More are not drawn: an archive may come from anybody."""

_POSITIONS = ("hidden", "intermediate", "layers", "train", "seed", "lr", "stride")
_WHOLE = re.compile(r"\d{1,9}")
_MOST = {"hidden": 1 << 13, "layers": 1 << 8, "intermediate": 1 << 15}
_MOST_RANK = 1 << 12
_RANKS = ("decay_rank", "a_rank", "v_rank", "g_rank")


@dataclass(frozen=True, kw_only=True)
class RandomModel:
    """An RWKV-7 of random weights.

    Attributes:
        hidden: width, a multiple of 64.
        layers: number of blocks.
        intermediate: width of the channel mix; 4 times ``hidden`` when None.
        decay_rank, a_rank, v_rank, g_rank: inner widths of the low-rank maps; the published ones when None.
        seed: of the weights.
        train: how all weights learn, adam or sgd; none if a policy says it.
        lr: learning rate; the usual one when None.
        stride: learn at the end of every so many windows only; of each when None.
    """

    hidden: int
    layers: int
    intermediate: int | None = None
    decay_rank: int | None = None
    a_rank: int | None = None
    v_rank: int | None = None
    g_rank: int | None = None
    seed: int = 0
    train: Literal["none", "sgd", "adam"] = "none"
    lr: float | None = None
    stride: int | None = None

    def __post_init__(self) -> None:
        for name, most in {**_MOST, **dict.fromkeys(_RANKS, _MOST_RANK)}.items():
            value = getattr(self, name)
            if value is not None and not 1 <= value <= most:
                raise UsageError(f"a random model's {name} must be from 1 to {most}, not {value}")
        if self.hidden % 64:
            raise UsageError(f"a random model's hidden must be a multiple of 64, not {self.hidden}")
        if self.train not in ("none", "sgd", "adam"):
            raise UsageError(f"a random model's train must be adam, sgd or none, not {self.train!r}")
        unused = [name for name in ("lr", "stride") if getattr(self, name) is not None]
        if self.train == "none" and unused:
            raise UsageError(f"a random model's {unused[0]} goes with train=adam or train=sgd")
        if self.lr is not None and not (math.isfinite(self.lr) and self.lr >= 0):
            raise UsageError(f"a random model's lr cannot be {self.lr!r}")
        if self.stride is not None and self.stride < 1:
            raise UsageError(f"a random model's stride must be at least 1, not {self.stride}")

    @classmethod
    def parse(cls, text: str) -> RandomModel:
        """Read a model.

        Raises:
            UsageError: it cannot be read; says why.

        >>> print(RandomModel.parse("cfg:64,128,2,adam,7,0.0030"))
        cfg:hidden=64,layers=2,intermediate=128,seed=7,train=adam,lr=0.003
        """
        parts = [part.strip() for part in text.removeprefix(CONFIG).split(",")]
        if not any("=" in part for part in parts):
            if len(parts) not in (len(_POSITIONS) - 1, len(_POSITIONS)):
                raise UsageError(f"a random model by position is {','.join(_POSITIONS[:-1])}[,stride]")
            parts = [f"{name}={value}" for name, value in zip(_POSITIONS, parts, strict=False)]
            parts = [part for part in parts if part != "intermediate=0"]
        values: dict[str, Any] = {}
        for part in parts:
            name, equals, value = part.partition("=")
            if not equals or name not in _NAMES:
                raise UsageError(f"a random model's option {part!r} is unknown: use {', '.join(_NAMES)}")
            if name in values:
                raise UsageError(f"a random model's option {name!r} is there twice")
            values[name] = _read(name, value)
        if missing := [name for name in ("hidden", "layers") if name not in values]:
            raise UsageError(f"a random model needs {missing[0]}=…")
        return cls(**values)

    def __str__(self) -> str:
        shown = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                shown.append(f"{field.name}={value:.15g}" if field.name == "lr" else f"{field.name}={value}")
        return CONFIG + ",".join(shown)

    @property
    def policy(self) -> Policy | None:
        """What ``train`` means: all weights learn, from the start on; None for none."""
        if self.train == "none":
            return None
        how = Train(scope=("all",), opt=self.train, lr=self.lr, stride=self.stride)
        return Policy(phases=(Phase(start=0.0, turns=(Turn(action=how),)),))

    def sizes(self, vocab_size: int) -> RWKV7Config:
        """Return the sizes of the model for a vocabulary.

        Raises:
            UsageError: it would be too large.
        """
        config = RWKV7Config(
            vocab_size=vocab_size,
            hidden_size=self.hidden,
            num_layers=self.layers,
            ffn_size=self.intermediate or 0,
            decay_rank=self.decay_rank or 0,
            a_rank=self.a_rank or 0,
            v_rank=self.v_rank or 0,
            gate_rank=self.g_rank or 0,
        )
        if (count := sum(map(math.prod, parameter_shapes(config).values()))) > MOST_RANDOM_WEIGHTS:
            raise UsageError(
                f"a random model of {count:,} weights is too large: at most {MOST_RANDOM_WEIGHTS:,} are drawn"
            )
        return config


_NAMES = tuple(field.name for field in fields(RandomModel))


def _read(name: str, value: str) -> int | float | str:
    if name == "train":
        return value
    try:
        if name == "lr":
            return float(value)
        if _WHOLE.fullmatch(value):
            return int(value)
    except ValueError:
        pass
    raise UsageError(f"a random model's {name} cannot be {value!r}")

"""How to make a model smaller, as one frozen config. Knows no model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from sttx_core.errors import UsageError

Sparsity = Literal["", "2:4"]

_DEFAULT_GROUP = 32  # of codes of 4 bits; codes of 8 bits have a scale a row, for which torch has a kernel


@dataclass(frozen=True, kw_only=True)
class ShrinkConfig:
    """How to make a model smaller. At most one of energy, size, ghost, zeros and two_of_four has an effect.

    Attributes:
        energy: replace each matrix by two factors that keep this share of its squared singular values, where
            they are smaller than the matrix (0: no factors).
        size: replace matrices by factors of ranks such that the weights file has at most this many bytes
            (0: no limit).
        ghost: make this share of the rows of each layer from the others (0: none).
        zeros: set this share of each layer's numbers to zero, and store the others and a bit mask (0: none).
        two_of_four: store two numbers of every four in a row.
        bits: of a stored number: 16 (floating-point), 8 or 4.
        group: numbers of a row that share a scale; 0: a whole row with 8 bits, 32 with 4 bits.
        calibration: tokens of the data whose activations say which errors matter (0: all matter the same).
        validation: share of the data that the price is measured on.
        heal_minutes: train the smaller model on the data for so many minutes (0: not at all).
        heal_lr: peak learning rate of that training.
        seed: of the order of the data and of the validation documents.
    """

    energy: float = 0.0
    size: int = 0
    ghost: float = 0.0
    zeros: float = 0.0
    two_of_four: bool = False
    bits: Literal[16, 8, 4] = 16
    group: int = 0
    calibration: int = 16384
    validation: float = 0.1
    heal_minutes: float = 0.0
    heal_lr: float = 3e-4
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("energy", "ghost", "zeros", "validation"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(
                    f"{option(name)} must be a share from 0 to below 1, not {getattr(self, name)!r}"
                )
        for name in ("size", "group", "calibration", "heal_minutes", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{option(name)} must not be negative, not {getattr(self, name)!r}")
        if not 0 < self.heal_lr < math.inf:
            raise UsageError(f"--heal-lr must be above 0, not {self.heal_lr!r}")
        if len(structures := self.structures) > 1:
            raise UsageError(
                f"{' and '.join(structures)} cannot be combined: a matrix has one structure; leave one out"
            )
        if self.bits == 16 and self.group:
            raise UsageError("--group would have no effect: it goes with --bits 8 or 4; leave it out")
        if self.bits == 16 and not structures:
            choices = "--bits, --energy, --size, --zeros, --two-of-four or --ghost"
            raise UsageError(f"nothing would become smaller: give {choices}")

    @property
    def structures(self) -> list[str]:
        """The options that give matrices another structure."""
        return [
            option(name)
            for name in ("energy", "size", "ghost", "zeros", "two_of_four")
            if getattr(self, name)
        ]

    @property
    def scale_group(self) -> int:
        """Numbers of a row that share a scale; 0: all."""
        return self.group or (_DEFAULT_GROUP if self.bits == 4 else 0)


def option(name: str) -> str:
    """Return a field's option on the command line.

    >>> option("two_of_four")
    '--two-of-four'
    """
    return "--" + name.replace("_", "-")

"""What tokens cost, token by token. Knows neither models nor documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Prices:
    """The price of each of T tokens, in bits.

    Attributes:
        bits: ``[T]`` what was paid: the price by everything that predicts.
        network: ``[T]`` the price by the learned network alone.
        frozen: ``[T]`` the price by the frozen network alone; NaN if it is not computed.
    """

    bits: np.ndarray
    network: np.ndarray
    frozen: np.ndarray

    def __len__(self) -> int:
        return len(self.bits)

    @classmethod
    def join(cls, parts: Sequence[Prices]) -> Prices:
        """Return the prices of consecutive tokens as one."""
        empty = [np.zeros(0)]
        return cls(
            bits=np.concatenate(empty + [part.bits for part in parts]),
            network=np.concatenate(empty + [part.network for part in parts]),
            frozen=np.concatenate(empty + [part.frozen for part in parts]),
        )

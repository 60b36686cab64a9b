"""A window of tokens, its price, and the report of the step that learned from it. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sttx_train.online.prices import Prices


@dataclass(frozen=True, kw_only=True)
class Window:
    """Consecutive base tokens of one document.

    Attributes:
        document: name of the document that it continues.
        ids: its base tokens, at least one.
        paid: which tokens are paid for and learned from; all when None.
        project: what the document works on; a bank of states keeps projects apart.
    """

    document: str
    ids: tuple[int, ...]
    paid: tuple[bool, ...] | None = None
    project: str = ""

    @property
    def paid_T(self) -> np.ndarray:
        """Which tokens are paid for, ``[T]`` of bool."""
        return np.ones(len(self.ids), dtype=bool) if self.paid is None else np.array(self.paid)


@dataclass(frozen=True, kw_only=True)
class Score:
    """The price of one or more windows.

    Attributes:
        bits: what was paid for the tokens that are paid for: the price by everything that predicts.
        network_bits: the price of the same tokens by the learning network alone.
        frozen_bits: the price of the same tokens by the frozen network alone; NaN if it is not computed.
        bytes: UTF-8 bytes of the tokens that are paid for.
        tokens: base tokens, paid for or not.
        model_steps: recurrent steps of the model; fewer than ``tokens`` where phrases were merged.
        phrases_on: whether the windows were read in phrases.
    """

    bits: float
    network_bits: float
    frozen_bits: float
    bytes: int
    tokens: int
    model_steps: int
    phrases_on: bool


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """One learning step.

    Attributes:
        score: the price of the step's windows before they were learned from.
        loss: what was minimized: mean nats per token of the new windows, plus ``replay_weight`` times that of
            the replayed ones.
        grad_norm: norm of the whole gradient before clipping.
        grad_s0: norm of the gradient of S0.
        norm_s0: norm of S0 after the step.
        replayed: number of replayed windows.
        prices: for each window the price of every token, 0 where it is not paid for; of the network NaN where
            windows are read in phrases. None without experts where they are, or where not all is paid for.
    """

    score: Score
    loss: float
    grad_norm: float
    grad_s0: float
    norm_s0: float
    replayed: int
    prices: tuple[Prices, ...] | None = None

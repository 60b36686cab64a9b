"""What windows cost: by the experts and both networks, or by the learning network alone.

Knows what the networks said and who mixes it; neither how they were run nor how they learn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sttx_train.online.mixture import AlreadyPaid, Mixture
from sttx_train.online.phrase_head import Batch, Priced
from sttx_train.online.prices import Prices
from sttx_train.online.window import Score, Window

NATS_TO_BITS = 1 / math.log(2)


@dataclass(frozen=True, kw_only=True)
class Payment:
    """What some windows cost.

    Attributes:
        windows: the windows.
        batch: how the learning network read them, and perhaps other rows after them.
        learned: what it said.
        frozen: what the frozen network said; None if it was not asked.
        bits: for each window what was paid: for every token with experts, else one sum.
        loss: nats of all paid tokens, whose gradient is that of the mixture's prices; None if not asked for.
        mixed: whether experts were mixed in.
    """

    windows: Sequence[Window]
    batch: Batch
    learned: Priced
    frozen: Priced | None
    bits: Sequence[np.ndarray]
    loss: Tensor | None
    mixed: bool

    def score(self, byte_lengths: np.ndarray, rows: slice = slice(None)) -> Score:
        """Return the price of the windows together, or of some of them."""
        windows, count = self.windows[rows], len(self.windows)
        frozen = self.frozen.nats_B[rows] if self.frozen else None
        return Score(
            bits=sum(float(one.sum()) for one in self.bits[rows]),
            network_bits=_total_bits(self.learned.nats_B[:count][rows]),
            frozen_bits=math.nan if frozen is None else _total_bits(frozen),
            bytes=sum(window_bytes(window, byte_lengths) for window in windows),
            tokens=sum(len(window.ids) for window in windows),
            model_steps=sum(self.batch.steps[:count][rows]),
            phrases_on=self.batch.phrases,
        )

    def prices(self) -> tuple[Prices, ...] | None:
        """Return the price of every token, as far as it is known.

        Within phrases the network says nothing of single tokens: its prices there are NaN. Without experts,
        nothing is known of windows that are read in phrases, nor of those with tokens that are not paid for.
        """
        partly = any(window.paid is not None for window in self.windows)
        if not self.mixed and (self.batch.phrases or partly):
            return None
        network = _by_window(self.windows, None if self.batch.phrases else self.learned)
        frozen = _by_window(self.windows, self.frozen)
        paid = self.bits if self.mixed else map(token_bits, self.windows, network)
        return tuple(
            Prices(bits=bits, network=token_bits(window, says), frozen=token_bits(window, other))
            for window, bits, says, other in zip(self.windows, paid, network, frozen, strict=True)
        )


def pay(
    windows: Sequence[Window],
    batch: Batch,
    learned: Priced,
    frozen: Priced | None,
    mixture: Mixture | AlreadyPaid | None,
    *,
    learn: bool,
    loss: bool = False,
) -> Payment:
    """Pay for windows.

    Within a phrase the network says nothing of single tokens. Where windows are read in phrases, the experts
    get the frozen network in its place, and no loss of the mixture is computed.

    Args:
        windows: the windows.
        batch: how the learning network read them.
        learned: what it said.
        frozen: what the frozen network said.
        mixture: the experts; None for the network's own price.
        learn: whether the experts learn the windows.
        loss: compute the loss of the mixture.
    """
    mixed, mixed_loss = mixture is not None, None
    if mixture is None:
        bits = list(learned.nats_B[: len(windows)].detach().double().cpu().numpy() * NATS_TO_BITS)
    else:
        network = [None] * len(windows) if batch.phrases else _by_window(windows, learned)
        beside = _by_window(windows, frozen)
        if isinstance(mixture, Mixture) and not learn:
            bits = mixture.score(windows, network, beside)
        else:
            bits, mixed_loss = mixture.pay(windows, network, beside, loss=loss)
    return Payment(
        windows=windows, batch=batch, learned=learned, frozen=frozen, bits=bits, loss=mixed_loss, mixed=mixed
    )


def token_bits(window: Window, log_p_TV: Tensor | None) -> np.ndarray:
    """Return the price of each token of a window in bits ``[T]``: 0 if it is not paid for, NaN if unknown."""
    if log_p_TV is None:
        return np.full(len(window.ids), np.nan)
    if log_p_TV.device.type == "cpu":  # a few calls of torch cost more than all else for one token
        nats = -log_p_TV.detach().numpy()[np.arange(len(window.ids)), window.ids].astype(np.float64)
    else:
        ids = torch.tensor(window.ids, device=log_p_TV.device)
        nats = -log_p_TV.detach().gather(-1, ids[:, None])[:, 0].double().cpu().numpy()
    bits = nats * NATS_TO_BITS
    return bits if window.paid is None else np.where(np.array(window.paid), bits, 0.0)


def window_bytes(window: Window, byte_lengths: np.ndarray) -> int:
    """Return the UTF-8 bytes of the tokens that are paid for."""
    lengths = byte_lengths[np.asarray(window.ids)]
    return int(lengths.sum() if window.paid is None else lengths[np.asarray(window.paid)].sum())


def _by_window(windows: Sequence[Window], said: Priced | None) -> Sequence[Tensor | None]:
    """Return a network's log-probabilities ``[T, V]`` for each window."""
    sizes = [len(window.ids) for window in windows]
    return [None] * len(sizes) if said is None else said.of_windows(sizes)


def _total_bits(nats: Tensor) -> float:
    return float(nats.detach().double().sum()) * NATS_TO_BITS

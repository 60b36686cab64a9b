"""The loss through the experts: its gradient is that of the price which was really paid.

The experts price a token by decisions between two halves of the sorted vocabulary. The network enters each as
the logarithm of the ratio of its probabilities of both halves. The experts report the derivative of the price
by that input; where they are sure by themselves it is small, so the network learns where it is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sttx_core.experts import Experts

_LEAST = 1e-30  # keeps logarithms of halves without probability finite; their slope is 0


def mixed_loss(experts: Experts, ids: Sequence[int], log_p_TV: Tensor, slopes_TD: np.ndarray) -> Tensor:
    """Return a loss in nats ``[T]`` whose gradient is that of the price of the mixture.

    Only the gradient has a meaning; the value has none.

    Args:
        experts: those that priced the tokens.
        ids: the T tokens.
        log_p_TV: natural log-probabilities of all tokens at each place, differentiable.
        slopes_TD: derivative of each token's bits by the input at each of its decisions, from `Experts.read`.
    """
    device = log_p_TV.device
    order, *path = (torch.from_numpy(a).to(device) for a in (experts.order, *experts.path(np.asarray(ids))))
    low, middle, high = path
    sorted_TV = log_p_TV.double().exp()[:, order]
    below = torch.nn.functional.pad(sorted_TV.cumsum(-1), (1, 0))
    at_low, at_middle, at_high = (below.gather(-1, rank) for rank in (low, middle, high))
    left, right = (at_middle - at_low).clamp_min(_LEAST), (at_high - at_middle).clamp_min(_LEAST)
    slopes = torch.from_numpy(slopes_TD).to(device)
    return math.log(2) * (slopes * (right.log() - left.log())).sum(-1)

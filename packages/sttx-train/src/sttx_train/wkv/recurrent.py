"""The wkv recurrence token by token: the definition. Tests compare every other kernel with it."""

from __future__ import annotations

import torch
from torch import Tensor


def wkv_recurrent(
    r: Tensor,
    log_w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    state: Tensor,
    starts: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run ``S = S diag(w) + S a b^T + v k^T; y = S r`` over T steps.

    Args:
        r: receptance ``[B, T, H, N]``.
        log_w: natural logarithm of the decay, same shape.
        k: key, same shape.
        v: value, same shape.
        a: direction from which the removed value is read, same shape.
        b: direction along which the removed value is written back, same shape.
        state: ``[B, H, N, N]``, ``[value, key]``.
        starts: bool ``[B, T]``, true at the first step of a document: the state is zeroed before it.

    Returns:
        y ``[B, T, H, N]`` and the state after the last step.
    """
    outputs = []
    for t in range(r.shape[1]):
        if starts is not None:
            state = state.masked_fill(starts[:, t, None, None, None], 0)
        removed = torch.einsum("bhvk,bhk->bhv", state, a[:, t])
        state = (
            state * log_w[:, t].exp().unsqueeze(-2)
            + removed.unsqueeze(-1) * b[:, t].unsqueeze(-2)
            + v[:, t].unsqueeze(-1) * k[:, t].unsqueeze(-2)
        )
        outputs.append(torch.einsum("bhvk,bhk->bhv", state, r[:, t]))
    return torch.stack(outputs, dim=1), state

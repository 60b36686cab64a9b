"""The wkv recurrence of RWKV-5.2 and RWKV-6 token by token: the definition that other kernels must equal."""

from __future__ import annotations

import torch
from torch import Tensor


def wkv6_recurrent(
    r: Tensor,
    log_w: Tensor,
    k: Tensor,
    v: Tensor,
    u: Tensor,
    state: Tensor,
    starts: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run ``y = S r + (r . (u k)) v; S = S diag(w) + v k^T`` over T steps.

    A token reads the state of the tokens before it, and itself with the weight u.

    Args:
        r: receptance ``[B, T, H, N]``.
        log_w: natural logarithm of the decay, at most 0, same shape.
        k: key, same shape.
        v: value, same shape.
        u: weight of the token itself ``[H, N]``.
        state: ``[B, H, N, N]``, ``[value, key]``.
        starts: bool ``[B, T]``, true at the first step of a document: the state is zeroed before it.

    Returns:
        y ``[B, T, H, N]`` and the state after the last step.
    """
    outputs = []
    for t in range(r.shape[1]):
        if starts is not None:
            state = state.masked_fill(starts[:, t, None, None, None], 0)
        own = (r[:, t] * u * k[:, t]).sum(-1, keepdim=True) * v[:, t]
        outputs.append(torch.einsum("bhvk,bhk->bhv", state, r[:, t]) + own)
        written = v[:, t].unsqueeze(-1) * k[:, t].unsqueeze(-2)
        state = state * log_w[:, t].exp().unsqueeze(-2) + written
    return torch.stack(outputs, dim=1), state

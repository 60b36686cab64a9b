"""The price of tokens and all log-probabilities, with a gradient in few passes. Knows no windows.

Legend: M priced steps, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def cross_entropy(logits_MV: Tensor, target_M: Tensor) -> tuple[Tensor, Tensor]:
    """Return the price of each target in nats ``[M]``, and natural log-probabilities ``[M, V]``."""
    return _CrossEntropy.apply(logits_MV, target_M)


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        log_p = torch.log_softmax(logits, dim=-1)
        ctx.save_for_backward(log_p, target)
        ctx.set_materialize_grads(False)
        return -log_p.gather(-1, target.unsqueeze(-1)).squeeze(-1), log_p

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dnats: Tensor | None, dlog_p: Tensor | None) -> tuple[Tensor | None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        log_p, target = ctx.saved_tensors
        p = log_p.exp()
        by_target = log_p.new_zeros(len(target), 1) if dnats is None else -dnats.unsqueeze(-1)
        total = by_target if dlog_p is None else by_target + dlog_p.sum(-1, keepdim=True)
        d = p.mul_(-total) if dlog_p is None else torch.addcmul(dlog_p, p, total, value=-1)
        return d.scatter_add_(-1, target.unsqueeze(-1), by_target), None

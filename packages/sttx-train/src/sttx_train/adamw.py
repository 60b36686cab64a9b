"""AdamW without PyTorch's compiler: constructing `torch.optim.AdamW` imports it, which takes seconds.

PyTorch wraps the methods of its optimizers in decorators that import `torch._dynamo` when they are first
called. They matter only to an optimizer that is compiled, and this one is not. The functions inside them are
called directly, so every step has the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import unwrap

import torch
from torch.autograd.graph import increment_version

_STEP = unwrap(torch.optim.AdamW.step)


class AdamW(torch.optim.AdamW):
    """`torch.optim.AdamW` whose step cannot be compiled or differentiated.

    PyTorch does not count the changes that its fused kernels make to a tensor. Here they are counted, because
    copies of weights in another layout are renewed when that count has changed (`sttx_train.fused`).

    >>> weight = torch.nn.Parameter(torch.ones(2))
    >>> optimizer = AdamW([weight], lr=0.5, weight_decay=0.0)
    >>> weight.grad = torch.ones(2)
    >>> optimizer.step()
    >>> [round(value, 3) for value in weight.tolist()]
    [0.5, 0.5]
    """

    add_param_group = unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = unwrap(torch.optim.AdamW.zero_grad)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step with the gradients that are there; count the change of each weight."""
        loss = _STEP(self, closure)
        for group in self.param_groups:
            if group["fused"]:
                increment_version([weight for weight in group["params"] if weight.grad is not None])
        return loss

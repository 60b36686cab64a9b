"""AdamW without PyTorch's compiler: constructing `torch.optim.AdamW` imports it, which takes seconds.

PyTorch wraps the methods of its optimizers in decorators that import `torch._dynamo` when they are first
called. They matter only to an optimizer that is compiled, and this one is not. The functions inside them are
called directly, so every step has the same bits.
"""

from __future__ import annotations

from inspect import unwrap

import torch


class AdamW(torch.optim.AdamW):
    """`torch.optim.AdamW` whose step cannot be compiled or differentiated.

    >>> weight = torch.nn.Parameter(torch.ones(2))
    >>> optimizer = AdamW([weight], lr=0.5, weight_decay=0.0)
    >>> weight.grad = torch.ones(2)
    >>> optimizer.step()
    >>> [round(value, 3) for value in weight.tolist()]
    [0.5, 0.5]
    """

    add_param_group = unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = unwrap(torch.optim.AdamW.zero_grad)
    step = torch.no_grad()(unwrap(torch.optim.AdamW.step))

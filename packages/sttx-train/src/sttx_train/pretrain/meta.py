"""Meta-learning: what a model pays for the second half of a window after an outer step on the first half.

The outer step is that of `sttx_train.online.outer`: one step of gradient descent on an offset of the state.
Gradients flow through it, so the weights learn to make it useful; the first half is read by a kernel of plain
torch, which can be differentiated twice. Knows models and windows; neither optimizers nor data.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from sttx_train.data.sampling import WindowBatch
from sttx_train.online.outer import scaled
from sttx_train.pretrain.evaluation import pay
from sttx_train.rwkv7 import LanguageModel, RecurrentState


def pay_after_step(
    model: LanguageModel,
    window: WindowBatch,
    state: RecurrentState,
    eot_id: int,
    *,
    rate: float,
    first_weight: float,
) -> tuple[Tensor, RecurrentState]:
    """Return the sum of nats that a model pays for a window, and the states after it.

    The first half of each row is read from its state plus an offset of zero. One step moves the offset
    against the gradient of what the half cost, and the second half is read from the state after the first
    half plus the offset. Where a document starts in the first half, no step is taken: the offset would be of
    another document.

    Args:
        model: the model.
        window: ids and targets ``[B, T]``, T at least 2.
        state: the states before the window.
        eot_id: the end-of-text id, at which the state starts again.
        rate: of the step.
        first_weight: of the first half's price in the gradient; the second half's is 1.

    Returns:
        The sum, whose value is the price of both halves and whose gradient is that of the weighted prices;
        and the states, differentiable.
    """
    half = window.inputs.shape[1] // 2
    first, second = (
        WindowBatch(*(ids[:, part] for ids in window)) for part in (slice(half), slice(half, None))
    )
    offset = torch.zeros_like(state.wkv).requires_grad_()
    with _differentiable_twice(model):
        before, middle = pay(model, first, _moved(state, offset), model.device, eot_id)
    (gradient,) = torch.autograd.grad(before, offset, create_graph=True)
    continues = torch.from_numpy((first.inputs != eot_id).all(1)).to(gradient)
    step = rate * scaled(gradient) * continues.view(-1, 1, 1, 1)
    after, end = pay(model, second, _moved(middle, -step), model.device, eot_id)
    learned = first_weight * before + after
    return learned + (before + after - learned).detach(), end


def _moved(state: RecurrentState, offset: Tensor) -> RecurrentState:
    """Return a state with an offset ``[L, B, H, N, N]`` added to its matrices."""
    return replace(state, wkv=state.wkv + offset)


@contextmanager
def _differentiable_twice(model: LanguageModel) -> Iterator[None]:
    """Read with the chunked kernel in the block: plain torch, whose gradients have gradients."""
    backend, model.backend = model.backend, "chunked"
    try:
        yield
    finally:
        model.backend = backend

"""One optimizer step by the action of a policy: of which tensors, by which optimizer, at which rate.

Knows tensors by their names in :meth:`OnlineLearner.trainable`; neither windows nor losses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from sttx_train.online.optimizer import OnlineOptimizer
from sttx_train.online.policy import Train
from sttx_train.online.scope import Scope, weights_in_scope
from sttx_train.rwkv7 import LanguageModel
from sttx_train.workers import Workers

_OWN_RATE = "hypernet."  # the hypernetwork keeps its rate, which is far from that of S0


def in_scope(
    parameters: Mapping[str, nn.Parameter], model: LanguageModel, scope: Sequence[Scope] | None
) -> dict[str, nn.Parameter]:
    """Return the learning tensors that a scope names; all of them for None."""
    if scope is None:
        return dict(parameters)
    named = weights_in_scope(model, scope).keys() | ({"bias"} if "bias" in scope else set())
    return {
        name: parameter
        for name, parameter in parameters.items()
        if name in named or ("state" in scope and (name == "s0" or name.startswith(_OWN_RATE)))
    }


def backward(loss: Tensor, parameters: Iterable[nn.Parameter], workers: Workers) -> bool:
    """Compute the gradients of a loss; return whether there are any.

    With several processes the gradients are added up. One that has read no window of the step has a loss
    without gradients, and gets those of the others.
    """
    if loss.requires_grad:
        loss.backward()
    return workers.add_gradients(parameters)


def take_step(optimizer: OnlineOptimizer, how: Train) -> None:
    """Change each tensor that has a gradient: by AdamW, or by plain gradient descent without weight decay.

    Args:
        optimizer: with one group for each tensor, which has its name and its usual rate.
        how: the optimizer and the rate; None in it is AdamW, or the usual rate.
    """
    usual = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        if how.lr is not None and not group["name"].startswith(_OWN_RATE):
            group["lr"] = how.lr
    try:
        if how.opt == "sgd":
            optimizer.descend(how.momentum or 0.0)
        else:
            optimizer.step()
    finally:
        for group, rate in zip(optimizer.param_groups, usual, strict=True):
            group["lr"] = rate

"""The optimizer of the online learner: AdamW with one parameter group, and so one rate, for each tensor.

Where a policy says so, it takes steps of plain gradient descent instead, perhaps with momentum. Knows tensors
by their names in :meth:`OnlineLearner.trainable`; neither windows nor losses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sttx_train.adamw import AdamW
from sttx_train.online.config import LearnerConfig

BETAS = (0.9, 0.95)  # a stream changes, so the second moment forgets faster than AdamW's usual 0.999
BETAS_STATE = (0.0, 0.95)  # for S0 and the hypernetwork, which overshoot with momentum


MOMENTUM = "momentum"
"""Name of the last step of gradient descent, among a parameter's tensors."""


class OnlineOptimizer(AdamW):
    """AdamW that can also take steps of gradient descent.

    Attributes:
        last_steps: of gradient descent with momentum, for each parameter what the last step subtracted,
            before the rate.
    """

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups)
        self.last_steps: dict[nn.Parameter, Tensor] = {}

    @torch.no_grad()
    def descend(self, momentum: float) -> None:
        """Change each parameter that has a gradient, without weight decay.

        Args:
            momentum: how much of the last step is added to the gradient.
        """
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                step = parameter.grad
                if momentum:
                    last = self.last_steps.get(parameter)
                    step = step.clone() if last is None else last.mul_(momentum).add_(step)
                    self.last_steps[parameter] = step
                parameter.sub_(step, alpha=group["lr"])


def online_optimizer(parameters: Mapping[str, nn.Parameter], config: LearnerConfig) -> OnlineOptimizer | None:
    """Return an optimizer with each parameter's own rate, betas and weight decay; None if there are none."""
    rates = {"s0": config.lr_state, "bias": config.lr_bias}
    groups = []
    for name, parameter in parameters.items():
        vector = parameter.ndim == 1 or name.endswith("r_k")
        default = config.lr_vectors if vector else config.lr_weights
        groups.append(
            {
                "params": [parameter],
                "lr": config.lr_hypernet if name.startswith("hypernet.") else rates.get(name, default),
                "weight_decay": config.weight_decay if name == "s0" else 0.0,
                "name": name,
                "betas": BETAS_STATE if name.startswith(("s0", "hypernet.")) else BETAS,
            }
        )
    return OnlineOptimizer(groups) if groups else None


def optimizer_tensors(
    optimizer: OnlineOptimizer | None, parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """Return the optimizer's tensors as ``parameter name/tensor name``."""
    if optimizer is None:
        return {}
    moments = {
        f"{name}/{key}": tensor
        for name, parameter in parameters.items()
        for key, tensor in optimizer.state.get(parameter, {}).items()
    }
    last = {name: optimizer.last_steps.get(parameter) for name, parameter in parameters.items()}
    return moments | {f"{name}/{MOMENTUM}": step for name, step in last.items() if step is not None}


def load_optimizer_tensors(
    optimizer: OnlineOptimizer | None, parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]
) -> None:
    """Replace the optimizer's tensors by copies of those that :func:`optimizer_tensors` returned."""
    if optimizer is None:
        return
    optimizer.state.clear()
    optimizer.last_steps.clear()
    for path, tensor in tensors.items():
        name, key = path.rsplit("/", 1)
        # AdamW keeps its step counter on the CPU and its averages on the parameter's device.
        device = tensor.device if key == "step" else parameters[name].device
        if key == MOMENTUM:
            optimizer.last_steps[parameters[name]] = tensor.to(device, copy=True)
        else:
            optimizer.state[parameters[name]][key] = tensor.to(device, copy=True)

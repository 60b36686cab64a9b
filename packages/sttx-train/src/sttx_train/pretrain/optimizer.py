"""AdamW over a model's weights with the published parameter groups, and its state by weight name.

Source: RWKV-LM (BlinkDL), RWKV-v7/train_temp/src/model.py and RWKV-v5/src/model.py, `configure_optimizers`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor, nn

from sttx_train.adamw import AdamW
from sttx_train.pretrain.config import PretrainConfig
from sttx_train.pretrain.parallel import split_by_fsdp
from sttx_train.saved_tensors import check_moments

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


_MATRICES = (".weight", *(f".{part}" for part in ("full", "left", "right", "core", "down", "up", "values")))
"""Ends of the names of matrices, and of the parts of those that are stored otherwise (`sttx_train.forms`)."""
_DECAY_BIASES = ("att.w0", "att.time_decay")


def make_optimizer(model: nn.Module, config: PretrainConfig, hypernet: nn.Module | None = None) -> AdamW:
    """Return AdamW: weight decay on matrices only, the bias of the decay at twice the learning rate.

    The hypernetwork has its own group without weight decay, as in online learning.
    """
    matrices, doubled, rest = [], [], []
    for name, parameter in model.named_parameters():
        if name.endswith(_DECAY_BIASES):
            doubled.append(parameter)
        elif parameter.ndim == 2 and name.endswith(_MATRICES):
            matrices.append(parameter)
        else:
            rest.append(parameter)
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay, "lr_scale": 1.0},
        {"params": rest, "weight_decay": 0.0, "lr_scale": 1.0},
        {"params": doubled, "weight_decay": 0.0, "lr_scale": 2.0},
    ]
    if hypernet is not None:
        groups.append({"params": list(hypernet.parameters()), "weight_decay": 0.0, "lr_scale": 1.0})
    return AdamW(groups, lr=config.lr, betas=(0.9, 0.99), eps=1e-18, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of each group."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]


def is_split(tensor: Tensor) -> TypeGuard[DTensor]:
    """Return whether the tensor is split over processes. Torch's own class takes seconds to import."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor that may be split over processes as one tensor. Every process must call this."""
    return tensor.full_tensor() if is_split(tensor) else tensor


def named_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters as the optimizer knows them.

    After a forward pass FSDP has replaced them, so reshard first.
    """
    if (split := split_by_fsdp(model)) is not None:
        split.reshard()
    return model.named_parameters()


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the model's weights by name, complete and detached; the places of sparse ones too."""
    places = {name: buffer.detach() for name, buffer in model.named_buffers()}
    return {name: whole(value.detach()) for name, value in named_parameters(model)} | places


def optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's state of each weight, by ``weight/moment``."""
    return {
        f"{name}/{moment}": whole(value)
        for name, parameter in named_parameters(model)
        for moment, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, saved: Mapping[str, Tensor]
) -> None:
    """Load what `optimizer_state` returned, split over processes like the weights."""
    parameters = dict(named_parameters(model))
    check_moments("optimizer.safetensors", saved, parameters)
    for key, value in saved.items():
        name, _, moment = key.rpartition("/")
        parameter = parameters[name]
        optimizer.state[parameter][moment] = spread(value, parameter)


def spread(value: Tensor, like: Tensor) -> Tensor:
    """Move a complete tensor to a parameter's device and split it like the parameter; scalars stay whole."""
    value = value.to(like.device)
    if not value.ndim or not is_split(like):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, like.device_mesh, like.placements)

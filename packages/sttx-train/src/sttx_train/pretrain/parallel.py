"""A model whose weights learn in several processes: how its gradients are shared, and who holds what.

With ``ddp`` each process holds all weights, with ``fsdp`` (FSDP2) a part of each weight. Torch averages the
gradients, so a loss is scaled by the number of processes. FSDP takes seconds to import, so it is imported
only where several processes run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sttx_train.pretrain.config import Parallel
from sttx_train.rwkv7 import LanguageModel
from sttx_train.workers import Workers

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule


def wrap(model: nn.Module, workers: Workers, parallel: Parallel) -> nn.Module:
    """Return a module to call instead of the model, which shares gradients among the processes.

    ``fsdp`` accepts only a model.
    """
    if workers.count == 1:
        return model
    if parallel == "ddp":
        return DistributedDataParallel(model)
    assert isinstance(model, LanguageModel)
    from torch.distributed.fsdp import fully_shard

    for block in model.blocks:
        fully_shard(block)
    fully_shard(model)
    return model


@contextmanager
def gradients(model: nn.Module, *, shared: bool) -> Iterator[None]:
    """Run a backward pass; share the gradients at its end, or only accumulate them in this process."""
    if isinstance(model, DistributedDataParallel):
        with nullcontext() if shared else model.no_sync():
            yield
        return
    if (split := split_by_fsdp(model)) is not None:
        split.set_requires_gradient_sync(shared)
    yield


def split_by_fsdp(model: nn.Module) -> FSDPModule | None:
    """Return the model as FSDP's module if it is one, so that each process holds a part of the weights."""
    if not (dist.is_available() and dist.is_initialized()):
        return None
    from torch.distributed.fsdp import FSDPModule

    return model if isinstance(model, FSDPModule) else None

"""One process or many (torchrun): who has which rows, and how weights and numbers are brought together.

Every process runs the same program on its own rows. With ``ddp`` each holds all weights, with ``fsdp``
(FSDP2) a part of each; gradients are averaged by torch, so a loss is scaled by the number of processes.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from sttx_core.errors import UsageError
from sttx_train.environment import torchrun_launched
from sttx_train.pretrain.config import Parallel
from sttx_train.rwkv7 import RWKV7, RecurrentState


@contextmanager
def joined(device: torch.device) -> Iterator[Workers]:
    """Join the other processes of a `torchrun`, if this is one of several, and leave them at the end.

    Args:
        device: decides how they talk: NCCL for CUDA, gloo else.

    Raises:
        UsageError: torch was built without that.
    """
    if not torchrun_launched() or dist.is_initialized():
        yield Workers()
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    if not dist.is_available() or not dist.is_backend_available(backend):
        raise UsageError(f"this torch was built without {backend!r}: start one process, without torchrun")
    dist.init_process_group(backend)
    try:
        yield Workers()
    finally:
        gc.collect()  # what still refers to the group would keep its threads alive into the interpreter's end
        dist.destroy_process_group()


class Workers:
    """The processes of a run, this one among them.

    Attributes:
        rank: number of this process, from 0.
        count: number of all.
    """

    def __init__(self) -> None:
        several = dist.is_available() and dist.is_initialized()
        self.rank: int = dist.get_rank() if several else 0
        self.count: int = dist.get_world_size() if several else 1

    @property
    def is_first(self) -> bool:
        """Whether this process tells and saves."""
        return self.rank == 0

    def wrap(self, model: nn.Module, parallel: Parallel) -> nn.Module:
        """Make a model share its gradients; what comes back is called in its place.

        ``fsdp`` spreads an RWKV-7 and nothing else.
        """
        if self.count == 1:
            return model
        if parallel == "ddp":
            return DistributedDataParallel(model)
        assert isinstance(model, RWKV7)
        for block in model.blocks:
            fully_shard(block)
        fully_shard(model)
        return model

    def sum(self, values: Tensor) -> Tensor:
        """Add up a tensor over all processes, in place."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def same(self, value: float) -> float:
        """Return the first process's number, so that all decide alike by it."""
        if self.count == 1:
            return value
        told = torch.tensor([value], dtype=torch.float64, device=_device_of_group())
        dist.broadcast(told, src=0)
        return float(told.item())

    def agree(self, said: bool) -> bool:
        """Whether any process says so."""
        if self.count == 1:
            return said
        votes = torch.tensor([float(said)], device=_device_of_group())
        return bool(self.sum(votes).item())

    def rows(self, state: RecurrentState) -> RecurrentState:
        """Return the states of all rows of all processes, in order; every process has to ask."""
        return RecurrentState(**{name: self._gathered(value) for name, value in vars(state).items()})

    def own(self, state: RecurrentState) -> RecurrentState:
        """Return this process's rows of the states of all."""
        size = state.batch // self.count
        return state.select(range(self.rank * size, (self.rank + 1) * size))

    def _gathered(self, value: Tensor) -> Tensor:
        if self.count == 1:
            return value
        pieces = [torch.empty_like(value) for _ in range(self.count)]
        dist.all_gather(pieces, value.contiguous())
        return torch.cat(pieces, dim=1)

    def collect(self, own: list[Any]) -> list[Any]:
        """Return what all processes have, in their order; every process has to ask."""
        if self.count == 1:
            return own
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, own)
        return [one for part in found for one in part]

    def alone(self, work: Callable[[], Any]) -> Any:
        """Let the first process do what only one may, and the others wait for it."""
        done = work() if self.is_first else None
        if self.count > 1:
            dist.barrier()
        return done


@contextmanager
def gradients(model: nn.Module, *, shared: bool) -> Iterator[None]:
    """Run a backward pass whose gradients are shared at its end, or only added up here."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(shared)
        yield
    elif isinstance(model, DistributedDataParallel):
        with nullcontext() if shared else model.no_sync():
            yield
    else:
        yield


def _device_of_group() -> torch.device:
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")

"""One process or many (torchrun): which process has which rows, and how weights and numbers are combined.

Every process runs the same program on its own rows. With ``ddp`` each process holds all weights, with
``fsdp`` (FSDP2) a part of each weight. Torch averages the gradients, so a loss is scaled by the number of
processes. FSDP takes seconds to import, so it is imported only where several processes run.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sttx_core.errors import UsageError
from sttx_train.environment import torchrun_launched
from sttx_train.pretrain.config import Parallel
from sttx_train.rwkv7 import LanguageModel, RecurrentState

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule


@contextmanager
def joined(device: torch.device) -> Iterator[Workers]:
    """Join the other processes of a `torchrun`, if there are any, and leave them at the end.

    Args:
        device: the device of this process; they communicate through NCCL on CUDA, otherwise through gloo.

    Raises:
        UsageError: torch was built without that backend.
    """
    if not torchrun_launched() or dist.is_initialized():
        yield Workers(device)
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    if not dist.is_available() or not dist.is_backend_available(backend):
        raise UsageError(f"this torch was built without {backend!r}: start one process, without torchrun")
    dist.init_process_group(backend)
    try:
        yield Workers(device)
    finally:
        gc.collect()  # a remaining reference to the group would keep its threads alive
        dist.destroy_process_group()


class Workers:
    """The processes of a run, including this one.

    Attributes:
        device: the device of this process.
        rank: number of this process, from 0.
        count: number of processes.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")
        several = dist.is_available() and dist.is_initialized()
        self.rank: int = dist.get_rank() if several else 0
        self.count: int = dist.get_world_size() if several else 1

    @property
    def is_first(self) -> bool:
        """Whether this process reports and saves."""
        return self.rank == 0

    def wrap(self, model: nn.Module, parallel: Parallel) -> nn.Module:
        """Return a module to call instead of the model, which shares gradients among the processes.

        ``fsdp`` accepts only a model.
        """
        if self.count == 1:
            return model
        if parallel == "ddp":
            return DistributedDataParallel(model)
        assert isinstance(model, LanguageModel)
        from torch.distributed.fsdp import fully_shard

        for block in model.blocks:
            fully_shard(block)
        fully_shard(model)
        return model

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes; the tensor itself changes."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def same(self, value: float) -> float:
        """Return the first process's number, so that all processes decide the same."""
        if self.count == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=_device_of_group())
        dist.broadcast(shared, src=0)
        return float(shared.item())

    def any(self, flag: bool) -> bool:
        """Return whether the flag is true in any process."""
        if self.count == 1:
            return flag
        votes = torch.tensor([float(flag)], device=_device_of_group())
        return bool(self.sum(votes).item())

    def rows(self, state: RecurrentState) -> RecurrentState:
        """Return the states of all rows of all processes, in order. Every process must call this."""
        return RecurrentState(**{name: self._gathered(value) for name, value in vars(state).items()})

    def own(self, state: RecurrentState) -> RecurrentState:
        """Return this process's rows out of the states of all rows."""
        size = state.batch // self.count
        return state.select(range(self.rank * size, (self.rank + 1) * size))

    def _gathered(self, value: Tensor) -> Tensor:
        if self.count == 1:
            return value
        pieces = [torch.empty_like(value) for _ in range(self.count)]
        dist.all_gather(pieces, value.contiguous())
        return torch.cat(pieces, dim=1)

    def collect(self, own: list[Any]) -> list[Any]:
        """Return the concatenated lists of all processes, in their order. Every process must call this."""
        if self.count == 1:
            return own
        lists: list[Any] = [None] * self.count
        dist.all_gather_object(lists, own)
        return [item for part in lists for item in part]

    def alone(self, work: Callable[[], Any]) -> Any:
        """Run ``work`` in the first process while the others wait; return its result there, else None."""
        result = work() if self.is_first else None
        if self.count > 1:
            dist.barrier()
        return result


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


def _device_of_group() -> torch.device:
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")

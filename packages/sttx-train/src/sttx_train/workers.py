"""One process or many (torchrun): who is here, and how the processes combine tensors, numbers and decisions.

Every process runs the same program. Where one of them ends early the others get an error, and never wait for
it longer than :data:`PATIENCE`. Knows neither models nor what is shared.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sttx_core.errors import DataError, UsageError
from sttx_train.environment import local_rank, torchrun_launched
from sttx_train.rwkv7 import RecurrentState

PATIENCE = timedelta(minutes=30)
"""How long a process waits for another: compiling and loading take minutes on a busy machine."""
_LOST = (
    "another process of this run has ended or does not answer; what was saved before is whole: start all "
    "processes again with --resume"
)


@contextmanager
def joined(device: torch.device) -> Iterator[Workers]:
    """Join the other processes of a `torchrun`, if there are any, and leave them at the end.

    Args:
        device: the device of this process; they communicate through NCCL on CUDA, otherwise through gloo.

    Raises:
        UsageError: torch was built without that backend.
        DataError: another process has ended before it joined.
    """
    if not torchrun_launched() or dist.is_initialized():
        yield _present(device)
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    if not dist.is_available() or not dist.is_backend_available(backend):
        raise UsageError(f"this torch was built without {backend!r}: start one process, without torchrun")
    with _answering():
        dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield _present(device)
    finally:
        gc.collect()  # a remaining reference to the group would keep its threads alive
        dist.destroy_process_group()


def _present(device: torch.device) -> Workers:
    if not (dist.is_available() and dist.is_initialized()):
        return Workers(device)
    return Workers(device, rank=dist.get_rank(), count=dist.get_world_size())


def own_device(device: torch.device) -> torch.device:
    """Return the device of this process: under `torchrun` each has a CUDA device of its own."""
    if device.type == "cuda" and torchrun_launched():
        device = torch.device("cuda", local_rank())
        torch.cuda.set_device(device)
    return device


class Workers:
    """The processes of a run, including this one; by default it is alone.

    Every process must call the same methods in the same order.

    Attributes:
        device: the device of this process.
        rank: number of this process, from 0.
        count: number of processes.

    Raises:
        DataError: (all methods) another process has ended, or does not answer.
    """

    def __init__(self, device: torch.device | None = None, *, rank: int = 0, count: int = 1) -> None:
        self.device = device or torch.device("cpu")
        self.rank, self.count = rank, count

    @property
    def is_first(self) -> bool:
        """Whether this process reports and saves."""
        return self.rank == 0

    # -- tensors and numbers ---------------------------------------------------------------------------------

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes; the tensor itself changes."""
        if self.count > 1:
            with _answering():
                dist.all_reduce(values)
        return values

    def same(self, value: float) -> float:
        """Return the first process's number, so that all processes decide the same."""
        if self.count == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=_device_of_group())
        with _answering():
            dist.broadcast(shared, src=0)
        return float(shared.item())

    def any(self, flag: bool) -> bool:
        """Return whether the flag is true in any process."""
        if self.count == 1:
            return flag
        votes = torch.tensor([float(flag)], device=_device_of_group())
        return bool(self.sum(votes).item())

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> bool:
        """Replace the gradient of each parameter by its sum over all processes.

        A process may have none; where no process has one, there is none afterwards.

        Returns:
            Whether any process had a gradient of any parameter.
        """
        wanted = [parameter for parameter in parameters if parameter.requires_grad]
        if self.count == 1:
            return any(parameter.grad is not None for parameter in wanted)
        found = torch.tensor([float(p.grad is not None) for p in wanted], device=_device_of_group())
        self.sum(found)
        learning = [p for p, count in zip(wanted, found.tolist(), strict=True) if count]
        for dtype in sorted({p.dtype for p in learning}, key=str):
            group = [p for p in learning if p.dtype == dtype]
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in group]
            flat = self.sum(torch.cat([grad.reshape(-1) for grad in grads]))
            for parameter, part in zip(group, flat.split([p.numel() for p in group]), strict=True):
                parameter.grad = part.view_as(parameter)
        return bool(learning)

    # -- states ----------------------------------------------------------------------------------------------

    def rows(self, state: RecurrentState) -> RecurrentState:
        """Return the states of all rows of all processes, in order."""
        found = {name: value for name, value in vars(state).items() if value is not None}
        return RecurrentState(**{name: self._gathered(value) for name, value in found.items()})

    def own(self, state: RecurrentState) -> RecurrentState:
        """Return this process's rows out of the states of all rows."""
        size = state.batch // self.count
        return state.select(range(self.rank * size, (self.rank + 1) * size))

    def _gathered(self, value: Tensor) -> Tensor:
        if self.count == 1:
            return value
        pieces = [torch.empty_like(value) for _ in range(self.count)]
        with _answering():
            dist.all_gather(pieces, value.contiguous())
        return torch.cat(pieces, dim=1)

    # -- anything else ---------------------------------------------------------------------------------------

    def collect(self, own: list[Any]) -> list[Any]:
        """Return the concatenated lists of all processes, in their order."""
        if self.count == 1:
            return own
        lists: list[Any] = [None] * self.count
        with _answering():
            dist.all_gather_object(lists, own)
        return [item for part in lists for item in part]

    def collect_first(self, own: list[Any]) -> list[Any]:
        """Return, in the first process, what :meth:`collect` would; elsewhere the process's own list."""
        if self.count == 1:
            return own
        lists: list[Any] | None = [None] * self.count if self.is_first else None
        with _answering():
            dist.gather_object(own, lists, dst=0)
        return own if lists is None else [item for part in lists for item in part]

    def tell(self, what: Any = None) -> Any:
        """Return what the first process says; what the others pass does not matter."""
        if self.count == 1:
            return what
        said = [what]
        with _answering():
            dist.broadcast_object_list(said, src=0)
        return said[0]

    def alone(self, work: Callable[[], Any]) -> Any:
        """Run ``work`` in the first process while the others wait; return its result there, else None."""
        result = work() if self.is_first else None
        if self.count > 1:
            with _answering():
                dist.barrier()
        return result


@contextmanager
def _answering() -> Iterator[None]:
    """Say in one sentence that another process is gone; the backends raise `RuntimeError` in many words."""
    try:
        yield
    except RuntimeError as error:
        raise DataError(_LOST) from error


def _device_of_group() -> torch.device:
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")

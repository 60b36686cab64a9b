"""One step of the learner in several processes: each reads its own documents, all learn the same.

What is decided by counting is decided in every process alike: phrases, replay, when to learn. A document's
network runs, and its state stays, in the process that its name chooses. The experts read everything in order,
so they read in the first process, which gets what the networks say and returns the prices. Gradients are
added up. So the steps are those of one process with the same windows, up to rounding.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sttx_core.errors import ModelError, UsageError
from sttx_train.online.carried import Carried, CarriedStates
from sttx_train.online.mixture import Mixture
from sttx_train.online.networks import Networks
from sttx_train.online.phrase_head import Batch, Priced
from sttx_train.online.window import Window
from sttx_train.rwkv7 import RecurrentState
from sttx_train.workers import Workers

if TYPE_CHECKING:
    from sttx_train.online.learner import OnlineLearner


def share_of(document: str, shares: int) -> int:
    """Return which of so many shares a document belongs to, by its name alone.

    >>> share_of("a", 1), {share_of(str(number), 4) for number in range(99)} == {0, 1, 2, 3}
    (0, True)
    """
    return zlib.crc32(document.encode("utf-8", "surrogatepass")) % shares


def is_mine(document: str, workers: Workers) -> bool:
    """Return whether this process reads a document."""
    return share_of(document, workers.count) == workers.rank


def share_steps(learner: OnlineLearner, workers: Workers) -> None:
    """Let the steps of a learner be shared by several processes. Each makes a learner and calls this.

    Raises:
        UsageError: there is a bank of states, which needs every document's state in one process.
    """
    if learner.carried.bank is not None:
        raise UsageError("--memory bank needs all states in one process: leave it out, or start one process")
    learner.workers = workers
    learner.networks = _SharedNetworks(learner.networks, workers)
    learner.carried = _SharedStates(learner.carried, workers)
    if learner.mixture is not None:
        learner.use(_SharedMixture(learner.mixture, workers))


def require_same(learner: OnlineLearner) -> None:
    """Check that all processes have learned the same numbers.

    Raises:
        ModelError: their numbers differ, so they cannot continue as one run.
    """
    sums = [(name, float(p.detach().double().sum())) for name, p in learner.trainable().items()]
    every = learner.workers.collect([sums])
    if any(repr(other) != repr(every[0]) for other in every):
        raise ModelError(
            "the processes have learned different numbers: run them on machines of one kind, with the same "
            "versions; the last checkpoint is whole"
        )


@dataclass(frozen=True, kw_only=True)
class _SharedPriced(Priced):
    """The prices of all rows; probabilities and states only of the rows that this process has read.

    Attributes:
        rows: numbers of the rows that `log_p_MV` and `state` are of, in order.
        workers: the processes.
        gathers: whether the first process wants the probabilities of all rows, for the experts.
    """

    rows: tuple[int, ...]
    workers: Workers
    gathers: bool
    _known: dict[int, Tensor | None] = field(default_factory=dict)

    def of_windows(self, sizes: Sequence[int]) -> Sequence[Tensor | None]:
        """Return the log-probabilities of each window: of all in the first process, elsewhere of its own."""
        if not self._known:
            mine = [row for row in self.rows if row < len(sizes)]
            own = [sizes[row] for row in mine]
            parts = dict(zip(mine, self.log_p_MV[: sum(own)].split(own) if own else (), strict=True))
            others = self._gathered(parts) if self.gathers else {}
            self._known.update({row: parts.get(row, others.get(row)) for row in range(len(sizes))})
        return [self._known[row] for row in range(len(sizes))]

    def _gathered(self, parts: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Return what the other processes have, in the first one; experts read float32."""
        first = self.workers.is_first
        own = [] if first else [(row, part.detach().float().cpu().numpy()) for row, part in parts.items()]
        return {row: torch.from_numpy(values) for row, values in self.workers.collect_first(own)}

    def state_of(self, row: int) -> RecurrentState | None:
        """Return the state at the end of a row; None if another process has read it."""
        return super().state_of(self.rows.index(row)) if row in self.rows else None


class _SharedNetworks(Networks):
    """Networks that read the rows of this process; the prices of the others come from where they are read."""

    def __init__(self, networks: Networks, workers: Workers) -> None:
        vars(self).update(vars(networks))
        self._workers = workers

    def read(
        self,
        windows: Sequence[Window],
        carried: Sequence[Carried],
        *,
        phrases: bool,
        replayed: Sequence[np.ndarray] = (),
        at_start: Sequence[bool] | None = None,
    ) -> tuple[Batch, Priced]:
        """Read windows as one process does. A replayed window is read where the state it starts from is."""
        rows = self.rows(windows, carried, replayed)
        batch = self.learning.prepare(rows, phrases=phrases, every=self.every)
        mine, count = self._mine(windows), len(windows)
        again = [row for row in range(len(replayed)) if row % count in mine]
        priced = None
        if mine:
            begins = None if at_start is None else [at_start[row] for row in mine]
            windows, carried = [windows[row] for row in mine], [carried[row] for row in mine]
            chosen = [replayed[row] for row in again]
            _, priced = super().read(windows, carried, phrases=phrases, replayed=chosen, at_start=begins)
        return batch, self._together(priced, [*mine, *(count + row for row in again)], len(rows))

    @property
    def one_pass(self) -> bool:
        """As in `Networks`; prices are put together for each network by itself."""
        return False

    def read_frozen(self, windows: Sequence[Window], carried: Sequence[Carried]) -> Priced | None:
        """Read windows with the frozen network, each process its own."""
        if self.frozen is None:
            return None
        mine = self._mine(windows)
        own = [windows[row] for row in mine], [carried[row] for row in mine]
        return self._together(super().read_frozen(*own) if mine else None, mine, len(windows))

    def _mine(self, windows: Sequence[Window]) -> list[int]:
        return [row for row, window in enumerate(windows) if is_mine(window.document, self._workers)]

    def _together(self, priced: Priced | None, rows: Sequence[int], count: int) -> Priced:
        """Return the prices of all rows; gradients flow through those of this process."""
        device = self.s0.device
        index = torch.tensor(list(rows), dtype=torch.long, device=device)
        nats_B = torch.zeros(count, dtype=self.s0.dtype, device=device)
        if priced is not None:
            nats_B[index] = priced.nats_B.detach()
        nats_B = self._workers.sum(nats_B)
        if priced is not None:
            nats_B = nats_B.index_copy(0, index, priced.nats_B)
        return _SharedPriced(
            nats_B=nats_B,
            log_p_MV=self.s0.new_zeros(0) if priced is None else priced.log_p_MV,
            state=self.start(None, at_start=False) if priced is None else priced.state,
            rows=tuple(rows),
            workers=self._workers,
            gathers=self.every,
        )


class _SharedMixture(Mixture):
    """Experts that read in the first process, for all; the others know only their vocabulary."""

    def __init__(self, mixture: Mixture, workers: Workers) -> None:
        vars(self).update(vars(mixture))
        self._workers = workers

    def read_all(
        self,
        windows: Sequence[Window],
        network: Sequence[Tensor | None],
        frozen: Sequence[Tensor | None],
        *,
        slopes: bool,
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return what the first process has read; every process must call this."""
        first = self._workers.is_first
        return self._workers.tell(
            super().read_all(windows, network, frozen, slopes=slopes) if first else None
        )


class _SharedStates(CarriedStates):
    """The carried states of the documents of this process; of the others only the last tokens are known."""

    def __init__(self, carried: CarriedStates, workers: Workers) -> None:
        super().__init__(carried.capacity, carried.eot_id)
        self._workers = workers

    def state_dict(self) -> dict[str, Any]:
        """Return, in the first process, the states of all; every process must call this."""
        own = [(name, _on_cpu(entry)) for name, entry in self.entries.items() if is_mine(name, self._workers)]
        every = dict(self._workers.collect_first(own))
        whole = CarriedStates(self.capacity, self.eot_id)
        whole.evictions = self.evictions
        whole.entries = OrderedDict((name, every.get(name, entry)) for name, entry in self.entries.items())
        return whole.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, of any number of processes."""
        super().load_state_dict(state)
        for name, entry in self.entries.items():
            if not is_mine(name, self._workers):
                self.entries[name] = Carried(None, entry.context)


def _on_cpu(entry: Carried) -> Carried:
    def moved(state: RecurrentState | None) -> RecurrentState | None:
        if state is None:
            return None
        return RecurrentState(**{name: tensor.cpu() for name, tensor in state.detach().tensors().items()})

    offset = None if entry.offset is None else entry.offset.cpu()
    return Carried(moved(entry.state), entry.context, moved(entry.frozen), offset)

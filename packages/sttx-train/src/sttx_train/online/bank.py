"""A bank of states beside the carried ones: a document starts from the mean state of its project.

`sttx_core.memory.bank` decides which states are taken in and which one makes room; here are the tensors.
Knows windows, prices and states; neither networks nor how they learn.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import astuple, dataclass
from typing import Any

import torch

from sttx_core.errors import UsageError
from sttx_core.memory.bank import Part, makes_room, share
from sttx_core.saved_state import checked
from sttx_train.online.carried import Carried
from sttx_train.online.states import BankState
from sttx_train.online.window import Window
from sttx_train.rwkv7 import RecurrentState


@dataclass
class Mean:
    """The mean of the states of a project.

    Attributes:
        state: the mean.
        states: how many were taken in.
    """

    state: RecurrentState
    states: int


class StateBank:
    """The mean state of each of the most recently used projects.

    Args:
        capacity: most projects.

    Attributes:
        means: by project, the least recently used first.
        parts: the part that each carried document is in.
        evictions: how many projects were dropped so far.

    Raises:
        UsageError: the capacity is below 1.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise UsageError(f"--bank-states must be at least 1, not {capacity!r}")
        self.capacity = capacity
        self.means: OrderedDict[str, Mean] = OrderedDict()
        self.parts: dict[str, Part] = {}
        self.evictions = 0

    def start(self, window: Window, carried: Carried) -> Carried:
        """Return what a document carries; at its start, the mean state of its project. Pure.

        Args:
            window: the next window of the document.
            carried: what the document carries.
        """
        mean = self.means.get(window.project) if carried.state is None else None
        return carried if mean is None else Carried(mean.state, carried.context, carried.frozen)

    def learn(self, window: Window, carried: Carried, state: RecurrentState, bits: float, size: int) -> None:
        """Take in a window; where a part of its document ends, take in the state there.

        Args:
            window: the window.
            carried: what its document carried before it.
            state: the document's state after it.
            bits: what the network paid for it.
            size: the UTF-8 bytes that were paid for.
        """
        part = Part() if carried.state is None else self.parts.get(window.document, Part())
        if carried.state is not None and part.is_early and part.ends_before(bits, size):
            self._take_in(window.project, carried.state)
            part = part.next()
        early = part.is_early
        part.add(bits, size)
        if early and part.is_full:
            self._take_in(window.project, state)
            part = part.next()
        self.parts[window.document] = part

    def keep_only(self, documents: Collection[str]) -> None:
        """Forget the parts of documents that are not carried."""
        self.parts = {name: part for name, part in self.parts.items() if name in documents}

    @property
    def nbytes(self) -> int:
        """Memory of the states in bytes."""
        return sum(mean.state.nbytes for mean in self.means.values())

    def report(self) -> dict[str, int]:
        """Return its size, and how much was taken in and dropped, JSON-able."""
        return {
            "states": len(self.means),
            "capacity": self.capacity,
            "bytes": self.nbytes,
            "taken_in": sum(mean.states for mean in self.means.values()),
            "evictions": self.evictions,
        }

    @torch.no_grad()
    def _take_in(self, project: str, state: RecurrentState) -> None:
        """Average a state into the mean of its project."""
        mean = self.means.get(project) or Mean(state.clone(), 0)
        states = mean.states + 1
        before, now = mean.state.tensors(), state.tensors()
        fields = {name: before[name].lerp(now[name], share(states)) for name in before}
        self.means[project] = Mean(RecurrentState(**fields), states)
        self.means.move_to_end(project)
        while len(self.means) > self.capacity:
            del self.means[makes_room(self.means, project)]
            self.evictions += 1

    # -- saving --------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides what comes next: ``tensors``, and ``meta``, JSON-able."""
        states = [mean.state for mean in self.means.values()]
        stacked = RecurrentState.stack(states) if states else None
        return {
            "tensors": {} if stacked is None else stacked.tensors(),
            "meta": {
                "means": [[project, mean.states] for project, mean in self.means.items()],
                "parts": [[name, *astuple(part)] for name, part in self.parts.items()],
                "evictions": self.evictions,
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue exactly from what :meth:`state_dict` returned; the tensors are copied where they are.

        Raises:
            CheckpointError: the state is damaged. The learner checks it against its model and its documents.
        """
        meta, tensors = state["meta"], state["tensors"]
        if not isinstance(meta, BankState):
            meta = checked(BankState, meta, "bank of states")
        stacked = RecurrentState(**tensors) if meta.means else None
        self.means = OrderedDict(
            (project, Mean(stacked.select([row]), states))
            for row, (project, states) in enumerate(meta.means)
            if stacked is not None
        )
        self.parts = {
            name: Part(before=before, windows=windows, bits=bits, bytes=size)
            for name, before, windows, bits, size in meta.parts
        }
        self.evictions = meta.evictions

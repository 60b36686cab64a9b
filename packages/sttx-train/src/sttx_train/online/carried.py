"""The states that documents carry from one window to the next, for a bounded number of documents."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from sttx_core.saved_state import checked
from sttx_train.online.states import CarriedState
from sttx_train.rwkv7 import RecurrentState

if TYPE_CHECKING:
    from sttx_train.online.bank import StateBank
    from sttx_train.online.window import Window

OFFSETS = "offset.wkv"
"""Name of the tensor of all documents' offsets ``[L, documents, H, N, N]``."""


@dataclass
class Carried:
    """How far the model has read one document.

    Attributes:
        state: the state after everything before ``context``; None at the document's start.
        context: the last phrase, as base tokens, which ``state`` has not read yet.
        frozen: the frozen model's state after everything but the last base token; None at the start.
        offset: ``[L, H, N, N]`` what outer steps have learned of the document; None without any.
    """

    state: RecurrentState | None
    context: tuple[int, ...]
    frozen: RecurrentState | None = None
    offset: Tensor | None = None

    def alone(self) -> Carried:
        """Return the same with memory of its own."""
        state, frozen = (None if one is None else one.clone() for one in (self.state, self.frozen))
        return Carried(state, self.context, frozen, None if self.offset is None else self.offset.clone())

    @property
    def nbytes(self) -> int:
        """Memory of its tensors in bytes."""
        return sum(one.nbytes for one in (self.state, self.frozen, self.offset) if one is not None)


class CarriedStates:
    """The carried states of the most recently used documents; an evicted document starts again from nothing.

    Args:
        capacity: maximum number of documents.
        eot_id: the end-of-text id, which opens every document.

    Attributes:
        entries: the carried states by document, least recently used first.
        evictions: how many documents were evicted so far.
        bank: from which documents start; None to start from nothing.
    """

    def __init__(self, capacity: int, eot_id: int) -> None:
        self.capacity, self.eot_id = capacity, eot_id
        self.evictions = 0
        self.entries: OrderedDict[str, Carried] = OrderedDict()
        self.bank: StateBank | None = None

    def of(self, windows: Sequence[Window]) -> list[Carried]:
        """Return what the document of each window carries; a new one starts from the bank. Pure."""
        found = [self.get(window.document) for window in windows]
        return found if self.bank is None else list(map(self.bank.start, windows, found))

    def learn(self, window: Window, after: Carried, bits: float, size: int) -> None:
        """Store what a document carries after a window, and show the window to the bank.

        Args:
            window: the window.
            after: what its document carries then.
            bits: what the network paid for the window.
            size: the UTF-8 bytes that were paid for.
        """
        before = self.get(window.document)
        self.put(window.document, after)
        if self.bank is not None and after.state is not None:
            self.bank.learn(window, before, after.state, bits, size)
            self.bank.keep_only(self.entries)

    def get(self, document: str) -> Carried:
        """Return the carried state of a document, a fresh one if the document is unknown. Pure."""
        return self.entries.get(document) or Carried(None, (self.eot_id,))

    def put(self, document: str, carried: Carried) -> None:
        """Store the carried state of a document; evict the least recently used one beyond the capacity."""
        self.entries[document] = carried
        self.entries.move_to_end(document)
        while len(self.entries) > self.capacity:
            self.entries.popitem(last=False)
            self.evictions += 1

    def __len__(self) -> int:
        return len(self.entries)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides what comes next.

        Returns:
            ``tensors``, the states of all documents stacked along the batch dimension, in the order of
            ``entries``; and ``meta``, JSON-able: the evictions, and for each document its name, its context
            and whether it has a state and a frozen state; ``offsets`` names those with an offset, if any.
        """
        entries = list(self.entries.values())
        documents = [
            [name, list(entry.context), entry.state is not None, entry.frozen is not None]
            for name, entry in self.entries.items()
        ]
        offsets = {name: entry.offset for name, entry in self.entries.items() if entry.offset is not None}
        meta = {"evictions": self.evictions, "sessions": documents}
        tensors = _stacked("state", entries) | _stacked("frozen", entries)
        if offsets:
            meta["offsets"] = list(offsets)
            tensors[OFFSETS] = torch.stack(list(offsets.values()), dim=1)
        return {"tensors": tensors, "meta": meta}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue exactly from what :meth:`state_dict` returned; the tensors are copied where they are.

        Raises:
            CheckpointError: the state is damaged. The learner checks it against its model.
        """
        tensors, meta = state["tensors"], checked(CarriedState, state["meta"], "sessions")
        states, frozen = _unstacked("state", tensors), _unstacked("frozen", tensors)
        offsets = {name: tensors[OFFSETS][:, row].clone() for row, name in enumerate(meta.offsets)}
        self.evictions = meta.evictions
        self.entries = OrderedDict(
            (
                document,
                Carried(
                    state=next(states) if has_state else None,
                    context=tuple(context),
                    frozen=next(frozen) if has_frozen else None,
                    offset=offsets.get(document),
                ),
            )
            for document, context, has_state, has_frozen in meta.sessions
        )


def _stacked(which: Literal["state", "frozen"], entries: Sequence[Carried]) -> dict[str, Tensor]:
    states = [state for entry in entries if (state := getattr(entry, which)) is not None]
    if not states:
        return {}
    return {f"{which}.{name}": tensor for name, tensor in RecurrentState.stack(states).tensors().items()}


def _unstacked(which: Literal["state", "frozen"], tensors: Mapping[str, Tensor]) -> Iterator[RecurrentState]:
    start = f"{which}."
    if own := {name.removeprefix(start): x for name, x in tensors.items() if name.startswith(start)}:
        stacked = RecurrentState(**own)
        yield from (stacked.select([row]) for row in range(stacked.batch))

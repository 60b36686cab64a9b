"""The learning network and the frozen one, and how each reads windows.

A window starts from its document's carried state, plus S0 where it is injected; that is how gradients reach
S0. Knows windows and states; neither what a price is for nor how anything is learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice

import numpy as np
import torch
from torch import Tensor

from sttx_train.online.carried import Carried
from sttx_train.online.config import Injection
from sttx_train.online.phrase_head import Batch, PhraseHead, Priced, Row, Stepped
from sttx_train.online.window import Window
from sttx_train.rwkv7 import RecurrentState


class Networks:
    """Reads windows with the learning network and with the frozen one.

    Args:
        learning: the network that learns, with its phrases.
        frozen: the network as it was; None if its prices are not wanted.
        s0: ``[L, H, N, N]`` added to the matrices of the state.
        inject: where S0 is added.
        bias: ``[V]`` added to the logits; None without.
        every: compute probabilities also of tokens that are not paid for, as experts need them.
    """

    def __init__(
        self,
        learning: PhraseHead,
        frozen: PhraseHead | None,
        *,
        s0: Tensor,
        inject: Injection,
        bias: Tensor | None,
        every: bool,
    ) -> None:
        self.learning, self.frozen = learning, frozen
        self.s0, self.inject, self.bias = s0, inject, bias
        self.every = every

    def start(
        self, carried: RecurrentState | None, *, at_start: bool = True, offset: Tensor | None = None
    ) -> RecurrentState:
        """Return the state from which reading continues: the carried state, plus S0 where it is injected.

        Args:
            carried: the state so far; None at a document's start.
            at_start: whether a window starts here.
            offset: ``[L, H, N, N]`` of the document, also added where a window starts; None without.
        """
        state = carried or self._zeros()
        if offset is not None and at_start:
            state = state.inject(offset)
        if self.inject == "none" or not at_start or (self.inject == "start" and carried is not None):
            return state
        return state.inject(self.s0)

    def read(
        self,
        windows: Sequence[Window],
        carried: Sequence[Carried],
        *,
        phrases: bool,
        replayed: Sequence[np.ndarray] = (),
        at_start: Sequence[bool] | None = None,
    ) -> tuple[Batch, Priced]:
        """Read windows with the learning network, each from its document's carried state.

        Args:
            windows: the windows, or parts of them.
            carried: what their documents carry.
            phrases: merge the tokens into phrases.
            replayed: windows read before, each with one token of context. They start from the carried states
                of the new ones in turn; but where S0 enters only at a document's start, from S0 alone.
            at_start: for each of the windows, whether it is one from its start, as all are by default.
        """
        batch, starts = self._prepared(windows, carried, phrases, replayed, at_start)
        return batch, self.learning.forward(batch, starts, self.bias)

    @property
    def one_pass(self) -> bool:
        """Whether both networks read their windows in one pass, because they are one model."""
        frozen = self.frozen
        return frozen is not None and frozen.model is self.learning.model and frozen.model.reads_whole

    def read_both(
        self,
        windows: Sequence[Window],
        carried: Sequence[Carried],
        *,
        phrases: bool,
        replayed: Sequence[np.ndarray] = (),
    ) -> tuple[Batch, Priced, Priced | None]:
        """Return what `read` does and what `read_frozen` does: in one pass, if both are one network."""
        frozen = self.frozen
        if frozen is None or not self.one_pass:
            batch, learned = self.read(windows, carried, phrases=phrases, replayed=replayed)
            return batch, learned, self.read_frozen(windows, carried)
        batch, starts = self._prepared(windows, carried, phrases, replayed, None)
        beside = self._prepared_frozen(frozen, windows, carried)
        return batch, *self.learning.forward_beside(batch, starts, self.bias, *beside)

    def _prepared(
        self,
        windows: Sequence[Window],
        carried: Sequence[Carried],
        phrases: bool,
        replayed: Sequence[np.ndarray],
        at_start: Sequence[bool] | None,
    ) -> tuple[Batch, RecurrentState]:
        """Return the rows of `read` and the states from which they start."""
        states = [entry.state for entry in carried]
        offsets = [*(entry.offset for entry in carried), *[None] * len(replayed)]
        for_replay = islice(cycle([None] if self.inject == "start" else states), len(replayed))
        begins = [*(at_start or [True] * len(states)), *[True] * len(replayed)]
        starts = [
            self.start(state, at_start=begin, offset=offset)
            for state, begin, offset in zip([*states, *for_replay], begins, offsets, strict=True)
        ]
        rows = self.rows(windows, carried, replayed)
        batch = self.learning.prepare(rows, phrases=phrases, every=self.every)
        return batch, RecurrentState.stack(starts)

    def rows(
        self, windows: Sequence[Window], carried: Sequence[Carried], replayed: Sequence[np.ndarray] = ()
    ) -> list[Row]:
        """Return what :meth:`read` reads: the windows after their documents' context, then the replayed."""
        rows = [_row(window, entry.context) for window, entry in zip(windows, carried, strict=True)]
        again = (tuple(row.tolist()) for row in replayed)
        return rows + [Row(context=ids[:1], ids=ids[1:]) for ids in again]

    def step(self, carried: Sequence[Carried], *, at_start: Sequence[bool]) -> tuple[Stepped, Stepped | None]:
        """Read the one base token of context of each document; return what both networks say follows it.

        Args:
            carried: what the documents carry.
            at_start: for each of them, whether a window starts with what follows.
        """
        ids_B = torch.tensor([entry.context[-1] for entry in carried], device=self.learning.model.device)
        starts = [
            self.start(entry.state, at_start=begin, offset=entry.offset)
            for entry, begin in zip(carried, at_start, strict=True)
        ]
        learned = self.learning.step(ids_B, RecurrentState.joined(starts), self.bias)
        if self.frozen is None:
            return learned, None
        starts = [entry.frozen or self._zeros() for entry in carried]
        return learned, self.frozen.step(ids_B, RecurrentState.joined(starts))

    def read_frozen(self, windows: Sequence[Window], carried: Sequence[Carried]) -> Priced | None:
        """Read windows as base tokens with the frozen network; None if it is not wanted."""
        if self.frozen is None:
            return None
        with torch.no_grad():
            return self.frozen.forward(*self._prepared_frozen(self.frozen, windows, carried))

    def _prepared_frozen(
        self, frozen: PhraseHead, windows: Sequence[Window], carried: Sequence[Carried]
    ) -> tuple[Batch, RecurrentState]:
        rows = [_row(window, entry.context[-1:]) for window, entry in zip(windows, carried, strict=True)]
        batch = frozen.prepare(rows, phrases=False, every=self.every)
        return batch, RecurrentState.stack([entry.frozen or self._zeros() for entry in carried])

    def _zeros(self) -> RecurrentState:
        model = self.learning.model
        return RecurrentState.zeros(model.config, device=model.device, dtype=model.dtype)


def _row(window: Window, context: tuple[int, ...]) -> Row:
    return Row(context=context, ids=window.ids, paid=window.paid)

"""What a memory is worth, with the controls that show whether what it holds matters. Knows no files.

For each window of a session: write its first tokens, forget them, and price the tokens that follow. The arms
differ only in what is there when those are read:

| arm | what is there |
| --- | --- |
| `correct` | the state that was written |
| `zero` | nothing: the base |
| `donor` | the state that the window of another session wrote |
| `shuffled` | the state after writing the same tokens in a random order |
| `permuted` | the right states in the wrong layers |
| `low-rank` | nothing; the projections have trained deltas instead, with as many parameters |
| `prefix` | nothing; the last tokens of those that were written, in the bytes of the state, are read before |
| `bm25` | nothing; pieces of what was written are read before, those that share rare tokens with the lead |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sttx_core.errors import UsageError
from sttx_core.memory.bm25 import bm25_top
from sttx_train.memory.attached import AttachedMemory, Records
from sttx_train.memory.eval_config import MemoryEvalConfig
from sttx_train.memory.lora import LowRank
from sttx_train.memory.training import nats_of, write_windows
from sttx_train.memory.windows import SessionTokens, Window, spread

Arm = Literal["correct", "zero", "donor", "shuffled", "permuted", "low-rank", "prefix", "bm25"]

WITH_STATE: tuple[Arm, ...] = ("correct", "zero", "donor", "shuffled", "permuted")
WITH_TEXT: tuple[Arm, ...] = ("prefix", "bm25")


@dataclass(frozen=True, kw_only=True)
class ArmBits:
    """What an arm paid: bits of each session ``[S]``."""

    arm: Arm
    bits: tuple[float, ...]


class Evaluator:
    """Prices the windows of sessions with each arm.

    Args:
        memory: attached and trained; its state is lost.
        sessions: not trained on, at least two, each with a window's tokens.
        config: how.
        start: ids that the base wants before a text.
        control: a trained `LowRank` for the arm `low-rank`, attached only while it is priced.

    Attributes:
        windows: those that are priced, in order of the sessions.
        bytes: bytes that are scored of each session ``[S]``.
    """

    def __init__(
        self,
        memory: AttachedMemory,
        sessions: Sequence[SessionTokens],
        config: MemoryEvalConfig,
        *,
        start: Sequence[int] = (),
        control: LowRank | None = None,
    ) -> None:
        if len(sessions) < 2:
            raise UsageError("one session cannot be evaluated: a donor is another one; give more")
        self.memory, self.sessions, self.config, self.start = memory, sessions, config, start
        self.control = control
        self.windows = spread(sessions, config.length, config.windows)
        self.bytes = np.zeros(len(sessions))
        first = config.write + config.lead
        for at, place in self.windows:
            self.bytes[at] += sessions[at].bytes_between(place + first, place + config.length)

    def run(
        self, arms: Sequence[Arm], progress: Callable[[int], object] | None = None
    ) -> tuple[ArmBits, ...]:
        """Return what each arm paid.

        Args:
            arms: which.
            progress: called with 1 after each window.
        """
        nats = {arm: np.zeros(len(self.sessions)) for arm in arms}
        with torch.no_grad():
            for number, window in enumerate(self.windows):
                for arm in arms:
                    nats[arm][window.session] += self._nats(arm, number, window)
                self.memory.reset()
                if progress is not None:
                    progress(1)
        self.memory.records = None
        return tuple(ArmBits(arm=arm, bits=tuple(nats[arm] / math.log(2))) for arm in arms)

    def _nats(self, arm: Arm, number: int, window: Window) -> float:
        before = None
        self.memory.reset()
        match arm:
            case "zero" | "low-rank":
                pass
            case "correct":
                self.memory.rewrite(self.records_of(window))
            case "donor":
                self.memory.rewrite(self.records_of(self.donor_of(window)))
            case "shuffled":
                self.memory.rewrite(self.records_of(window), self._order(number))
            case "permuted":
                self.memory.rewrite(self.records_of(window))
                self._rotate_layers()
            case "prefix":
                before = self._kept_prefix(window)
            case "bm25":
                before = self._found(window)
        with self._with_control(arm == "low-rank"):
            return float(self.price(before, window).double().sum())

    def records_of(self, window: Window) -> Records:
        """Return what the memory writes of a window's first tokens."""
        write_windows(self.memory, self._ids(window, 0, self.config.write), self.start)
        assert self.memory.records is not None
        return self.memory.records

    def price(self, before_BT: Tensor | None, window: Window) -> Tensor:
        """Return the nats of the scored tokens of a window."""
        ids = self._ids(window, self.config.write, self.config.length)
        return nats_of(self.memory.model, before_BT, ids, self.config.lead, self.start)

    def donor_of(self, window: Window) -> Window:
        """Return a window of the next session, at about the same part of it."""
        own = [one for one in self.windows if one.session == window.session]
        other = (window.session + 1) % len(self.sessions)
        theirs = [one for one in self.windows if one.session == other]
        return theirs[own.index(window) * len(theirs) // len(own)]

    def _order(self, number: int) -> Tensor:
        length = len(self.start) + self.config.write
        return torch.from_numpy(np.random.default_rng([self.config.seed, number]).permutation(length))

    def _rotate_layers(self) -> None:
        numbers = list(self.memory.state)
        states = [self.memory.state[number] for number in numbers]
        self.memory.state = dict(zip(numbers, states[1:] + states[:1], strict=True))

    def _kept_prefix(self, window: Window) -> Tensor:
        """Return the last written tokens, whose text has no more bytes than the memory's state of a row."""
        room = sum(one.nbytes for one in self.memory.empty_tensors(1).values())
        session, stop = self.sessions[window.session], window.start + self.config.write
        least = int(session.ends[stop - 1]) - room
        first = int(np.searchsorted(session.ends, least, side="left")) + 1 if least > 0 else 0
        return self._ids(window, max(first - window.start, 0), self.config.write)

    def _found(self, window: Window) -> Tensor:
        config = self.config
        written = self._ids(window, 0, config.write)[0].tolist()
        pieces = [written[at : at + config.piece] for at in range(0, len(written), config.piece)]
        query = self._ids(window, config.write, config.write + config.lead)[0].tolist()
        found = [token for at in bm25_top(pieces, query, config.pieces) for token in pieces[at]]
        return torch.tensor([found], device=next(self.memory.parameters()).device)

    def _ids(self, window: Window, start: int, stop: int) -> Tensor:
        ids = self.sessions[window.session].ids[window.start + start : window.start + stop]
        return torch.from_numpy(ids)[None].to(next(self.memory.parameters()).device)

    @contextmanager
    def _with_control(self, on: bool) -> Iterator[None]:
        if on:
            if self.control is None:
                raise UsageError("the arm 'low-rank' needs a trained control: give one")
            self.control.attach()
        try:
            yield
        finally:
            if on and self.control is not None:
                self.control.detach()

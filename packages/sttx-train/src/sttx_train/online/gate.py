"""Decides whether windows are read in phrases: only while phrases cost no bits. Knows prices, not windows.

Pricing each window in both modes would not be a fair comparison: the carried state adapts to the mode in
use, so the other mode always looks about 10% more expensive. Instead the two modes take turns. The first
steps of a turn are not counted, and prices are compared with those of the frozen model for the same windows.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from sttx_core.errors import UsageError

PhraseMode = Literal["auto", "on", "off"]
TURN = 16  # steps in one mode
SETTLE = 4  # first steps of a turn, not counted: the carried state and S0 adapt to the mode
# Modes of the first turns, ordered so that a slow improvement helps neither mode.
FIRST = (False, False, True, True, False)
UNMEASURED = 1  # first turns, not counted: any learner improves fast there
AGAIN = 32  # from this turn on, turns whose number is a power of two try the rejected mode
MEMORY = 0.998  # factor of a mode's running sums at each of its counted steps


class PhraseGate:
    """Compares the prices with phrases and without, and chooses the mode of the next windows.

    Args:
        mode: ``on`` and ``off`` never change; ``auto`` tries both and keeps the cheaper one.

    Attributes:
        on: whether the next windows are read in phrases.

    >>> gate = PhraseGate("auto")
    >>> for _ in range(len(FIRST) * TURN):
    ...     gate.observe(90.0 if gate.on else 80.0, 100.0)
    >>> gate.kept
    False
    """

    def __init__(self, mode: PhraseMode) -> None:
        if mode not in ("auto", "on", "off"):
            raise UsageError(f"--phrases must be auto, on or off, not {mode!r}")
        self.mode: PhraseMode = mode
        self.on = FIRST[0] if mode == "auto" else mode == "on"
        self.steps = 0
        self.with_phrases, self.without = [0.0, 0.0], [0.0, 0.0]  # sums of the prices and of the references

    @property
    def decided(self) -> bool:
        """Whether enough was measured to keep phrases or to reject them."""
        return self.mode != "auto" or self.steps >= len(FIRST) * TURN

    @property
    def kept(self) -> bool:
        """Whether phrases are kept, by the measurements so far. A trial turn does not change it."""
        if self.mode != "auto" or not self.decided:
            return self.on
        return self.with_phrases[0] * self.without[1] <= self.without[0] * self.with_phrases[1]

    def observe(self, paid: float, reference: float) -> None:
        """Count the price of a step and choose the mode of the next one.

        Args:
            paid: the price of the step, read in the mode that :attr:`on` says.
            reference: what it is compared with: the price under the frozen model, or the bytes of the text.
        """
        if self.mode != "auto":
            return
        turn, step = divmod(self.steps, TURN)
        if turn >= UNMEASURED and step >= SETTLE and math.isfinite(paid + reference):
            sums = self.with_phrases if self.on else self.without
            sums[:] = [MEMORY * past + new for past, new in zip(sums, (paid, reference), strict=True)]
        self.steps += 1
        turn, step = divmod(self.steps, TURN)
        if not step:
            trial = turn >= AGAIN and turn & (turn - 1) == 0
            self.on = FIRST[turn] if turn < len(FIRST) else self.kept != trial

    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides what comes next, JSON-able."""
        sums = {"with_phrases": list(self.with_phrases), "without": list(self.without)}
        return {"on": self.on, "steps": self.steps} | sums

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly from what :meth:`state_dict` returned.

        Raises:
            CheckpointError: the state is damaged, or from an earlier version of sttx, which learned
                differently.
        """
        from sttx_train.online.states import checked_gate  # not at the head: help must not load msgspec

        saved = checked_gate(state, self.mode)
        self.on, self.steps = saved.on, saved.steps
        self.with_phrases, self.without = saved.with_phrases, saved.without

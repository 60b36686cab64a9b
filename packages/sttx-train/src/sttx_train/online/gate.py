"""Decides whether phrases stay in the model: only while they cost no bits. Knows two numbers at a time.

Pricing a window both ways tells nothing: the state that it starts from is used to the way that was read, so
that the other way always looks a tenth dearer. Instead the ways take turns. The first steps of a turn are not
counted, and prices are held against what the frozen model pays for the same windows.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from sttx_core.errors import CheckpointError, UsageError

PhraseMode = Literal["auto", "on", "off"]
TURN = 16  # steps that are read one way
SETTLE = 4  # of a turn's steps the first, in which state and S0 get used to the way
FIRST = (False, False, True, True, False)  # ways of the first turns, so that a trend favours neither
UNMEASURED = 1  # of them the first, in which any learner gets better by the step
AGAIN = 32  # from this turn on, those whose number is a power of two are spent the way that was given up
MEMORY = 0.998  # weight of the past in a way's running sums, by each counted step of that way


class PhraseGate:
    """Compares what windows cost with phrases and without, and says which way the next ones go.

    Args:
        mode: ``on`` and ``off`` never change; ``auto`` tries both, and follows what is measured.

    Attributes:
        on: whether the next windows are read over phrases.

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
        self.with_phrases, self.without = [0.0, 0.0], [0.0, 0.0]  # what was paid, and what it is held against

    @property
    def decided(self) -> bool:
        """Whether enough was measured to keep phrases, or to leave them out."""
        return self.mode != "auto" or self.steps >= len(FIRST) * TURN

    @property
    def kept(self) -> bool:
        """Whether phrases stay, by what was measured so far; a turn of the other way does not change it."""
        if self.mode != "auto" or not self.decided:
            return self.on
        return self.with_phrases[0] * self.without[1] <= self.without[0] * self.with_phrases[1]

    def observe(self, paid: float, reference: float) -> None:
        """Take in what a step cost, and decide about the next ones.

        Args:
            paid: its price, the way that :attr:`on` says.
            reference: what it is held against: the frozen model's price, or the length of the text.
        """
        if self.mode != "auto":
            return
        turn, at = divmod(self.steps, TURN)
        if turn >= UNMEASURED and at >= SETTLE and math.isfinite(paid + reference):
            sums = self.with_phrases if self.on else self.without
            sums[:] = [MEMORY * past + new for past, new in zip(sums, (paid, reference), strict=True)]
        self.steps += 1
        turn, at = divmod(self.steps, TURN)
        if not at:
            visit = turn >= AGAIN and turn & (turn - 1) == 0
            self.on = FIRST[turn] if turn < len(FIRST) else self.kept != visit

    def state_dict(self) -> dict[str, Any]:
        """Return the running comparison, JSON-able; :meth:`load_state_dict` continues from it."""
        sums = {"with_phrases": list(self.with_phrases), "without": list(self.without)}
        return {"on": self.on, "steps": self.steps} | sums

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved comparison.

        Raises:
            CheckpointError: it was made when the ways were compared, and all else was learned, otherwise.
        """
        if "steps" not in state:
            raise CheckpointError(
                "an earlier sttx made the checkpoint, and learned otherwise: start anew elsewhere"
            )
        self.on, self.steps = bool(state["on"]), int(state["steps"])
        self.with_phrases, self.without = list(state["with_phrases"]), list(state["without"])

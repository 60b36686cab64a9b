"""Decides whether phrases stay in the model: only while they cost no bits. Knows two numbers at a time."""

from __future__ import annotations

import math
from typing import Literal

from sttx_core.errors import UsageError

PhraseMode = Literal["auto", "on", "off"]
PROBE_EVERY = 8  # windows between two comparisons, each of which costs one forward
MEMORY = 0.98  # weight of the past in the running averages
PATIENCE = 32  # comparisons before the first decision: what is turned off early is not learned either


class PhraseGate:
    """Compares what windows cost with phrases and without, and says which way the next ones go.

    Args:
        mode: ``on`` and ``off`` never change; ``auto`` starts on, and follows what is measured.

    >>> gate = PhraseGate("auto")
    >>> for _ in range(PATIENCE):
    ...     gate.observe(110.0, 100.0)
    >>> gate.on
    False
    """

    def __init__(self, mode: PhraseMode) -> None:
        if mode not in ("auto", "on", "off"):
            raise UsageError(f"--phrases must be auto, on or off, not {mode!r}")
        self.mode: PhraseMode = mode
        self.on = mode != "off"
        self.with_phrases, self.without = 0.0, 0.0
        self.probes, self.windows = 0, 0

    def wants_probe(self) -> bool:
        """Count a window; return whether the other way should be priced too."""
        self.windows += 1
        return self.mode == "auto" and self.windows % PROBE_EVERY == 0

    def observe(self, paid: float, other: float) -> None:
        """Take in what a window cost as it was priced, and the other way; decide about the next ones.

        A price that is not finite says nothing, and would spoil the averages for good.
        """
        if not (math.isfinite(paid) and math.isfinite(other)):
            return
        with_phrases, without = (paid, other) if self.on else (other, paid)
        self.with_phrases = MEMORY * self.with_phrases + with_phrases
        self.without = MEMORY * self.without + without
        self.probes += 1
        if self.mode == "auto" and self.probes >= PATIENCE:
            self.on = self.with_phrases <= self.without

    def state_dict(self) -> dict[str, float | bool]:
        """Return the running comparison; :meth:`load_state_dict` continues from it."""
        return {
            "on": self.on,
            "with_phrases": self.with_phrases,
            "without": self.without,
            "probes": self.probes,
            "windows": self.windows,
        }

    def load_state_dict(self, state: dict[str, float | bool]) -> None:
        """Continue from a saved comparison."""
        self.on = bool(state["on"])
        self.with_phrases, self.without = float(state["with_phrases"]), float(state["without"])
        self.probes, self.windows = int(state["probes"]), int(state["windows"])

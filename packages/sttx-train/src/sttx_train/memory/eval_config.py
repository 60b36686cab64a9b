"""The config of an attached memory's evaluation. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from sttx_core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class MemoryEvalConfig:
    """How windows are evaluated; `write`, `score` and `lead` are those of the training.

    Attributes:
        write: tokens of a window that are written.
        score: tokens after them.
        lead: of those, how many are only read.
        windows: most windows of a session, evenly spread.
        pieces: how many pieces `bm25` puts in front.
        piece: tokens of a piece.
        seed: of the order of `shuffled`.
    """

    write: int = 256
    score: int = 96
    lead: int = 16
    windows: int = 6
    pieces: int = 2
    piece: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("write", "lead", "windows", "pieces", "piece"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise UsageError(f"--{name} must be 1 or more, not {getattr(self, name)!r}")
        if type(self.score) is not int or self.score <= self.lead:
            raise UsageError(f"--score must be more than --lead, not {self.score!r}")

    @property
    def length(self) -> int:
        """Tokens of a window."""
        return self.write + self.score

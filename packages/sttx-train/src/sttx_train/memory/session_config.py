"""The config of a session with a memory. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from sttx_core.errors import UsageError

Unit = Literal["token", "message", "sentence"]


@dataclass(frozen=True, kw_only=True)
class SessionConfig:
    """When a session writes, and what the base sees.

    Attributes:
        unit: what is written at once: each token, each message when it ends, or each sentence.
        window: most tokens that the base sees at once, those of an unfinished message aside.
        overlap: tokens of a full window that the next one begins with.
    """

    unit: Unit = "message"
    window: int = 512
    overlap: int = 64

    def __post_init__(self) -> None:
        if self.unit not in get_args(Unit):
            raise UsageError(f"--unit must be one of {', '.join(get_args(Unit))}, not {self.unit!r}")
        if type(self.window) is not int or not 2 <= self.window <= 1 << 20:
            raise UsageError(f"--window must be from 2 to {1 << 20:,}, not {self.window!r}")
        if type(self.overlap) is not int or not 0 <= self.overlap < self.window:
            raise UsageError(f"--overlap must be 0 or more and below --window, not {self.overlap!r}")

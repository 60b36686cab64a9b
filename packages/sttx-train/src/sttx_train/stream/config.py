"""How a stream is cut, followed and saved, as one frozen config. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from sttx_core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class StreamConfig:
    """How a stream is cut, how long it is followed, and when it is saved.

    Attributes:
        steps: stop after this many steps, counted from the stream's start (0: at the stream's end).
        window: base tokens of a window, which is priced and then learned from.
        batch: largest number of windows in a step, each of another document.
        checkpoint_every: steps between checkpoints (0: only at the end).
        keep: number of checkpoints to keep; older ones are removed.
        api_pairs: make pairs of prompt and completion, and pay for the completions only.
    """

    steps: int = 0
    window: int = 64
    batch: int = 1
    checkpoint_every: int = 50
    keep: int = 3
    api_pairs: bool = False

    def __post_init__(self) -> None:
        for name, least in (("steps", 0), ("window", 1), ("batch", 1), ("checkpoint_every", 0), ("keep", 1)):
            if getattr(self, name) < least:
                option = name.replace("_", "-")
                raise UsageError(f"--{option} must be at least {least}, not {getattr(self, name)!r}")

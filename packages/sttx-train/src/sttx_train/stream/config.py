"""How a stream is paid for, cut, followed and saved, as one frozen config. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sttx_core.errors import UsageError
from sttx_train.online.policy import Policy


@dataclass(frozen=True, kw_only=True)
class StreamConfig:
    """What pays for a stream, how it is cut and followed, and when it is saved.

    Attributes:
        experts: mix experts into the price: tables, over all that was read, of what followed what and of
            repeats. They need no gradients and know exact text, which a network forgets.
        memory: keep a bank of states too: a document then starts from the mean of the states that others of
            its project had early on. With experts this saves nothing.
        bank_states: most states in the bank, one for each project; the least recently used is dropped.
        steps: stop after this many steps, counted from the stream's start (0: at the stream's end).
        window: base tokens of a window, which is priced and then learned from.
        batch: largest number of windows in a step, each of another document. auto takes 1, and with several
            processes one for each; a resumed run keeps its number.
        checkpoint_every: steps between checkpoints (0: only at the end).
        keep: number of checkpoints to keep; older ones are removed.
        api_pairs: make pairs of prompt and completion, and pay for the completions only.
        policy: when to learn and how, such as "schedule=0..1000000:train;1000000..:infer". Positions are
            bytes of text, or percentages of --steps. By default every window is learned from.
    """

    experts: Literal["on", "off"] = "on"
    memory: Literal["none", "bank"] = "none"
    bank_states: int = 16
    steps: int = 0
    window: int = 64
    batch: int | Literal["auto"] = "auto"
    checkpoint_every: int = 50
    keep: int = 3
    api_pairs: bool = False
    policy: str | None = None

    def __post_init__(self) -> None:
        if self.experts not in ("on", "off"):
            raise UsageError(f"--experts must be on or off, not {self.experts!r}")
        if self.memory not in ("none", "bank"):
            raise UsageError(f"--memory must be none or bank, not {self.memory!r}")
        for name, least in (
            ("bank_states", 1),
            ("steps", 0),
            ("window", 1),
            ("batch", 1),
            ("checkpoint_every", 0),
            ("keep", 1),
        ):
            value = getattr(self, name)
            if value != "auto" and value < least:
                option = name.replace("_", "-")
                raise UsageError(f"--{option} must be at least {least}, not {value!r}")
        if self.policy is not None:
            _check_policy(policy := Policy.parse(self.policy), self.steps)
            object.__setattr__(self, "policy", str(policy))

    def without_effect(self) -> dict[str, str]:
        """Return the fields that have no effect because of the others, each with the reason."""
        return {} if self.memory == "bank" else {"bank_states": "there is no bank without --memory bank"}


def _check_policy(policy: Policy, steps: int) -> None:
    """Refuse what has no effect on a stream.

    Raises:
        UsageError: a position or an option has none.
    """
    if policy.percent and not steps:
        raise UsageError("--policy has percentages of an unknown length: give --steps, or positions in bytes")
    if policy.percent and policy.repeats:
        raise UsageError("--policy has percentages of steps and a repeat in bytes: give positions in bytes")

"""The sizes and rates of the experts."""

from dataclasses import dataclass

from sttx_core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class ExpertsConfig:
    """Sizes of the tables, each a power of two, and rates of the mixer.

    The defaults were chosen on public sessions of coding agents with goose-mini as the network
    (docs/log.md).

    Attributes:
        slot_bits: log2 of the number of slots of counts, 32 bytes each.
        history_bits: log2 of the number of tokens in which matches are found, 4 bytes each.
        index_bits: log2 of the places that each match model remembers, 4 bytes each.
        rate: learning rate of the mixer's weights.
        first_rate: what is added to the rate at first; it falls as 1 / (1 + tokens / 250).
        final_rate: learning rate of the second layer.
        limit: number of observations after which an adaptive probability stops slowing down.
    """

    slot_bits: int = 20
    history_bits: int = 20
    index_bits: int = 18
    rate: float = 0.01
    first_rate: float = 0.02
    final_rate: float = 0.0015
    limit: int = 255

    def __post_init__(self) -> None:
        for name, least, most in (("slot_bits", 8, 30), ("history_bits", 10, 30), ("index_bits", 4, 30)):
            if not least <= getattr(self, name) <= most:
                raise UsageError(f"{name} must be from {least} to {most}, not {getattr(self, name)}")
        for name in ("rate", "first_rate", "final_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} must be from 0 to 1, not {getattr(self, name)}")
        if not 1 <= self.limit <= 255:
            raise UsageError(f"limit must be from 1 to 255, not {self.limit}")

"""The shape of an RWKV-7 model. Knows sizes only; files and weights are elsewhere."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from sttx_core.errors import UsageError


def _rank(factor: float, hidden_size: int) -> int:
    """Published low-rank width: a multiple of 32 near ``factor * sqrt(hidden_size)`` (RWKV-LM, v7)."""
    return max(32, int(round(factor * math.sqrt(hidden_size) / 32) * 32))


@dataclass(frozen=True, kw_only=True)
class RWKV7Config:
    """Sizes of an RWKV-7 model.

    The four ranks and ``ffn_size`` default to the published formulas. Published files do not always follow
    them, so loaders pass the sizes of the tensors.

    Attributes:
        vocab_size: rows of the embedding and of the head.
        hidden_size: D, width of the residual stream; a multiple of ``head_size``.
        num_layers: L, number of blocks.
        head_size: N, side of each head's N x N state.
        ffn_size: width of the channel mix, by default ``4 * hidden_size``.
        decay_rank: inner width of the decay's low-rank map (W1, W2).
        a_rank: inner width of the in-context learning rate's map (A1, A2).
        v_rank: inner width of the value residual's map (V1, V2).
        gate_rank: inner width of the output gate's map (G1, G2).
        layer_norm_eps: epsilon of every LayerNorm. The heads' GroupNorm uses ``head_size * 1e-5``.

    >>> RWKV7Config(vocab_size=4096, hidden_size=256, num_layers=8).num_heads
    4
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    head_size: int = 64
    ffn_size: int = 0
    decay_rank: int = 0
    a_rank: int = 0
    v_rank: int = 0
    gate_rank: int = 0
    layer_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "num_layers", "head_size"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)!r}")
        if self.hidden_size % self.head_size:
            raise UsageError(
                f"hidden_size {self.hidden_size!r} must be a multiple of head_size {self.head_size!r}"
            )
        defaults = {
            "ffn_size": 4 * self.hidden_size,
            "decay_rank": _rank(2.5, self.hidden_size),
            "a_rank": _rank(2.5, self.hidden_size),
            "v_rank": _rank(1.7, self.hidden_size),
            "gate_rank": _rank(5.0, self.hidden_size),
        }
        for name, value in defaults.items():
            if getattr(self, name) == 0:
                object.__setattr__(self, name, value)

    @property
    def num_heads(self) -> int:
        """H, the number of heads: ``hidden_size // head_size``."""
        return self.hidden_size // self.head_size

    @property
    def group_norm_eps(self) -> float:
        """Epsilon of the per-head GroupNorm (64e-5 for heads of 64)."""
        return self.head_size * 1e-5

    def to_dict(self) -> dict[str, int | float]:
        """Return the fields as a JSON-able dictionary; ``RWKV7Config(**d)`` restores it."""
        return asdict(self)

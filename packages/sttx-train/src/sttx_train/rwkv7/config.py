"""The sizes that all models have, and those of RWKV-7. Knows sizes only; files and weights are elsewhere."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from sttx_core.errors import UsageError
from sttx_core.foreign_files import shown


def _rank(factor: float, hidden_size: int) -> int:
    """Published low-rank width: a multiple of 32 near ``factor * sqrt(hidden_size)`` (RWKV-LM, v7)."""
    return max(32, int(round(factor * math.sqrt(hidden_size) / 32) * 32))


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The sizes that models of all architectures have.

    Attributes:
        vocab_size: rows of the embedding and of the head.
        hidden_size: D, width of the residual stream; a multiple of ``head_size``.
        num_layers: L, number of blocks.
        head_size: N, side of each head's N x N state.
        ffn_size: width of the channel mix.
        layer_norm_eps: epsilon of every LayerNorm.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    head_size: int = 64
    ffn_size: int = 0
    layer_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name.endswith("_eps"):
                if not isinstance(value, int | float) or not 0 < value < 1:  # not NaN either
                    raise UsageError(f"{name} must be a number above 0 and below 1, not {shown(value)}")
            elif name != "architecture":
                self._require_whole(name, value)
        if self.hidden_size % self.head_size:
            raise UsageError(
                f"hidden_size {self.hidden_size!r} must be a multiple of head_size {self.head_size!r}"
            )
        for name, value in self._defaults().items():
            if getattr(self, name) == 0:
                object.__setattr__(self, name, value)

    def _require_whole(self, name: str, value: object) -> None:
        least = int(name in ("vocab_size", "hidden_size", "num_layers", "head_size"))
        if isinstance(value, bool) or not isinstance(value, int):
            raise UsageError(f"{name} must be a whole number, not {shown(value)}")
        if value < least:
            raise UsageError(f"{name} must be at least {least}, not {shown(value)}")

    def _defaults(self) -> dict[str, int]:
        """Return the sizes that stand for a 0."""
        return {}

    @property
    def num_heads(self) -> int:
        """H, the number of heads: ``hidden_size // head_size``."""
        return self.hidden_size // self.head_size

    @property
    def group_norm_eps(self) -> float:
        """Epsilon of the GroupNorm of the heads' outputs."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON-able dictionary, from which the class of the config restores it."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class RWKV7Config(ModelConfig):
    """Sizes of an RWKV-7 model.

    The four ranks and ``ffn_size`` default to the published formulas. Published files do not always follow
    them, so loaders pass the sizes of the tensors.

    Attributes:
        ffn_size: width of the channel mix, by default ``4 * hidden_size``.
        decay_rank: inner width of the decay's low-rank map (W1, W2).
        a_rank: inner width of the in-context learning rate's map (A1, A2).
        v_rank: inner width of the value residual's map (V1, V2).
        gate_rank: inner width of the output gate's map (G1, G2).
        layer_norm_eps: epsilon of every LayerNorm. The heads' GroupNorm uses ``head_size * 1e-5``.

    The other attributes are those of `ModelConfig`.

    >>> RWKV7Config(vocab_size=4096, hidden_size=256, num_layers=8).num_heads
    4
    """

    decay_rank: int = 0
    a_rank: int = 0
    v_rank: int = 0
    gate_rank: int = 0

    def _defaults(self) -> dict[str, int]:
        return {
            "ffn_size": 4 * self.hidden_size,
            "decay_rank": _rank(2.5, self.hidden_size),
            "a_rank": _rank(2.5, self.hidden_size),
            "v_rank": _rank(1.7, self.hidden_size),
            "gate_rank": _rank(5.0, self.hidden_size),
        }

    @property
    def group_norm_eps(self) -> float:
        """Epsilon of the per-head GroupNorm (64e-5 for heads of 64)."""
        return self.head_size * 1e-5


def parameter_shapes(config: RWKV7Config) -> dict[str, tuple[int, ...]]:
    """Return the shape of each parameter of the model, in the model's order, by its published name.

    >>> parameter_shapes(RWKV7Config(vocab_size=4096, hidden_size=256, num_layers=8))["head.weight"]
    (4096, 256)
    """
    width = config.hidden_size
    ffn = {"x_k": (width,), "key.weight": (config.ffn_size, width), "value.weight": (width, config.ffn_size)}
    first, later = ({"att": _time_mix(config, layer), "ffn": ffn} for layer in (0, 1))
    return outer_shapes(config, later, first)


def outer_shapes(
    config: ModelConfig,
    halves: dict[str, dict[str, tuple[int, ...]]],
    first: dict[str, dict[str, tuple[int, ...]]] | None = None,
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all parameters of a model of any architecture, in the model's order.

    Args:
        config: the sizes.
        halves: the shapes of the parameters of a block's ``att`` and ``ffn``.
        first: those of the first block; as the others when None.
    """
    width, table = config.hidden_size, (config.vocab_size, config.hidden_size)
    shapes: dict[str, tuple[int, ...]] = {"emb.weight": table}
    for layer in range(config.num_layers):
        norms = ["ln0", "ln1", "ln2"][layer > 0 :]  # the first block also normalizes the embedding
        for name in norms:
            shapes |= _norm(f"blocks.{layer}.{name}", width)
        for half, inner in ((first or halves) if layer == 0 else halves).items():
            shapes |= {f"blocks.{layer}.{half}.{name}": shape for name, shape in inner.items()}
    return shapes | _norm("ln_out", width) | {"head.weight": table}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _time_mix(config: RWKV7Config, layer: int) -> dict[str, tuple[int, ...]]:
    width = config.hidden_size
    shapes: dict[str, tuple[int, ...]] = {f"x_{name}": (width,) for name in "rwkvag"}
    ranks = {"w": config.decay_rank, "a": config.a_rank, "v": config.v_rank}
    if layer == 0:
        del ranks["v"]  # layer 0 computes the value that the others mix in
    for name, rank in ranks.items():
        shapes |= {f"{name}0": (width,), f"{name}1": (width, rank), f"{name}2": (rank, width)}
    shapes |= {"g1": (width, config.gate_rank), "g2": (config.gate_rank, width)}
    shapes |= {"k_k": (width,), "k_a": (width,), "r_k": (config.num_heads, config.head_size)}
    shapes |= {f"{name}.weight": (width, width) for name in ("receptance", "key", "value", "output")}
    return shapes | _norm("ln_x", width)

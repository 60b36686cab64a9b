"""The sizes of an RWKV-5.2 or RWKV-6 model, and the names and shapes of its parameters. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from sttx_core.errors import UsageError
from sttx_core.foreign_files import shown
from sttx_train.rwkv7.config import ModelConfig, outer_shapes

Architecture56 = Literal["x052", "x060"]

_LARGE = 4096  # from this width on, published models have low-rank maps of twice the width
_MIXES = {"x052": "kvrg", "x060": "xwkvrg"}


@dataclass(frozen=True, kw_only=True)
class RWKV56Config(ModelConfig):
    """Sizes of an RWKV-5.2 (``x052``) or RWKV-6 (``x060``) model.

    Attributes:
        architecture: ``x052`` or ``x060``.
        ffn_size: width of the channel mix, by default ``3.5 * hidden_size``, down to a multiple of 32.
        mix_rank: inner width of the map that chooses the token shift; 0 in x052, which has none.
        decay_rank: inner width of the decay's low-rank map; 0 in x052, whose decay is a constant.
        head_norm_eps: epsilon of the GroupNorm of the heads' outputs, by default 64e-5, which published
            models have for heads of any size.

    The other attributes are those of `ModelConfig`.

    >>> RWKV56Config(architecture="x060", vocab_size=65536, hidden_size=2048, num_layers=24).ffn_size
    7168
    """

    architecture: Architecture56
    mix_rank: int = 0
    decay_rank: int = 0
    head_norm_eps: float = 64e-5

    def __post_init__(self) -> None:
        if self.architecture not in get_args(Architecture56):
            known = " or ".join(get_args(Architecture56))
            raise UsageError(f"architecture must be {known}, not {shown(self.architecture)}")
        if self.architecture == "x052":
            for name in ("mix_rank", "decay_rank"):
                if getattr(self, name):
                    raise UsageError(f"{name} must be 0 in RWKV-5.2, which has no such map")
        super().__post_init__()

    def _defaults(self) -> dict[str, int]:
        sizes = {"ffn_size": int(3.5 * self.hidden_size) // 32 * 32 or 32}
        if self.architecture == "x060":
            twice = 1 + (self.hidden_size >= _LARGE)
            sizes |= {"mix_rank": 32 * twice, "decay_rank": 64 * twice}
        return sizes

    @property
    def group_norm_eps(self) -> float:
        """Epsilon of the GroupNorm of the heads' outputs."""
        return self.head_norm_eps

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON-able dictionary, without the ranks that RWKV-5.2 does not have."""
        absent = ("mix_rank", "decay_rank") if self.architecture == "x052" else ()
        return {name: value for name, value in super().to_dict().items() if name not in absent}


def parameter_shapes(config: RWKV56Config) -> dict[str, tuple[int, ...]]:
    """Return the shape of each parameter of the model, by its published name.

    >>> sizes = {"vocab_size": 4096, "hidden_size": 256, "num_layers": 8}
    >>> parameter_shapes(RWKV56Config(architecture="x052", **sizes))["blocks.0.att.time_decay"]
    (4, 64)
    """
    return outer_shapes(config, {"att": time_mix_shapes(config), "ffn": channel_mix_shapes(config)})


def time_mix_shapes(config: RWKV56Config) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a time mix's parameters."""
    width, heads = config.hidden_size, (config.num_heads, config.head_size)
    shapes: dict[str, tuple[int, ...]] = {
        f"{mix_prefix(config)}_{c}": (width,) for c in _MIXES[config.architecture]
    }
    if config.architecture == "x060":
        rank = config.mix_rank
        shapes |= {"time_maa_w1": (width, 5 * rank), "time_maa_w2": (5, rank, width)}
        shapes |= {"time_decay": (width,), "time_faaaa": heads}
        shapes |= {"time_decay_w1": (width, config.decay_rank), "time_decay_w2": (config.decay_rank, width)}
    else:
        shapes |= {"time_decay": heads, "time_faaaa": heads}
    names = ("receptance", "key", "value", "gate", "output")
    shapes |= {f"{name}.weight": (width, width) for name in names}
    return shapes | {"ln_x.weight": (width,), "ln_x.bias": (width,)}


def channel_mix_shapes(config: RWKV56Config) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a channel mix's parameters."""
    width, prefix = config.hidden_size, mix_prefix(config)
    return {
        f"{prefix}_k": (width,),
        f"{prefix}_r": (width,),
        "key.weight": (config.ffn_size, width),
        "receptance.weight": (width, width),
        "value.weight": (width, config.ffn_size),
    }


def mix_prefix(config: RWKV56Config) -> str:
    """Return how the names of the vectors of token shift begin."""
    return "time_maa" if config.architecture == "x060" else "time_mix"

"""The published initialization for pretraining RWKV-5.2 and RWKV-6. Knows nothing of loaded weights.

Source of every constant: RWKV-LM, RWKV-v5/src/model.py (BlinkDL), which has both: vectors from the
constructors, matrices from ``generate_init_weight``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from sttx_train.rwkv7.init import fill_outside, fill_with_ones, orthogonal

if TYPE_CHECKING:
    from sttx_train.rwkv7.language_model import Block
    from sttx_train.rwkv56.model import RWKV56, ChannelMix
    from sttx_train.rwkv56.time_mix import TimeMix

_SMALL = 0.01  # bound of the outer factors of low-rank maps


def initialize(model: RWKV56, *, seed: int | None = 0) -> RWKV56:
    """Fill every parameter in place with the published initialization and return the model.

    Args:
        model: a model in float32 or float64; the same seed gives other values on another kind of device.
        seed: of the random matrices, drawn by a generator of their own; torch's global generator draws them
            when None.
    """
    generator = None if seed is None else torch.Generator(model.device).manual_seed(seed)
    with torch.no_grad():
        fill_outside(model, generator)
        for layer, block in enumerate(model.blocks):
            _initialize_block(cast("Block", block), model, layer, generator)
    return model


def _initialize_block(block: Block, model: RWKV56, layer: int, generator: torch.Generator | None) -> None:
    config = model.config
    for norm in (block.ln1, block.ln2, *([block.ln0] if layer == 0 else [])):
        fill_with_ones(norm)
    att, ffn = cast("TimeMix", block.att), cast("ChannelMix", block.ffn)
    rising, falling = layer / max(config.num_layers - 1, 1), 1.0 - layer / config.num_layers
    channel = torch.arange(config.hidden_size, dtype=torch.float64)
    _fill_mixes(att, ffn, channel / config.hidden_size, rising, falling)
    part = channel / max(config.hidden_size - 1, 1)
    att.time_decay.copy_((-6 + 5 * part ** (0.7 + 1.3 * rising)).view(att.time_decay.shape))
    zigzag = ((channel + 1) % 3 - 1) * 0.1
    att.time_faaaa.copy_((rising * (1 - part) + zigzag).view(att.time_faaaa.shape))
    for name, parameter in att.named_parameters(recurse=False):
        if name.endswith("_w1"):
            parameter.zero_()
        elif name.endswith("_w2"):
            parameter.uniform_(-_SMALL, _SMALL, generator=generator)
    orthogonal(att.receptance.weight, 1.0, generator)
    orthogonal(att.key.weight, 0.1, generator)
    orthogonal(att.value.weight, 1.0, generator)
    orthogonal(att.gate.weight, 0.1, generator)
    att.output.weight.zero_()
    att.ln_x.weight.fill_(((1 + layer) / config.num_layers) ** 0.7)
    att.ln_x.bias.zero_()
    orthogonal(ffn.key.weight, 1.0, generator)
    ffn.receptance.weight.zero_()
    ffn.value.weight.zero_()


def _fill_mixes(att: TimeMix, ffn: ChannelMix, part: Tensor, rising: float, falling: float) -> None:
    """Fill the vectors of token shift: each token's own share rises over the channels."""
    own = {"v": part**falling + 0.3 * rising, **dict.fromkeys("rg", part ** (0.5 * falling))}
    for module, names in ((cast(nn.Module, att), "xwkvrg"), (cast(nn.Module, ffn), "kr")):
        for name in names:
            share = own.get(name, part**falling) if module is att else part**falling
            if isinstance(vector := getattr(module, f"time_mix_{name}", None), nn.Parameter):
                vector.copy_(share)
            elif isinstance(vector := getattr(module, f"time_maa_{name}", None), nn.Parameter):
                vector.copy_(1 - share)

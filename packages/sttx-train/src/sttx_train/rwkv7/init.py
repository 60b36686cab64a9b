"""The published initialization for pretraining RWKV-7 from scratch. Knows nothing of loaded weights.

Source of every constant: RWKV-LM, RWKV-v7/train_temp/src/model.py (BlinkDL). Vectors and low-rank maps follow
its constructors. Matrices follow its ``generate_init_weight``, which overwrites the constructors' values.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from sttx_train.rwkv7.language_model import Block, LanguageModel
    from sttx_train.rwkv7.model import RWKV7, ChannelMix, TimeMix


def initialize(model: RWKV7, *, seed: int | None = 0) -> RWKV7:
    """Fill every parameter in place with the published initialization and return the model.

    Args:
        model: a model in float32 or float64; the same seed gives other values on another kind of device.
        seed: of the random matrices, drawn by a generator of their own; torch's global generator draws them
            when None.
    """
    generator = None if seed is None else torch.Generator(model.device).manual_seed(seed)
    config = model.config
    with torch.no_grad():
        fill_outside(model, generator)
        for layer, block in enumerate(model.blocks):
            _initialize_block(cast("Block", block), layer, config.num_layers, config.inner_lr, generator)
    return model


def fill_outside(model: LanguageModel, generator: torch.Generator | None) -> None:
    """Fill the parameters outside the blocks, which all architectures have."""
    model.emb.weight.uniform_(-1e-4, 1e-4, generator=generator)
    ratio = model.config.vocab_size / model.config.hidden_size
    orthogonal(model.head.weight, 0.5 * math.sqrt(max(ratio, 1.0)), generator)
    fill_with_ones(model.ln_out)


def _initialize_block(
    block: Block, layer: int, layers: int, inner_rate: float, generator: torch.Generator | None
) -> None:
    for norm in (block.ln1, block.ln2, *([block.ln0] if layer == 0 else [])):
        fill_with_ones(norm)
    att, ffn = cast("TimeMix", block.att), cast("ChannelMix", block.ffn)
    width, size = att.k_k.numel(), att.size
    rising = layer / max(layers - 1, 1)
    falling = 1.0 - layer / layers
    channel = torch.arange(width, dtype=torch.float64)
    for name, power in {"r": 0.2, "w": 0.9, "k": 0.7, "v": 0.7, "a": 0.9, "g": 0.2}.items():
        getattr(att, f"x_{name}").copy_(1.0 - (channel / width) ** (power * falling))
    linear = channel / max(width - 1, 1) - 0.5
    half = max((size - 1) / 2, 0.5)
    zigzag = (channel % size - (size - 1) / 2) / half
    zigzag = zigzag * zigzag.abs()
    decay = -6 + 6 * (channel / max(width - 1, 1)) ** (1 + rising**0.3)
    att.w0.copy_(decay + 0.5 + zigzag * 2.5)
    att.a0.copy_(-0.19 + zigzag * 0.3 + linear * 0.4)
    if layer > 0:
        att.v0.copy_(0.73 - linear * 0.4)
    for name in "wavg":
        if hasattr(att, f"{name}1"):
            getattr(att, f"{name}1").zero_()
            matrix = getattr(att, f"{name}2")
            orthogonal(matrix, 0.1 * math.sqrt(max(matrix.shape[0] / matrix.shape[1], 1.0)), generator)
    att.k_k.copy_(0.71 - linear * 0.1)
    att.k_a.fill_(1.02)
    att.r_k.fill_(-0.04)
    if att.inner is not None:
        att.inner_rate.fill_(inner_rate)
    orthogonal(att.receptance.weight, 1.0, generator)
    orthogonal(att.key.weight, 0.1, generator)
    orthogonal(att.value.weight, 1.0, generator)
    att.output.weight.zero_()
    att.ln_x.weight.fill_(((1 + layer) / layers) ** 0.7)
    att.ln_x.bias.zero_()
    ffn.x_k.copy_(1.0 - (channel / width) ** (falling**4))
    orthogonal(ffn.key.weight, 1.0, generator)
    ffn.value.weight.zero_()


def fill_with_ones(norm: nn.LayerNorm) -> None:
    """Fill a norm so that it only normalizes."""
    norm.weight.fill_(1.0)
    norm.bias.zero_()


def orthogonal(matrix: Tensor, gain: float, generator: torch.Generator | None) -> None:
    """Fill a matrix with a random orthogonal one times ``gain``."""
    nn.init.orthogonal_(matrix, gain=gain, generator=generator)

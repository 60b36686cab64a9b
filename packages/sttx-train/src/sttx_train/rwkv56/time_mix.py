"""The recurrent half of a block of RWKV-5.2 and of RWKV-6: its equations in plain torch.

Source: Peng et al., "Eagle and Finch: RWKV with Matrix-Valued States and Dynamic Recurrence" (2024), and the
author's ``rwkv`` package, whose outputs tests compare with.

Legend: B rows, T time, D hidden size, H heads, N head size.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sttx_train.rwkv7.language_model import shifted
from sttx_train.rwkv56.config import RWKV56Config, mix_prefix, time_mix_shapes
from sttx_train.rwkv56.dispatch import wkv6
from sttx_train.wkv import Backend, LayerState

LARGEST_DECAY = 5.0
"""Bound of the raw decay: exp(-exp(5)) is 0 in float32, and beyond it the logarithm would overflow."""


class Inputs(NamedTuple):
    """What the projections of a time mix read, each ``[B, T, D]``, and the raw decay ``[.., D]``."""

    r: Tensor
    k: Tensor
    v: Tensor
    g: Tensor
    raw_decay: Tensor


class TimeMix(nn.Module):
    """The recurrent half of a block: a state that decays and is added to, read behind a gate.

    Args:
        config: the sizes.
    """

    time_decay: nn.Parameter
    time_faaaa: nn.Parameter

    def __init__(self, config: RWKV56Config) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads, self.size = config.num_heads, config.head_size
        self._prefix = mix_prefix(config)
        for name, shape in time_mix_shapes(config).items():
            if "." not in name:
                setattr(self, name, nn.Parameter(torch.empty(shape)))
        self.receptance = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.ln_x = nn.GroupNorm(config.num_heads, width, eps=config.group_norm_eps)

    def forward(
        self,
        x: Tensor,
        shift_BD: Tensor,
        state: LayerState,
        handed_on: Tensor | None,
        valid_BT1: Tensor | None,
        starts_BT: Tensor | None,
        backend: Backend,
    ) -> tuple[Tensor, LayerState, Tensor | None]:
        """Return the output ``[B, T, D]``, the recurrence's state and None: these layers hand nothing on."""
        B, T, D = x.shape
        mixed = self.inputs(x, shifted(x, shift_BD, starts_BT) - x)
        r, k, v = self.receptance(mixed.r), self.key(mixed.k), self.value(mixed.v)
        log_w = -mixed.raw_decay.to(state.wkv.dtype).clamp(max=LARGEST_DECAY).exp().expand(B, T, D)
        if valid_BT1 is not None:  # a padded step must not change the state
            log_w, k = log_w * valid_BT1, k * valid_BT1
        heads = (B, T, self.heads, self.size)
        y, matrices_BHNN = wkv6(
            r.view(heads),
            log_w.reshape(heads),
            k.view(heads),
            v.view(heads),
            self.time_faaaa,
            state.wkv,
            starts_BT,
            backend=backend,
        )
        y = self.ln_x(y.reshape(B * T, D).to(self.ln_x.weight.dtype)).view(B, T, D)
        return self.output(y * F.silu(self.gate(mixed.g))), LayerState(matrices_BHNN), handed_on

    def inputs(self, x: Tensor, delta: Tensor) -> Inputs:
        """Return what the projections read.

        Args:
            x: ``[B, T, D]``.
            delta: the token before, minus the token, same shape.
        """
        raise NotImplementedError


class TimeMix5(TimeMix):
    """RWKV-5.2: each channel has one share of the token before and one decay, for all tokens."""

    time_mix_r: nn.Parameter
    time_mix_k: nn.Parameter
    time_mix_v: nn.Parameter
    time_mix_g: nn.Parameter

    def inputs(self, x: Tensor, delta: Tensor) -> Inputs:
        """As in `TimeMix`."""
        shares = (self.time_mix_r, self.time_mix_k, self.time_mix_v, self.time_mix_g)
        r, k, v, g = (torch.addcmul(x, delta, 1 - share) for share in shares)
        return Inputs(r, k, v, g, self.time_decay.flatten())


class TimeMix6(TimeMix):
    """RWKV-6: each token chooses the share of the token before and the decay of each channel."""

    time_maa_x: nn.Parameter
    time_maa_w: nn.Parameter
    time_maa_k: nn.Parameter
    time_maa_v: nn.Parameter
    time_maa_r: nn.Parameter
    time_maa_g: nn.Parameter
    time_maa_w1: nn.Parameter
    time_maa_w2: nn.Parameter
    time_decay_w1: nn.Parameter
    time_decay_w2: nn.Parameter

    def inputs(self, x: Tensor, delta: Tensor) -> Inputs:
        """As in `TimeMix`."""
        inner = torch.tanh(torch.addcmul(x, delta, self.time_maa_x) @ self.time_maa_w1)
        own = torch.einsum("btmr,mrd->mbtd", inner.unflatten(-1, (5, -1)), self.time_maa_w2)
        shares = (self.time_maa_w, self.time_maa_k, self.time_maa_v, self.time_maa_r, self.time_maa_g)
        w, k, v, r, g = (x + delta * (share + m) for share, m in zip(shares, own, strict=True))
        raw_decay = self.time_decay + torch.tanh(w @ self.time_decay_w1) @ self.time_decay_w2
        return Inputs(r, k, v, g, raw_decay)

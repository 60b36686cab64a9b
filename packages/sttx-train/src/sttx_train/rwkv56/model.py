"""RWKV-5.2 "Eagle" and RWKV-6 "Finch" in plain torch. Knows nothing of files, learning or phrases.

Parameters have the names of the published ``.pth`` files. Source: as `sttx_train.rwkv56.time_mix`.

Legend: B rows, T time, D hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sttx_train.rwkv7.language_model import Block, LanguageModel, shifted
from sttx_train.rwkv56.config import RWKV56Config, mix_prefix
from sttx_train.rwkv56.init import initialize as fill_parameters
from sttx_train.rwkv56.time_mix import TimeMix5, TimeMix6
from sttx_train.wkv import Backend


class ChannelMix(nn.Module):
    """The feed-forward half of a block: squared ReLU behind a gate, both over a token-shifted input."""

    def __init__(self, config: RWKV56Config) -> None:
        super().__init__()
        width, self._prefix = config.hidden_size, mix_prefix(config)
        for name in "kr":
            setattr(self, f"{self._prefix}_{name}", nn.Parameter(torch.empty(width)))
        self.key = nn.Linear(width, config.ffn_size, bias=False)
        self.receptance = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(config.ffn_size, width, bias=False)

    def forward(self, x: Tensor, shift_BD: Tensor, starts_BT: Tensor | None) -> Tensor:
        """Return the output ``[B, T, D]``."""
        delta = shifted(x, shift_BD, starts_BT) - x
        x_k, x_r = (torch.addcmul(x, delta, self.share(name)) for name in "kr")
        return torch.sigmoid(self.receptance(x_r)) * self.value(torch.relu(self.key(x_k)).square())

    def share(self, name: str) -> Tensor:
        """Return the share of the token before in what a projection reads ``[D]``."""
        vector = getattr(self, f"{self._prefix}_{name}")
        return vector if self._prefix == "time_maa" else 1 - vector  # RWKV-5.2 stores the token's own share


class RWKV56(LanguageModel):
    """An RWKV-5.2 or RWKV-6 language model, as the config's architecture says.

    Args:
        config: the sizes.
        backend: which wkv kernel runs (``recurrent``, ``chunked``, ``compiled``, ``fla``, or ``auto``).
        initialize: fill the parameters with the published initialization; False is for loaders.
        seed: of the random matrices; torch's global generator draws them when None.
    """

    config: RWKV56Config

    def __init__(
        self,
        config: RWKV56Config,
        *,
        backend: Backend = "auto",
        initialize: bool = True,
        seed: int | None = None,
    ) -> None:
        time_mix = TimeMix6 if config.architecture == "x060" else TimeMix5
        super().__init__(
            config,
            lambda layer: Block(config, layer, time_mix(config), ChannelMix(config)),
            backend=backend,
        )
        if initialize and not self.emb.weight.is_meta:
            fill_parameters(self, seed=seed)

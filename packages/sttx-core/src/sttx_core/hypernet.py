"""The hypernetwork: computes a phrase's input and output embedding from those of its parts.

The only file of this package that needs torch, behind the extra ``sttx-core[torch]``; no other file imports
it. Knows rows of embeddings, not phrases: the caller knows which row belongs to which phrase.

Legend: P phrases, D width of the model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class HyperNetwork(nn.Module):
    """Two small networks, one for input rows and one for output rows, each of two linear layers.

    The last layers start at zero. Untrained, a phrase therefore enters the model exactly as its last token,
    and its output row is zero, so the output factor starts as a pure count model.

    Args:
        width: D, the model's hidden size.
        rank: inner width; 0 means a quarter of the width, at least 16.
        seed: seed of the random first layers.

    >>> HyperNetwork(8).parameter_count()
    768
    """

    def __init__(self, width: int, *, rank: int = 0, seed: int = 0) -> None:
        super().__init__()
        rank = rank or max(16, width // 4)
        generator = torch.Generator().manual_seed(seed)
        self.input = _two_layers(width, rank, generator)
        self.output = _two_layers(width, rank, generator)

    def input_rows(self, parent_PD: Tensor, token_PD: Tensor) -> Tensor:
        """Return ``[P, D]``: the row of each phrase's last token plus H_in(parent, token)."""
        return token_PD + self.input(_normalized(parent_PD, token_PD))

    def output_rows(self, parent_PD: Tensor, token_PD: Tensor) -> Tensor:
        """Return ``[P, D]``: H_out(parent, token); its product with the hidden state is a choice's logit."""
        return self.output(_normalized(parent_PD, token_PD))

    def parameter_count(self) -> int:
        """Return the number of learned parameters."""
        return sum(parameter.numel() for parameter in self.parameters())


def _two_layers(width: int, rank: int, generator: torch.Generator) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):  # nn.Linear draws from the global generator
        first = nn.Linear(2 * width, rank, bias=False)
        last = nn.Linear(rank, width, bias=False)
    with torch.no_grad():
        first.weight.normal_(std=(2 * width) ** -0.5, generator=generator)
        last.weight.zero_()
    return nn.Sequential(first, nn.Tanh(), last)


def _normalized(parent_PD: Tensor, token_PD: Tensor) -> Tensor:
    """Scale both rows to unit variance: embeddings within one model differ in norm by orders of magnitude."""
    width = parent_PD.shape[-1:]
    layer_norm = nn.functional.layer_norm
    return torch.cat([layer_norm(parent_PD, width), layer_norm(token_PD, width)], dim=-1)

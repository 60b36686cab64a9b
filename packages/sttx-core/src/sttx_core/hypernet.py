"""The hypernetwork: makes a phrase's input row and output row from the rows of its parts.

The one torch file of this package, behind the extra ``sttx-core[torch]``; nothing else here imports it.
Knows rows, not phrases: which row belongs to what is its caller's business.

Legend: P phrases, D width of the model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class HyperNetwork(nn.Module):
    """Two small networks of two linear layers, the last one zero at the start.

    Untrained, a phrase therefore enters the model exactly as its last token, and its output row is zero, so
    that the output factor starts as a pure count model.

    Args:
        width: D, the model's hidden size.
        rank: inner width.
        seed: of the random first layers.

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
        """Return ``[P, D]``: H_out(parent, token), whose product with the hidden state moves a choice."""
        return self.output(_normalized(parent_PD, token_PD))

    def parameter_count(self) -> int:
        """Return the number of learned values."""
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
    """Scale both rows to unit variance: embeddings of one model differ in size by orders of magnitude."""
    width = parent_PD.shape[-1:]
    layer_norm = nn.functional.layer_norm
    return torch.cat([layer_norm(parent_PD, width), layer_norm(token_PD, width)], dim=-1)

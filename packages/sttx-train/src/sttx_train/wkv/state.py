"""What a layer's recurrence carries from token to token.

Legend: B rows, H heads, N head size, M recent tokens.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class LayerState(NamedTuple):
    """What a layer's recurrence carries from token to token.

    Attributes:
        wkv: the heads' matrices ``[B, H, N, N]``, ``[value, key]``.
        velocity: their velocities, same shape; None without inner steps with momentum.
        recent: keys, directions and values of the last M tokens, ``[B, M, 3, H, N]``; None without inner
            steps on several tokens.
    """

    wkv: Tensor
    velocity: Tensor | None = None
    recent: Tensor | None = None

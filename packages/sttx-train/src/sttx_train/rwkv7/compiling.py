"""Compiles what a model runs on a CPU before it is used, so that a command can say what it waits for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from sttx_core.experts.kept import is_kept
from sttx_train.fused.tiles import DEEP, ROWS, multiplying, pack, tiles_reason
from sttx_train.rwkv7.config import RWKV7Config
from sttx_train.rwkv7.loops import kernels
from sttx_train.rwkv7.model import RWKV7
from sttx_train.wkv.compiled import backward_kernel, forward_kernel


def kernels_are_compiled(head_size: int, dtype: torch.dtype = torch.float32, *, learns: bool) -> bool:
    """Return whether `compile_kernels` has nothing to compile. What it says of float64 is a guess."""
    needed: list[Callable[..., None]] = [forward_kernel(head_size)]
    if dtype == torch.float32:
        parts = kernels()
        needed += [parts.mix, parts.prepare, parts.finish]
        needed += [parts.mix_back, parts.prepare_back, parts.finish_back] if learns else []
        needed += [] if tiles_reason() else [multiplying()]
    return all(map(is_kept, [*needed, backward_kernel(head_size)] if learns else needed))


def compile_kernels(head_size: int, dtype: torch.dtype = torch.float32, *, learns: bool) -> None:
    """Compile the kernels now rather than when a model first runs: 15 s on a core, once on a machine.

    Args:
        head_size: of the model.
        dtype: of the model's weights.
        learns: also compile what gradients need; without it 7 s.
    """
    config = RWKV7Config(vocab_size=2, hidden_size=head_size, num_layers=1, head_size=head_size)
    model = RWKV7(config, backend="compiled", seed=0).to(dtype)
    with torch.set_grad_enabled(learns):
        logits, _ = model(torch.zeros(1, 2, dtype=torch.long))
        if learns:
            logits.sum().backward()
    if dtype == torch.float32 and not tiles_reason():
        tiles = pack(np.zeros((DEEP, ROWS), np.float32))
        multiplying()(np.zeros((1, DEEP), np.float32), tiles, np.zeros((ROWS, ROWS), np.float32), False, 0, 1)

"""What the inputs of a model's linear layers look like on a text: their Gram matrices.

Legend: I inputs of a layer, B rows, T time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sttx_train.data.documents import Documents
from sttx_train.data.sampling import Sampler
from sttx_train.rwkv7 import RWKV7

_ROWS, _CONTEXT = 8, 256


def input_grams(model: RWKV7, documents: Documents, tokens: int, *, seed: int = 0) -> dict[str, Tensor]:
    """Return the sum of x x^T over the inputs of each linear layer, by the name of its weight.

    Args:
        model: the model; the inputs of layers with a structure are not measured.
        documents: what it reads, in an order that the seed draws.
        tokens: how many; all of the documents if they have fewer.
        seed: of the order.

    Returns:
        float64 ``[I, I]``, divided by the number of tokens.
    """
    grams: dict[str, Tensor] = {}
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    hooks = [
        layer.register_forward_pre_hook(_adds_to(grams, f"{name}.weight")) for name, layer in layers.items()
    ]
    sampler = Sampler(documents, rows=_ROWS, context=_CONTEXT, seed=seed)
    steps = min(sampler.windows_per_epoch, -(-tokens // (_ROWS * _CONTEXT)))
    state, read = None, 0
    try:
        with torch.no_grad():
            for step in range(steps):
                ids = torch.from_numpy(sampler.window(step).inputs).to(model.device)
                _, state = model(ids, state, None, ids == documents.eot_id)
                read += ids.numel()
    finally:
        for hook in hooks:
            hook.remove()
    return {name: gram / read for name, gram in grams.items()}


def _adds_to(grams: dict[str, Tensor], name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def add(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        flat = inputs[0].detach().flatten(0, -2).float()
        gram = (flat.t() @ flat).double().cpu()
        grams[name] = grams[name] + gram if name in grams else gram

    return add

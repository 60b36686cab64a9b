"""The control without a memory: low-rank deltas on the same projections, with as many parameters.

``q_proj`` and ``o_proj`` of a layer get ``U A x`` added, x their own input. Nothing is written and nothing is
remembered: what this gains is what training on such text gains.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sttx_core.errors import CheckpointError, ModelError
from sttx_train.checkpoint import CheckpointStore
from sttx_train.memory.attached import AttachedMemory, attention_layers
from sttx_train.saved_tensors import check_tensors


class LowRank(nn.Module):
    """Low-rank deltas on the layers of a memory, which stays empty; `attach` puts them there.

    Args:
        memory: whose layers, seed and number of parameters it takes.
    """

    def __init__(self, memory: AttachedMemory) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(memory.config.seed)
        self.pairs = nn.ModuleDict()
        self._handles: list[Any] = []
        self._linears: list[nn.Linear] = []  # a list does not make them submodules
        layers = attention_layers(memory.model)
        for number in memory.config.layers or ():
            wanted = sum(parameter.numel() for parameter in memory.adapter(number).parameters())
            per_rank = sum(one.in_features + one.out_features for one in layers[number])
            rank = max(round(wanted / per_rank), 1)
            for name, linear in zip(("q", "o"), layers[number], strict=True):
                pair = _Pair(linear.in_features, linear.out_features, rank, generator).to(
                    linear.weight.device
                )
                self.pairs[f"{number}_{name}"] = pair
                self._linears.append(linear)

    def attach(self) -> None:
        """Put the deltas on the model."""
        self.detach()
        for linear, pair in zip(self._linears, self.pairs.values(), strict=True):
            self._handles.append(linear.register_forward_hook(_Hook(pair)))

    def detach(self) -> None:
        """Take the deltas away from the model."""
        for handle in self._handles:
            handle.remove()
        self._handles = []


class _Pair(nn.Module):
    def __init__(self, inputs: int, outputs: int, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, inputs, generator=generator) / math.sqrt(inputs))
        self.up = nn.Parameter(torch.zeros(outputs, rank))


class _Hook:
    def __init__(self, pair: nn.Module) -> None:
        assert isinstance(pair, _Pair)
        self.pair = pair

    def __call__(self, module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        delta = nn.functional.linear(nn.functional.linear(args[0].float(), self.pair.down), self.pair.up)
        return output + delta.to(output.dtype)


def read_control(memory: AttachedMemory, folder: Path) -> LowRank:
    """Read a trained control from the folder of its run.

    Args:
        memory: beside the same base, with the same layers.
        folder: of a run of `MemoryTrainer` with a control.

    Raises:
        CheckpointError: it is damaged, or its tensors do not fit.
        ModelError: it was trained beside another base.
    """
    saved = CheckpointStore(folder).load()
    if saved.manifest.get("kind") != "low-rank" or "adapter" not in saved.tensors:
        raise CheckpointError(f"{str(folder)!r} holds no trained control: give another folder")
    if saved.manifest.get("base_sha256") != memory.base_digest():
        raise ModelError(f"the control in {str(folder)!r} was trained beside another base: give that base")
    control = LowRank(memory)
    check_tensors("adapter.safetensors", saved.tensors["adapter"], control.state_dict())
    control.load_state_dict(saved.tensors["adapter"])
    return control

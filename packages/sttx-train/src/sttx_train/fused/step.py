"""The compiled step of one model: its packed weights, kept while the model's do not change.

Legend: B rows, D hidden size, V vocabulary, L layers, H heads, N head size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sttx_train.fused.entry import entry_point
from sttx_train.fused.layers import VECTORS, Sizes, State, Weights
from sttx_train.fused.products import is_halved_exactly, pack
from sttx_train.parts import parts_of, run_parts

MOST_WEIGHTS = 2**29
"""Most weights that are packed, because the packed ones are a second copy: 1 GiB in bfloat16."""

_BY_OUTPUT = {  # torch keeps these as [outputs, inputs]
    "receptance": "att.receptance.weight",
    "key": "att.key.weight",
    "value": "att.value.weight",
    "output": "att.output.weight",
    "ffn_key": "ffn.key.weight",
    "ffn_value": "ffn.value.weight",
}
_VERSION = attrgetter("_version")  # torch counts the changes of a tensor
_LOW_RANK = ("w1", "w2", "a1", "a2", "v1", "v2", "g1", "g2")


class StepChoice(NamedTuple):
    """Whether single tokens are read by the compiled step, and why."""

    fused: bool
    reason: str


def choose_step(parameters: Mapping[str, Tensor], backend: str, *, count: int | None = None) -> StepChoice:
    """Return whether a model reads single tokens by the compiled step where no gradient is wanted.

    Args:
        parameters: the model's, by name.
        backend: the kernel that was asked for; a CPU's ``auto`` is ``compiled``.
        count: of the weights that would be packed, if it is not the number of the parameters.
    """
    device = next(iter(parameters.values())).device
    if count is None:
        count = sum(parameter.numel() for parameter in parameters.values())
    if device.type != "cpu":
        return StepChoice(False, f"{device.type}: the compiled step runs on a CPU")
    if backend not in ("auto", "compiled"):
        return StepChoice(False, f"kernel {backend!r} was asked for")
    if any(parameter.dtype != torch.float32 for parameter in parameters.values()):
        return StepChoice(False, "the compiled step is for float32")
    if count > MOST_WEIGHTS:
        return StepChoice(False, f"the compiled step would hold a second copy of {count:,} weights")
    return StepChoice(True, "cpu, float32: all layers in one compiled call")


class FusedStep:
    """Reads one token of each row through all layers in one call.

    Args:
        parameters: the model's, by name, float32 on the CPU. They are packed when they are first needed, and
            again after torch has changed one of them in place.
        head_size: N.
        eps: epsilon of every LayerNorm.
        head_eps: epsilon of the norm of each head's output.
        expand: returns the dense weights of the parameters when they are packed; None if they are dense.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        *,
        head_size: int,
        eps: float,
        head_eps: float,
        expand: Callable[[], Mapping[str, Tensor]] | None = None,
    ) -> None:
        self._parameters, self._expand = dict(parameters), expand
        self._sizes = Sizes(head_size, np.float32(eps), np.float32(head_eps))
        self._vocab_size = 0
        self._watched = list(self._parameters.values())
        self._packed_of = -1
        self._weights: Weights | None = None

    def __call__(
        self, x_BD: Tensor, state: tuple[Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the logits ``[B, V]`` and the new state.

        Args:
            x_BD: embeddings of the tokens.
            state: ``[L, B, D]``, ``[L, B, H, N, N]`` and ``[L, B, D]``, float32; they stay as they are.
        """
        weights = self._current()
        x = _array(x_BD)
        old = State(*map(_array, state))
        new = State(*(np.empty(array.shape, np.float32) for array in old))
        blocks, _, width = weights.head.shape[1:]
        logits = np.empty((len(x), blocks * width), np.float32)
        arguments = (weights, self._sizes, x, old, new, logits)
        parts = parts_of(len(x), torch.get_num_threads())
        run_parts(entry_point(), [(*arguments, *part) for part in parts])
        return torch.from_numpy(logits)[:, : self._vocab_size], tuple(map(torch.from_numpy, new))

    def _current(self) -> Weights:
        """Return the packed weights, of the parameters as they are now."""
        now = sum(map(_VERSION, self._watched))  # each of them only grows
        if self._weights is None or now != self._packed_of:
            dense = self._parameters if self._expand is None else self._expand()
            self._weights, self._packed_of = packed_weights(dense), now
            self._vocab_size = dense["head.weight"].shape[0]
        return self._weights


def packed_weights(parameters: Mapping[str, Tensor]) -> Weights:
    """Return the weights of a model, by name, as the compiled step reads them."""
    arrays = {name: _array(parameter) for name, parameter in parameters.items()}
    layers = 1 + max(int(name.split(".")[1]) for name in arrays if name.startswith("blocks."))
    by_output = {field: _of_layers(arrays, name, layers) for field, name in _BY_OUTPUT.items()}
    by_output["head"] = [arrays["head.weight"]]
    by_input = {field: _of_layers(arrays, f"att.{field}", layers) for field in _LOW_RANK}
    stored = [matrix for each in (by_output | by_input).values() for matrix in each if matrix is not None]
    halved = all(map(is_halved_exactly, stored))
    turned = {field: [matrix.T for matrix in each if matrix is not None] for field, each in by_output.items()}
    vectors = [
        [arrays.get(f"blocks.{layer}.{name}", arrays["ln_out.bias"] * 0).reshape(-1) for name in VECTORS]
        for layer in range(layers)
    ]
    norms = [arrays[f"{name}.{part}"] for name in ("blocks.0.ln0", "ln_out") for part in ("weight", "bias")]
    return Weights(
        vectors=np.array(vectors, np.float32),
        norms=np.stack(norms),
        **{name: pack(each, halved=halved) for name, each in (turned | by_input).items()},
    )


def _of_layers(arrays: Mapping[str, np.ndarray], name: str, layers: int) -> list[np.ndarray | None]:
    """Return a matrix of each layer; None where the first layer has none, and zeros if no layer has one."""
    found = [arrays.get(f"blocks.{layer}.{name}") for layer in range(layers)]
    width = arrays["ln_out.bias"].size
    return found if any(matrix is not None for matrix in found) else [np.zeros((1, width), np.float32)]


def _array(x: Tensor) -> np.ndarray:
    return x.detach().contiguous().numpy()

"""Puts a memory beside the attention of a Transformers model, and takes it away again.

Two hooks a layer: one on ``q_proj`` reads, writes and changes the queries, one on ``o_proj`` changes the
output. No weight, class or config of the base is touched. Any decoder will do whose attention modules have
linear ``q_proj`` and ``o_proj``: Llama, Qwen, SmolLM, Gemma and others. Knows no tokens, files or losses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from sttx_core.errors import UsageError
from sttx_train.memory.config import MemoryConfig
from sttx_train.memory.core import LayerAdapter, LayerState, Writing, normalized, scan

Records: TypeAlias = dict[int, tuple[Tensor, Writing]]
"""What each layer writes in a call, by its number: the normalized hidden states, and which of them."""


def attach(model: nn.Module, config: MemoryConfig | None = None) -> AttachedMemory:
    """Put an empty memory beside a model's attention; the model is used as before.

    The base is frozen: its parameters no longer require gradients, until `AttachedMemory.detach`. While the
    memory is empty, and always before the adapter is trained, the model's outputs keep every bit.

    Args:
        model: of Transformers, with a decoder whose attention has linear ``q_proj`` and ``o_proj``.
        config: rank, slots and layers; the defaults when None.

    Raises:
        UsageError: the model has no such attention, not in the chosen layers, or has a memory already.
    """
    return AttachedMemory(model, config or MemoryConfig())


def attention_layers(model: nn.Module) -> dict[int, tuple[nn.Linear, nn.Linear]]:
    """Return ``q_proj`` and ``o_proj`` of the layers that can have a memory, by the number of the layer.

    Layers that reuse the keys and values of another one (``is_kv_shared_layer``) are left out.
    """
    found: dict[int, tuple[nn.Linear, nn.Linear]] = {}
    for module in decoder_of(model).modules():
        number = getattr(module, "layer_idx", None)
        q, o = getattr(module, "q_proj", None), getattr(module, "o_proj", None)
        if type(number) is not int or not isinstance(q, nn.Linear) or not isinstance(o, nn.Linear):
            continue
        if not getattr(module, "is_kv_shared_layer", False):
            found[number] = q, o
    return dict(sorted(found.items()))


def decoder_of(model: nn.Module) -> nn.Module:
    """Return the part of a model that holds its layers, without the head."""
    get_decoder = getattr(model, "get_decoder", None)
    decoder = get_decoder() if callable(get_decoder) else model
    assert isinstance(decoder, nn.Module), decoder
    return decoder


class AttachedMemory(nn.Module):
    """A memory beside a model; `attach` makes one. Its parameters are the adapter, float32.

    Calls of the model read. Inside `writing` they also write, token by token, each after its own read.

    Attributes:
        config: as given, with the numbers of all layers that have a memory.
        layers: the `LayerAdapter` of each layer, by its number as text.
        state: what each layer remembers, by its number; without those that remember nothing.
        records: if it is a dictionary, it gets what each layer writes in the latest call.
    """

    def __init__(self, model: nn.Module, config: MemoryConfig) -> None:
        super().__init__()
        attentions = _chosen(model, config.layers)
        if any(_hooked(q) for q, _ in attentions.values()):
            raise UsageError("the model has a memory already: detach it first")
        self.config = MemoryConfig(**{**config.as_dict(), "layers": tuple(attentions)})
        self._model = [model]  # in a list, so that it is not a submodule
        self._digest: str | None = None
        generator = torch.Generator().manual_seed(config.seed)
        self.layers = nn.ModuleDict()
        for number, (q, o) in attentions.items():
            adapter = LayerAdapter(q.in_features, config.rank, q.out_features, o.out_features, generator)
            self.layers[str(number)] = adapter.to(q.weight.device)
        self.state: dict[int, LayerState] = {}
        self.records: Records | None = None
        self._opens: Tensor | None = None
        self._written_mask: Tensor | None = None
        self._writes = False
        self._call_mask: Tensor | None = None
        self._call: Writing | None = None
        self._deltas: dict[int, tuple[Tensor, Tensor]] = {}
        self._attach(attentions)

    def _attach(self, attentions: Mapping[int, tuple[nn.Linear, nn.Linear]]) -> None:
        model = self._model[0]
        self._required = [parameter for parameter in model.parameters() if parameter.requires_grad]
        for parameter in self._required:
            parameter.requires_grad_(False)
        begin: Any = self._begin
        self._handles = [decoder_of(model).register_forward_pre_hook(begin, with_kwargs=True)]
        for number, (q, o) in attentions.items():
            self._handles.append(q.register_forward_hook(_QueryHook(self, number)))
            self._handles.append(o.register_forward_hook(_OutputHook(self, number)))

    @property
    def model(self) -> nn.Module:
        """The base."""
        return self._model[0]

    def adapter(self, number: int) -> LayerAdapter:
        """Return the adapter of a layer."""
        adapter = self.layers[str(number)]
        assert isinstance(adapter, LayerAdapter)
        return adapter

    def detach(self) -> None:
        """Take the memory away from the model; its parameters require gradients again if they did."""
        for handle in self._handles:
            handle.remove()
        for parameter in self._required:
            parameter.requires_grad_(True)
        self._handles, self._required = [], []

    @contextmanager
    def writing(self, mask: Tensor | None = None) -> Iterator[None]:
        """Write the tokens of the model's calls inside.

        Args:
            mask: which tokens are written, bool ``[B, T]``; by default those of the model's
                ``attention_mask``, or all.
        """
        before = self._writes, self._written_mask
        self._writes, self._written_mask = True, mask
        try:
            yield
        finally:
            self._writes, self._written_mask = before

    def rewrite(self, records: Records, order: Tensor | None = None) -> None:
        """Forget everything, and write a recorded call again; gradients reach the adapter but not the base.

        Args:
            records: of a call that began with an empty memory.
            order: the order in which the tokens are written ``[T]``; their own when None.
        """
        self.reset()
        for number, (h_BTD, writing) in records.items():
            if order is not None:
                h_BTD, writing = h_BTD[:, order], replace(writing, mask=writing.mask[:, order])
            adapter = self.adapter(number)
            _, _, self.state[number] = scan(adapter, self._empty(number, len(h_BTD)), h_BTD, writing)
            self._opens = writing.opens & ~writing.mask.any(dim=1)

    def reset(self) -> None:
        """Forget everything."""
        self.state, self._opens = {}, None

    def new_block(self) -> None:
        """Let the next written token of every row open a slot; only with the cut ``block``.

        Raises:
            UsageError: slots are cut by length.
        """
        if self.config.cut != "block":
            raise UsageError(f"slots are cut after {self.config.chunk} tokens: attach with cut='block'")
        if self._opens is not None:
            self._opens = torch.ones_like(self._opens)

    @property
    def rows(self) -> int:
        """Rows of the state; 0 if nothing was written."""
        return len(self._opens) if self._opens is not None else 0

    @property
    def is_empty(self) -> bool:
        """Whether no token is remembered."""
        return not any(bool(state.counts.any()) for state in self.state.values())

    def state_bytes(self) -> int:
        """Return the bytes of everything that is remembered, of all rows."""
        return sum(tensor.nbytes for state in self.state.values() for tensor in state.tensors().values())

    def state_tensors(self) -> dict[str, Tensor]:
        """Return what is remembered, by ``<layer>.<name>``, with ``opens``; nothing if it is empty.

        `load_state_tensors` takes it back, and the memory continues bit for bit.
        """
        if self._opens is None:
            return {}
        tensors = {
            f"{number}.{name}": tensor
            for number, state in self.state.items()
            for name, tensor in state.tensors().items()
        }
        return tensors | {"opens": self._opens}

    def empty_tensors(self, rows: int) -> dict[str, Tensor]:
        """Return tensors of the names, shapes and dtypes of `state_tensors` for some rows."""
        empty = {int(number): self._empty(int(number), rows) for number in self.layers}
        tensors = {
            f"{at}.{name}": one for at, state in empty.items() for name, one in state.tensors().items()
        }
        return tensors | {"opens": torch.zeros(rows, dtype=torch.bool)}

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Remember what `state_tensors` returned; the names, shapes and dtypes must fit.

        Raises:
            UsageError: they do not.
        """
        if not tensors:
            self.reset()
            return
        rows = len(tensors["opens"]) if "opens" in tensors and tensors["opens"].ndim else 0
        wanted = self.empty_tensors(rows)
        if {name: (one.shape, one.dtype) for name, one in tensors.items()} != {
            name: (one.shape, one.dtype) for name, one in wanted.items()
        }:
            raise UsageError("these tensors are not the state of a memory with this config and model")
        device = next(self.parameters()).device
        self.state = {
            int(number): LayerState(
                **{
                    name: tensors[f"{number}.{name}"].to(device)
                    for name in ("slots", "keys", "counts", "last")
                }
            )
            for number in self.layers
        }
        self._opens = tensors["opens"].to(device)

    def base_digest(self) -> str:
        """Return the SHA-256 of the base's parameters and buffers in order of their names; computed once."""
        if self._digest is None:
            digest = hashlib.sha256()
            for name, tensor in sorted(self.model.state_dict().items()):
                digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
            self._digest = digest.hexdigest()
        return self._digest

    def adapter_digest(self) -> str:
        """Return the SHA-256 of the config and the adapter's tensors as they are now."""
        digest = hashlib.sha256(self.config.digest().encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(f"{name} {list(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()

    def _empty(self, number: int, rows: int) -> LayerState:
        return LayerState.empty(rows, self.adapter(number), self.config.slots)

    def _begin(self, decoder: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Before a call: find out which tokens are written, and forget an interrupted call."""
        self._deltas, self._call = {}, None
        if not self._writes:
            return
        if decoder.training and any(
            getattr(one, "gradient_checkpointing", False) for one in decoder.modules()
        ):
            raise UsageError("gradient checkpointing would write every token twice: disable it")
        mask = self._written_mask if self._written_mask is not None else kwargs.get("attention_mask")
        if mask is not None and not (isinstance(mask, Tensor) and mask.ndim == 2):
            raise UsageError(
                "the attention_mask is not [B, T]: say with writing(mask) which tokens are written"
            )
        self._call_mask = mask

    def _writing(self, rows: int, length: int, device: torch.device) -> Writing:
        """Return what a layer writes of a call; the first layer of the call decides for all."""
        if self._call is None:
            opens = self._opens if self._opens is not None else torch.zeros(rows, dtype=torch.bool)
            mask = self._call_mask
            if mask is None:
                mask = torch.ones(rows, length, dtype=torch.bool)
            elif mask.shape[0] != rows or mask.shape[1] < length:
                raise UsageError(f"the mask has the shape {list(mask.shape)}, and the call {[rows, length]}")
            mask, opens = mask[:, -length:].bool().to(device), opens.to(device)
            self._call = Writing(mask, opens, self.config.chunk if self.config.cut == "chunk" else 0)
            self._opens = opens & ~mask.any(dim=1)
        return self._call

    def _query(self, number: int, x_BTD: Tensor, output: Tensor) -> Tensor:
        """Read and write at a layer; return its queries with the delta."""
        state = self.state.get(number)
        if state is None and not self._writes:
            return output
        rows, length = x_BTD.shape[:2]
        state = state or self._empty(number, rows)
        if len(state.counts) == 1 and not self._writes:
            state = state.expanded(rows)
        if len(state.counts) != rows:
            raise UsageError(
                f"the memory has {len(state.counts)} rows and the call {rows}: call with as many, or reset()"
            )
        writing = self._writing(rows, length, x_BTD.device) if self._writes else None
        adapter = self.adapter(number)
        with torch.autocast(x_BTD.device.type, enabled=False):
            h_BTD = normalized(x_BTD)
            if writing is not None and self.records is not None:
                self.records[number] = (h_BTD.detach(), writing)
            y_BTR, found_BT, after = scan(adapter, state, h_BTD, writing)
            delta = nn.functional.linear(y_BTR, adapter.delta_q)
            self._deltas[number] = nn.functional.linear(y_BTR, adapter.delta_o), found_BT
        if writing is not None:
            self.state[number] = after
            if not self.config.write_reads:
                del self._deltas[number]
                return output
        return _added(output, delta, found_BT)

    def _output(self, number: int, output: Tensor) -> Tensor:
        """Return a layer's attention output with the delta that its queries found."""
        if number not in self._deltas:
            return output
        return _added(output, *self._deltas.pop(number))


class _QueryHook:
    def __init__(self, memory: AttachedMemory, number: int) -> None:
        self.memory, self.number = memory, number

    def __call__(self, module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        return self.memory._query(self.number, args[0], output)


class _OutputHook:
    def __init__(self, memory: AttachedMemory, number: int) -> None:
        self.memory, self.number = memory, number

    def __call__(self, module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        return self.memory._output(self.number, output)


def _added(output: Tensor, delta: Tensor, found_BT: Tensor) -> Tensor:
    """Return the output with the delta where something was found; elsewhere every bit stays."""
    return torch.where(found_BT[..., None], output + delta.to(output.dtype), output)


def _hooked(module: nn.Module) -> bool:
    return any(isinstance(hook, _QueryHook) for hook in module._forward_hooks.values())


def _chosen(model: nn.Module, layers: tuple[int, ...] | None) -> dict[int, tuple[nn.Linear, nn.Linear]]:
    found = attention_layers(model)
    if not found:
        raise UsageError(
            f"{type(model).__name__} has no attention with linear q_proj and o_proj: give a decoder such as "
            "Llama, Qwen, SmolLM or Gemma"
        )
    for number in layers or ():
        if number not in found:
            raise UsageError(f"layer {number} cannot have a memory, only {', '.join(map(str, found))} can")
    return {number: found[number] for number in layers or found}

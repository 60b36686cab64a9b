"""A recorded layer of a memory beside a tiny Llama, which ports to other runtimes are tested with.

    python packages/sttx-train/tests/memory_golden.py --write

writes it again; the commit then says why it changed. The projections are those of a real attention layer, the
reads and states those of `sttx_train.memory`, and what is between them is computed here with PyTorch.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

import sttx_core.memory
from sttx_train.memory import AttachedMemory, LayerAdapter, LayerState, MemoryConfig, attach, scan
from sttx_train.memory.attached import attention_layers
from sttx_train.memory.core import Writing, normalized

FILE = Path(sttx_core.memory.__file__).with_name("attached_golden.json")
CONFIG = MemoryConfig(rank=3, slots=3, chunk=2)
SEED = 14
LAYER = 1
WRITTEN = [1, 1, 1, 1, 0, 1, 1, 1, 1, 0, 1, 0]
"""Which tokens are written; the seventh and the ninth of those open a slot, and two others are merged."""


def a_memory() -> AttachedMemory:
    """Return a memory beside a tiny Llama, both random."""
    torch.manual_seed(SEED)
    sizes = {"hidden_size": 12, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_key_value_heads=1, head_dim=4, vocab_size=32)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape)
    return attach(model, CONFIG)


def randomize(memory: AttachedMemory) -> None:
    """Give the adapter values as if it were trained, with four decimals."""
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter.copy_((parameter + 0.4 * torch.randn(parameter.shape)).mul(1e4).round().div(1e4))


def record() -> dict[str, Any]:
    """Return the record: the adapter, and of each token what comes in, what is computed and what stays."""
    memory = a_memory()
    q, o = attention_layers(memory.model)[LAYER]
    seen: dict[str, Tensor] = {}

    def note(name: str):
        def hook(module, args, output):
            seen[name] = output[0].float()
            seen["x"] = args[0][0].float() if name.startswith("q") else seen["x"]

        return hook

    memory.detach()
    q.register_forward_hook(note("q_proj"))  # before the memory's hooks: without the delta
    o.register_forward_hook(note("o_proj"))
    memory = attach(memory.model, CONFIG)
    randomize(memory)
    q.register_forward_hook(note("q_proj_with_delta"))
    o.register_forward_hook(note("o_proj_with_delta"))
    mask = torch.tensor([WRITTEN]).bool()
    with torch.no_grad(), memory.writing(mask):
        memory.model(torch.arange(3, 3 + len(WRITTEN))[None])
    adapter, state = memory.adapter(LAYER), LayerState.empty(1, memory.adapter(LAYER), CONFIG.slots)
    tokens = []
    for at, written in enumerate(WRITTEN):
        writing = Writing(mask[:, at : at + 1], torch.zeros(1, dtype=torch.bool), CONFIG.chunk)
        token, state = _token(adapter, state, {name: one[at] for name, one in seen.items()}, writing)
        tokens.append({"written": bool(written)} | token)
    end = memory.state[LAYER].tensors()
    assert all(torch.allclose(one, end[name], atol=1e-5) for name, one in state.tensors().items())
    return {
        "about": "A layer of a memory beside a tiny Llama, token by token; docs/memory.md explains it.",
        "version": 1,
        "config": {name: getattr(CONFIG, name) for name in ("rank", "slots", "cut", "chunk", "write_reads")},
        "adapter": {name: _numbers(one) for name, one in adapter.named_parameters()},
        "tokens": tokens,
    }


@torch.no_grad()
def _token(
    adapter: LayerAdapter, state: LayerState, seen: dict[str, Tensor], writing: Writing
) -> tuple[dict[str, Any], LayerState]:
    """Return what is recorded of a token, and the state after it."""
    h = normalized(seen["x"][None, None])
    y, found, after = scan(adapter, state, h, writing)
    query = _unit(F.linear(h[0, 0], adapter.query))
    # What a token reads is in the state after it if it is read alone, once its own slot is open.
    slot, out = _read(query, _opened(state, after, writing))
    values: dict[str, Any] = {name: _numbers(one) for name, one in seen.items()}
    values |= {"h": _numbers(h[0, 0]), "q": _numbers(query), "slot": slot, "o": _numbers(out)}
    values |= {"y": _numbers(y[0, 0]), "delta_q": _numbers(F.linear(y[0, 0], adapter.delta_q))}
    values["delta_o"] = _numbers(F.linear(y[0, 0], adapter.delta_o))
    assert bool(found) == (slot is not None)
    if writing.mask.any():
        values |= _written(adapter, h[0, 0], state.last[0])
    kept = {
        name: one[0].tolist() if name == "counts" else _numbers(one[0])
        for name, one in after.tensors().items()
    }
    return values | kept, after


def _opened(state: LayerState, after: LayerState, writing: Writing) -> LayerState:
    """Return the state that a token reads: two slots may have been merged to open one for it."""
    if not writing.mask.any() or int(after.counts.sum() - state.counts.sum()) != 1:
        return state
    index = int(after.used) - 1
    merged = state.used == after.used and int(after.counts[0, index]) == 1
    if not merged:
        return state
    slots, keys, counts = (getattr(after, name).clone() for name in ("slots", "keys", "counts"))
    slots[0, index], keys[0, index], counts[0, index] = 0, 0, 0
    return LayerState(slots, keys, counts, state.last)


def _read(query: Tensor, state: LayerState) -> tuple[int | None, Tensor]:
    if not int(state.used):
        return None, torch.zeros_like(query)
    scores = torch.stack([query @ _unit(key) for key in state.keys[0]])
    slot = int(scores.masked_fill(state.counts[0] == 0, -torch.inf).argmax())
    return slot, state.slots[0, slot] @ query


def _written(adapter: LayerAdapter, h: Tensor, last: Tensor) -> dict[str, Any]:
    key = _unit(F.linear(h + adapter.shift * (last - h), adapter.key))
    decay = torch.exp(-0.6065306597 * torch.sigmoid(F.linear(h, adapter.decay, adapter.decay_bias)))
    rate = torch.sigmoid(F.linear(h, adapter.rate, adapter.rate_bias))
    added = key * (1 + adapter.key_rate * (rate - 1))
    named = {"k": key, "v": F.linear(h, adapter.value), "w": decay, "a": rate, "k_tilde": added}
    return {name: _numbers(one) for name, one in named.items()}


def _unit(vector: Tensor) -> Tensor:
    return F.normalize(vector, dim=-1, eps=1e-6)


def _numbers(tensor: Tensor) -> Any:
    """Return float32 numbers with the nine digits that they have."""
    if tensor.ndim:
        return [_numbers(one) for one in tensor.detach()]
    return float(f"{tensor.item():.9g}")


def as_text(value: dict[str, Any]) -> str:
    """Return the file: a line for each token and for each tensor of the adapter."""
    lines = [
        f'"{name}": {json.dumps(one)}' for name, one in value.items() if name not in ("adapter", "tokens")
    ]
    tensors = ",\n  ".join(f'"{name}": {json.dumps(one)}' for name, one in value["adapter"].items())
    tokens = ",\n  ".join(json.dumps(token) for token in value["tokens"])
    lines += [f'"adapter": {{\n  {tensors}\n}}', f'"tokens": [\n  {tokens}\n]']
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("give --write to replace the file in git")
    FILE.write_text(as_text(record()))

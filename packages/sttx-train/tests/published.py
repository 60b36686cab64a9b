"""The tensors of published checkpoints of RWKV-4 to RWKV-6, by their names and shapes, at a tiny size."""

from collections.abc import Iterable

import torch

VOCAB, WIDTH, HEAD, LAYERS = 40, 16, 8, 2
MIX, DECAY = 4, 3  # ranks of the low-rank maps of x060, 32 and 64 in published files

Shapes = dict[str, tuple[int, ...]]


def _norms(names: Iterable[str]) -> Shapes:
    return {f"{name}.{kind}": (WIDTH,) for name in names for kind in ("weight", "bias")}


def _mixes(names: Iterable[str]) -> Shapes:
    return dict.fromkeys(names, (1, 1, WIDTH))


def _squares(names: Iterable[str]) -> Shapes:
    return {f"{name}.weight": (WIDTH, WIDTH) for name in names}


def _layer(version: str, wide: int) -> Shapes:
    heads = (WIDTH // HEAD, HEAD)
    projections = ["att.receptance", "att.key", "att.value", "att.output", "ffn.receptance"]
    shapes = {"ffn.key.weight": (wide, WIDTH), "ffn.value.weight": (WIDTH, wide)} | _norms(["ln1", "ln2"])
    if version == "x040":
        mixes = [*(f"att.time_mix_{c}" for c in "kvr"), *(f"ffn.time_mix_{c}" for c in "kr")]
        shapes |= {"att.time_decay": (WIDTH,), "att.time_first": (WIDTH,)} | _mixes(mixes)
        return shapes | _squares(projections)
    shapes |= _norms(["att.ln_x"]) | _squares([*projections, "att.gate"])
    if version == "x051":
        mixes = [*(f"att.time_mix_{c}" for c in "kvrg"), *(f"ffn.time_mix_{c}" for c in "kr")]
        return shapes | {"att.time_decay": (heads[0], 1), "att.time_faaaa": (heads[0], 1)} | _mixes(mixes)
    if version == "x052":
        mixes = [*(f"att.time_mix_{c}" for c in "kvrg"), *(f"ffn.time_mix_{c}" for c in "kr")]
        return shapes | {"att.time_decay": heads, "att.time_faaaa": heads} | _mixes(mixes)
    mixes = [*(f"att.time_maa_{c}" for c in "xwkvrg"), "att.time_decay", "ffn.time_maa_k", "ffn.time_maa_r"]
    shapes |= {"att.time_faaaa": heads} | _mixes(mixes)
    shapes |= {"att.time_maa_w1": (WIDTH, 5 * MIX), "att.time_maa_w2": (5, MIX, WIDTH)}
    return shapes | {"att.time_decay_w1": (WIDTH, DECAY), "att.time_decay_w2": (DECAY, WIDTH)}


def older(version: str, dtype: torch.dtype = torch.bfloat16) -> dict[str, torch.Tensor]:
    """Return a model of x040, x051, x052 or x060 under the names of published ``.pth`` files."""
    wide = 4 * WIDTH if version == "x040" else 56  # 3.5 times the width since x05
    shapes = {"emb.weight": (VOCAB, WIDTH), "head.weight": (VOCAB, WIDTH)} | _norms(
        ["ln_out", "blocks.0.ln0"]
    )
    for layer in range(LAYERS):
        shapes |= {f"blocks.{layer}.{name}": shape for name, shape in _layer(version, wide).items()}
    return {name: torch.zeros(shape, dtype=dtype) for name, shape in shapes.items()}


def as_huggingface(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the same tensors under the names of Hugging Face's classes of RWKV-4 to RWKV-6."""
    words = {".att.": ".attention.", ".ffn.": ".feed_forward.", ".ln0.": ".pre_ln."}
    renamed = {}
    for name, tensor in tensors.items():
        for ours, theirs in words.items():
            name = name.replace(ours, theirs)
        name = name.replace("emb.weight", "embeddings.weight")
        renamed[name if name.startswith("head.") else f"rwkv.{name}"] = tensor
    return renamed

"""Detects what a model is from the names and shapes of its tensors. Reads no files, converts nothing.

Names are those of the published ``.pth`` files. Hugging Face's are recognized here and translated elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from itertools import count
from typing import Any, Literal

from sttx_core.errors import ModelError, UsageError
from sttx_core.foreign_files import shown
from sttx_train.architectures import ARCHITECTURES, NAMES, Architecture, config_from
from sttx_train.rwkv7.config import ModelConfig

Version = Literal["x040", "x050", "x051", "x052", "x060", "x070"]
Naming = Literal["blinkdl", "huggingface"]


MOST_LAYERS = 1000
"""A bound on what a forged file can ask for; the largest published RWKV-7 model has 61."""
_LAYER = re.compile(r"blocks\.([0-9]{1,9})\.")


def detect_version(shapes: Mapping[str, Sequence[int]]) -> Version | None:
    """Return the RWKV architecture of the tensors; None if they are not an RWKV model.

    >>> detect_version({"emb.weight": (65536, 2048), "blocks.0.att.r_k": (32, 64)})
    'x070'
    >>> detect_version({"emb.weight": (65536, 2048), "blocks.0.att.time_maa_x": (1, 1, 2048)})
    'x060'
    """
    parts = {part for name in shapes for part in name.split(".")}
    if "r_k" in parts:
        return "x070"
    if "time_maa_x" in parts or {"bonus", "x_proj"} <= parts:
        return "x060"
    if "time_decay" not in parts:
        return None
    if "gate" in parts:
        decays = [shape for name, shape in shapes.items() if name.split(".")[-1] == "time_decay"]
        return "x052" if any(len(shape) > 1 and shape[1] > 1 for shape in decays) else "x051"
    return "x050" if "ln_x" in parts else "x040"


def detect_naming(names: Collection[str]) -> Naming | None:
    """Return whose naming scheme the tensors use; None if neither.

    >>> detect_naming(["model.embeddings.weight"])
    'huggingface'
    """
    if "emb.weight" in names:
        return "blinkdl"
    theirs = ("model.embeddings.weight", "lm_head.weight", "rwkv.embeddings.weight")
    if any(name in names for name in theirs):  # one of them may stand for embedding and head
        return "huggingface"
    return None


RUNNING = f"{', '.join(f'{NAMES[a]} ({a})' for a in ARCHITECTURES[:-1])} and {NAMES['x052']} (x052) run here"
"""What runs, in words."""


def require_architecture(shapes: Mapping[str, Sequence[int]], source: str) -> Architecture:
    """Return the architecture of tensors that are a model which runs here.

    Raises:
        ModelError: they are an older RWKV, another architecture, a tuned state, or empty.
    """
    version = detect_version(shapes)
    known: Architecture | None = next((one for one in ARCHITECTURES if one == version), None)
    if known is not None:
        return known
    advice = "give an RWKV-7 (x070) model, such as RWKV/RWKV7-Goose-World3-1.5B-HF"
    if version is not None:
        raise ModelError(f"{source!r} is an RWKV model of architecture {version}; only {RUNNING}: {advice}")
    if not shapes:
        raise ModelError(f"{source!r} holds no tensors: {advice}")
    if all(name.endswith("time_state") for name in shapes) or set(shapes) == {"s0"}:
        raise ModelError(f"{source!r} is a tuned state, not a model: {advice}")
    raise ModelError(
        f"{source!r} is not an RWKV model (its first tensor is {shown(next(iter(shapes)))}): {advice}"
    )


def detect_config(shapes: Mapping[str, Sequence[int]], source: str = "model") -> ModelConfig:
    """Return the sizes of a model from its tensors, named as in ``.pth`` files.

    Only the tensors count, because published files do not follow the published formulas for the low ranks. An
    RWKV-7 of one layer has no value residual; its ``v_rank`` keeps its default.

    Raises:
        ModelError: it is another architecture, or a tensor that gives a size is missing.
    """
    architecture = require_architecture(shapes, source)
    layers = _layers(shapes, source)

    def size(name: str, dimension: int) -> int:
        shape = shapes.get(name, ())
        if len(shape) != 2:
            raise ModelError(
                f"{source!r} is incomplete: it has no matrix {name!r} (its shape: {shown(list(shape))})"
            )
        return shape[dimension]

    sizes: dict[str, Any] = {
        "vocab_size": size("emb.weight", 0),
        "hidden_size": size("emb.weight", 1),
        "num_layers": layers,
        "ffn_size": size("blocks.0.ffn.key.weight", 0),
    }
    match architecture:
        case "x070":
            sizes |= {
                "head_size": size("blocks.0.att.r_k", 1),
                "decay_rank": size("blocks.0.att.w1", 1),
                "a_rank": size("blocks.0.att.a1", 1),
                "v_rank": size("blocks.1.att.v1", 1) if layers > 1 else 0,
                "gate_rank": size("blocks.0.att.g1", 1),
            }
        case "x060":
            sizes |= {
                "architecture": architecture,
                "head_size": size("blocks.0.att.time_faaaa", 1),
                "mix_rank": size("blocks.0.att.time_maa_w1", 1) // 5,
                "decay_rank": size("blocks.0.att.time_decay_w1", 1),
            }
        case "x052":
            sizes |= {"architecture": architecture, "head_size": size("blocks.0.att.time_faaaa", 1)}
    try:
        return config_from(sizes)
    except UsageError as error:
        raise ModelError(f"the tensors of {source!r} have impossible sizes: {error}") from error


def _layers(shapes: Mapping[str, Sequence[int]], source: str) -> int:
    layers = {int(match[1]) for name in shapes if (match := _LAYER.match(name))}
    missing = next(layer for layer in count() if layer not in layers)
    if missing < len(layers) or not layers:
        raise ModelError(f"{source!r} has no tensors of layer {missing}: the file is incomplete")
    if len(layers) > MOST_LAYERS:
        raise ModelError(f"{source!r} has {len(layers):,} layers; sttx loads at most {MOST_LAYERS:,}")
    return len(layers)

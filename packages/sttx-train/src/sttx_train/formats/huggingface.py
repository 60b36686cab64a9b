"""Names and config of RWKV-7 in Hugging Face's and flash-linear-attention's format. Knows no files.

Names map one to one. Their low-rank matrices are the transposes of ours, because they are ``nn.Linear``.
Their vectors are flat, except the time mix's ``x_*``, which are ``[1, 1, D]``; in older repositories ``[D]``,
or all six packed into one ``x_x`` of ``[6, 1, 1, D]`` or ``[6, D]``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sttx_core.errors import ModelError, UsageError
from sttx_core.foreign_files import shown
from sttx_train.formats.tensorinfo import AnyTensor
from sttx_train.rwkv7.config import RWKV7Config

if TYPE_CHECKING:
    from torch import Tensor

_TOP = {
    "model.embeddings.weight": "emb.weight",
    "model.norm.weight": "ln_out.weight",
    "model.norm.bias": "ln_out.bias",
    "lm_head.weight": "head.weight",
}
_INNER = {
    "pre_norm": "ln0",
    "attn_norm": "ln1",
    "ffn_norm": "ln2",
    "attn.g_norm": "att.ln_x",
    "attn.r_proj": "att.receptance",
    "attn.k_proj": "att.key",
    "attn.v_proj": "att.value",
    "attn.o_proj": "att.output",
    "ffn.key": "ffn.key",
    "ffn.value": "ffn.value",
}
_PLAIN = ("k_k", "k_a", "r_k", *(f"x_{c}" for c in "rwkvag"))
_PACKED = "attn.x_x"
_LORA = {"0.weight": "1", "2.weight": "2", "2.bias": "0"}
_THEIRS = re.compile(r"model\.layers\.(\d+)\.(.+)")
_OURS = re.compile(r"blocks\.(\d+)\.(.+)")
_WEIGHT = re.compile(r"(?:blocks\.[0-9]+\.ln[012]|ln_out)\.weight")
_BIAS = re.compile(r"(?:blocks\.[0-9]+\.ln[012]|ln_out)\.bias")


def _layer_names() -> dict[str, str]:
    """Return the map from their names inside a layer to ours."""
    names = {
        f"{theirs}.{part}": f"{ours}.{part}" for theirs, ours in _INNER.items() for part in ("weight", "bias")
    }
    names |= {f"attn.{name}": f"att.{name}" for name in _PLAIN} | {"ffn.x_k": "ffn.x_k"}
    names |= {f"attn.{c}_lora.lora.{theirs}": f"att.{c}{i}" for c in "wavg" for theirs, i in _LORA.items()}
    return names


_TO_OURS = _layer_names()
_TO_THEIRS = {ours: theirs for theirs, ours in _TO_OURS.items()}
_TOP_TO_THEIRS = {ours: theirs for theirs, ours in _TOP.items()}


def to_model(tensors: Mapping[str, AnyTensor]) -> dict[str, AnyTensor]:
    """Turn Hugging Face's tensors into the model's; unknown names are kept."""
    named = {}
    for theirs, tensor in tensors.items():
        layer = _THEIRS.fullmatch(theirs)
        if layer and layer[2] == _PACKED and _is_packed(theirs, tensors):
            named |= {
                f"blocks.{layer[1]}.att.x_{c}": part
                for c, part in zip("rwkvag", tensor.unbind(), strict=True)
            }
        elif layer and layer[2] in _TO_OURS:
            named[f"blocks.{layer[1]}.{_TO_OURS[layer[2]]}"] = _as_ours(layer[2], tensor)
        else:
            named[_TOP.get(theirs, theirs)] = tensor
    return named


def _is_packed(theirs: str, tensors: Mapping[str, AnyTensor]) -> bool:
    """Return whether a layer's ``x_x`` stands for the six vectors, which are not there themselves."""
    unpacked = (theirs.removesuffix("x") + c for c in "rwkvag")
    packed = tuple(tensors[theirs].shape[:-1]) in ((6,), (6, 1, 1))
    return packed and not any(name in tensors for name in unpacked)


def to_huggingface(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn the model's tensors into Hugging Face's: the inverse of :func:`to_model`."""
    named = {}
    for ours, tensor in tensors.items():
        if layer := _OURS.fullmatch(ours):
            theirs = _TO_THEIRS[layer[2]]
            named[f"model.layers.{layer[1]}.{theirs}"] = _as_theirs(theirs, tensor)
        else:
            named[_TOP_TO_THEIRS[ours]] = tensor
    return named


def check_config(config: Mapping[str, Any], detected: RWKV7Config, source: str) -> None:
    """Check a ``config.json`` against the sizes in the tensors and against what the model computes.

    Raises:
        ModelError: a key differs; the message names it.
    """
    expected = {
        "model_type": "rwkv7",
        "hidden_act": "sqrelu",
        "norm_eps": detected.layer_norm_eps,
        "norm_first": True,
        "vocab_size": detected.vocab_size,
        "hidden_size": detected.hidden_size,
        "num_hidden_layers": detected.num_layers,
        "head_dim": detected.head_size,
        "intermediate_size": detected.ffn_size,
        "attn": None,  # layers of another kind between those of RWKV-7
    }
    check_values(config, expected, source)


def check_values(config: Mapping[str, Any], expected: Mapping[str, Any], source: str) -> None:
    """Check what a ``config.json`` says against what the tensors or the model need.

    Raises:
        ModelError: a key differs; the message names it.
    """
    for key, value in expected.items():
        if config.get(key) not in (None, value):
            raise ModelError(
                f"config.json of {source!r} says {key} = {shown(config[key])}, but its tensors need {value!r}"
            )


def completed(
    tensors: Mapping[str, AnyTensor], config: Mapping[str, Any], source: str
) -> tuple[dict[str, AnyTensor], tuple[str, ...]]:
    """Add the tensors that a ``config.json`` says are not in the file, under the model's names; say which.

    A head that is tied to the embedding is the same tensor. A LayerNorm without a bias computes the same as
    one whose bias is zero.

    Args:
        tensors: the file's, under the model's names.
        config: the ``config.json``, empty if there is none.
        source: the model's path, for messages.

    Raises:
        ModelError: the config says ``norm_bias = false``, but the file has such biases.
    """
    added, notes = dict(tensors), []
    for missing, other in (("head.weight", "emb.weight"), ("emb.weight", "head.weight")):
        if config.get("tie_word_embeddings") is True and missing not in added and other in added:
            added[missing] = added[other]
            notes.append(f"the embedding and the head are one ({missing!r} is a copy of {other!r})")
    if config.get("norm_bias") is False:
        if biased := [name for name in added if _BIAS.fullmatch(name)]:
            raise ModelError(
                f"config.json of {source!r} says norm_bias = False, but its tensors have {biased[0]!r}"
            )
        weights = {name: tensor for name, tensor in tensors.items() if _WEIGHT.fullmatch(name)}
        for name, weight in weights.items():
            added[name.removesuffix("weight") + "bias"] = weight.new_zeros(tuple(weight.shape))
        notes.append("its LayerNorms have no bias (norm_bias): zeros stand for them")
    return added, tuple(notes)


def config_dict(config: RWKV7Config, dtype: str, eot_id: int = 0) -> dict[str, Any]:
    """Return the ``config.json`` of flash-linear-attention's RWKV-7 classes.

    Raises:
        UsageError: the LayerNorm epsilon is not 1e-5; this format has one epsilon for LayerNorm and
            GroupNorm.
    """
    if config.layer_norm_eps != 1e-5:
        raise UsageError(
            f"'huggingface' cannot hold layer_norm_eps {config.layer_norm_eps!r}, only 1e-05: save as 'sttx'"
        )
    return {
        "architectures": ["RWKV7ForCausalLM"],
        "model_type": "rwkv7",
        "attn_mode": "chunk",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "hidden_ratio": config.ffn_size / config.hidden_size,
        "intermediate_size": config.ffn_size,
        "num_hidden_layers": config.num_layers,
        "head_dim": config.head_size,
        "num_heads": config.num_heads,
        "decay_low_rank_dim": config.decay_rank,
        "a_low_rank_dim": config.a_rank,
        "v_low_rank_dim": config.v_rank,
        "gate_low_rank_dim": config.gate_rank,
        "hidden_act": "sqrelu",
        "norm_first": True,
        "norm_bias": True,
        "norm_eps": config.layer_norm_eps,
        "tie_word_embeddings": False,
        "bos_token_id": eot_id,
        "eos_token_id": eot_id,
        "pad_token_id": eot_id,
        "torch_dtype": dtype,
    }


def _as_ours(theirs: str, tensor: AnyTensor) -> AnyTensor:
    if theirs.endswith(("lora.0.weight", "lora.2.weight")):
        return tensor.t()
    return tensor


def _as_theirs(theirs: str, tensor: Tensor) -> Tensor:
    if theirs.endswith(("lora.0.weight", "lora.2.weight")):
        return tensor.t()
    return tensor.view(1, 1, -1) if theirs.startswith("attn.x_") else tensor

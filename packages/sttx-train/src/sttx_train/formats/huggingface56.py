"""Names and config of RWKV-5.2 and RWKV-6 in the Hugging Face repositories of RWKV. Knows no files.

These are ``RWKV/rwkv-5-world-1b5`` and ``RWKV/v6-Finch-1B6-HF``. Shapes are those of ``.pth`` files; names
differ in a few words. The RWKV-6 of flash-linear-attention is refused: its heads' norm has another epsilon.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sttx_core.errors import ModelError, UsageError
from sttx_train.formats.huggingface import check_values
from sttx_train.formats.tensorinfo import AnyTensor
from sttx_train.rwkv56.config import RWKV56Config

if TYPE_CHECKING:
    from torch import Tensor

_HEAD, _PREFIX = "head.weight", "rwkv."
_WORDS = {".att.": ".attention.", ".ffn.": ".feed_forward.", ".ln0.": ".pre_ln.", "emb.": "embeddings."}
_MIXES = {"k": "key", "v": "value", "r": "receptance", "g": "gate"}
_OUR_MIX, _THEIR_MIX = re.compile(r"time_mix_([kvrg])"), re.compile(r"time_mix_(key|value|receptance|gate)")
_DIVISOR = 8  # of the heads' outputs before their norm, which has the square of it in its epsilon instead


def to_model(tensors: Mapping[str, AnyTensor], source: str) -> dict[str, AnyTensor]:
    """Turn their names into those of ``.pth`` files; unknown names are kept.

    Raises:
        ModelError: they are flash-linear-attention's RWKV-6.
    """
    if not any(name.startswith(_PREFIX) for name in tensors):
        raise ModelError(
            f"{source!r} is flash-linear-attention's RWKV-6, which computes another norm: give a .pth, or a "
            "folder such as RWKV/v6-Finch-1B6-HF"
        )
    return {_ours(name): tensor for name, tensor in tensors.items()}


def _ours(name: str) -> str:
    name = name.removeprefix(_PREFIX)
    for ours, theirs in _WORDS.items():
        name = name.replace(theirs, ours)
    return _THEIR_MIX.sub(lambda match: f"time_mix_{match[1][0]}", name)


def to_huggingface(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn the tensors of a ``.pth`` file into theirs."""
    return {_theirs(name): tensor for name, tensor in tensors.items()}


def _theirs(name: str) -> str:
    if name == _HEAD:
        return name
    for ours, theirs in _WORDS.items():
        name = name.replace(ours, theirs)
    return _PREFIX + _OUR_MIX.sub(lambda match: f"time_mix_{_MIXES[match[1]]}", name)


def check_config(config: Mapping[str, Any], detected: RWKV56Config, source: str) -> None:
    """Check a ``config.json`` against the sizes in the tensors and against what the model computes.

    Raises:
        ModelError: a key differs; the message names it.
    """
    expected = {
        "model_type": _model_type(detected),
        "vocab_size": detected.vocab_size,
        "hidden_size": detected.hidden_size,
        "attention_hidden_size": detected.hidden_size,
        "num_hidden_layers": detected.num_layers,
        "head_size": detected.head_size,
        "head_size_divisor": _DIVISOR,
        "intermediate_size": detected.ffn_size,
        "layer_norm_epsilon": detected.layer_norm_eps,
    }
    check_values(config, expected, source)


def config_dict(config: RWKV56Config, dtype: str, eot_id: int = 0) -> dict[str, Any]:
    """Return the ``config.json`` of these repositories.

    Raises:
        UsageError: an epsilon is one that this format cannot hold.
    """
    for name, value, needed in (
        ("layer_norm_eps", config.layer_norm_eps, 1e-5),
        ("head_norm_eps", config.head_norm_eps, 64e-5),
    ):
        if value != needed:
            raise UsageError(f"'huggingface' cannot hold {name} {value!r}, only {needed!r}: save as 'sttx'")
    title = _model_type(config).capitalize()
    return {
        "architectures": [f"{title}ForCausalLM"],
        "model_type": _model_type(config),
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "attention_hidden_size": config.hidden_size,
        "intermediate_size": config.ffn_size,
        "num_hidden_layers": config.num_layers,
        "head_size": config.head_size,
        "head_size_divisor": _DIVISOR,
        "layer_norm_epsilon": config.layer_norm_eps,
        "rescale_every": 6,
        "tie_word_embeddings": False,
        "bos_token_id": eot_id,
        "eos_token_id": eot_id,
        "torch_dtype": dtype,
    }


def _model_type(config: RWKV56Config) -> str:
    return "rwkv6" if config.architecture == "x060" else "rwkv5"

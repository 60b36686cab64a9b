"""Writes a model as GGUF, for llama.cpp and the programs on it. Needs the package `gguf`.

The names are those of llama.cpp's architecture ``rwkv7``. Its six shift vectors are one tensor; layer 0 gets
``v0 v1 v2``, which nothing uses, as copies of ``a0 a1 a2``; low-rank maps are transposed. Its vocabulary type
``rwkv`` matches the longest token of a trie, as ours does. No end-of-turn id is written: it would stop
every answer at its first blank line, also where that is part of a longer token.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from sttx_core.errors import UsageError
from sttx_core.own_files import replacing_file
from sttx_core.tokenizers import Tokenizer
from sttx_train.architectures import refuse_inner_steps, require_x070
from sttx_train.byte_lengths import every_token
from sttx_train.formats import HuggingFaceTokenizer
from sttx_train.rwkv7 import LanguageModel, ModelConfig, RWKV7Config

GgufDtype = Literal["float32", "float16", "q8_0"]

_ARCHITECTURE = "rwkv7"
_CONTEXT = 1 << 20  # RWKV has no limit; programs want a number
_HEAD_SIZE = 64  # llama.cpp computes GroupNorm with 64e-5 whatever the size
_BLOCK = 32  # numbers of a block of q8_0
_LOW_RANK = tuple(f"att.{c}{i}" for c in "wavg" for i in (1, 2))
_BIASES = ("att.w0", "att.a0", "att.v0")
_SHIFTS = tuple(f"att.x_{c}" for c in "rwkvag")
_TOP = {
    "emb.weight": "token_embd.weight",
    "blocks.0.ln0.weight": "token_embd_norm.weight",
    "blocks.0.ln0.bias": "token_embd_norm.bias",
    "ln_out.weight": "output_norm.weight",
    "ln_out.bias": "output_norm.bias",
    "head.weight": "output.weight",
}
_LAYER = {
    "ln1.weight": "attn_norm.weight",
    "ln1.bias": "attn_norm.bias",
    "ln2.weight": "attn_norm_2.weight",
    "ln2.bias": "attn_norm_2.bias",
    "att.ln_x.weight": "time_mix_ln.weight",
    "att.ln_x.bias": "time_mix_ln.bias",
    "ffn.x_k": "channel_mix_lerp_k.weight",
    "ffn.key.weight": "channel_mix_key.weight",
    "ffn.value.weight": "channel_mix_value.weight",
    **{f"att.{name}": f"time_mix_{name}.weight" for name in ("k_k", "k_a", "r_k")},
    **{f"att.{name}.weight": f"time_mix_{name}.weight" for name in ("receptance", "key", "value", "output")},
    **{name: f"time_mix_{name.removeprefix('att.')}.weight" for name in (*_LOW_RANK, *_BIASES)},
}
_ROLES = (("system", "System"), ("user", "User"), ("assistant", "Assistant"))
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    + "".join(
        f"{{% {'if' if number == 0 else 'elif'} message.role == '{role}' %}}{label}: "
        for number, (role, label) in enumerate(_ROLES)
    )
    + "{% else %}Tool result: {% endif %}{{ message.content | trim }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""The turns of `sttx_core.render`, for programs that write chats themselves."""


def require_gguf() -> None:
    """Refuse an export that needs the package `gguf` if it is not installed.

    Raises:
        UsageError: it is not.
    """
    if importlib.util.find_spec("gguf") is None:
        raise UsageError("--to gguf needs the package 'gguf': pip install 'sttx-train[gguf]'")


def check_gguf(config: ModelConfig, tokenizer: Tokenizer) -> RWKV7Config:
    """Return the config if llama.cpp would compute the same as sttx.

    Raises:
        UsageError: the architecture, the sizes or the vocabulary are none that sttx writes.
    """
    sizes = require_x070(
        config, "GGUF is written of RWKV-7 alone, so export with --to blinkdl or huggingface"
    )
    refuse_inner_steps(config, "which llama.cpp does not compute: keep it in the folder of `sttx pretrain`")
    if config.head_size != _HEAD_SIZE:
        raise UsageError(
            f"the model has heads of {config.head_size}, and llama.cpp normalizes as for {_HEAD_SIZE}: "
            "its numbers would be wrong"
        )
    if isinstance(tokenizer, HuggingFaceTokenizer):
        raise UsageError("the model has a tokenizer.json, and only RWKV vocabularies are written as GGUF")
    if tokenizer.eot_id != 0:
        raise UsageError(f"the end-of-text id is {tokenizer.eot_id}, and llama.cpp's RWKV vocabulary needs 0")
    return sizes


def write_gguf(
    model: LanguageModel,
    tokenizer: Tokenizer,
    out: Path,
    *,
    dtype: GgufDtype,
    name: str,
    metadata: Mapping[str, str],
) -> None:
    """Write a model atomically.

    Args:
        model: the model, on any device.
        tokenizer: its vocabulary.
        out: the file.
        dtype: of the large matrices; vectors and low-rank maps are float32.
        name: of the model, as programs show it.
        metadata: strings to save with it, each as ``sttx.NAME``.

    Raises:
        UsageError: the package is not installed, or llama.cpp would not compute the same.
    """
    require_gguf()
    sizes = check_gguf(model.config, tokenizer)
    gguf = importlib.import_module("gguf")
    with replacing_file(out) as aside:
        writer = gguf.GGUFWriter(aside, _ARCHITECTURE)
        _add_facts(writer, gguf, sizes, dtype, name, metadata)
        _add_vocabulary(writer, gguf, tokenizer, model.config.vocab_size)
        for tensor_name, array, is_large in gguf_tensors(model):
            _add(writer, gguf, tensor_name, array, dtype if is_large else "float32")
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def gguf_tensors(model: LanguageModel) -> Iterator[tuple[str, np.ndarray, bool]]:
    """Yield the name and values of each tensor, in float32, and whether it is a large matrix."""
    weights = {name: weight.to("cpu").float() for name, weight in model.dense_weights().items()}
    for ours, theirs in _TOP.items():
        yield theirs, weights[ours].numpy(), ours in ("emb.weight", "head.weight")
    for layer in range(model.config.num_layers):
        own = {
            name.removeprefix(f"blocks.{layer}."): weight
            for name, weight in weights.items()
            if name.startswith(f"blocks.{layer}.")
        }
        shifts = np.stack([own[name].numpy() for name in _SHIFTS])
        yield f"blk.{layer}.time_mix_lerp_fused.weight", shifts.reshape(len(_SHIFTS), 1, 1, -1), False
        for ours, theirs in _LAYER.items():
            source = ours.replace(".v", ".a") if layer == 0 and ours[:-1] == "att.v" else ours
            is_large = source.endswith(".weight") and own[source].ndim == 2
            yield f"blk.{layer}.{theirs}", _as_theirs(source, own[source]), is_large


def _as_theirs(name: str, weight: Tensor) -> np.ndarray:
    if name in _LOW_RANK:
        weight = weight.t()
    return np.ascontiguousarray((weight.flatten() if name == "att.r_k" else weight).numpy())


def _add(writer: Any, gguf: Any, name: str, array: np.ndarray, dtype: GgufDtype) -> None:
    if dtype == "q8_0" and array.shape[-1] % _BLOCK:
        dtype = "float16"
    match dtype:
        case "q8_0":
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
        case "float16":
            writer.add_tensor(name, array.astype(np.float16))
        case "float32":
            writer.add_tensor(name, array)


def _add_facts(
    writer: Any, gguf: Any, config: RWKV7Config, dtype: GgufDtype, name: str, metadata: Mapping[str, str]
) -> None:
    """Write the sizes, under llama.cpp's names."""
    kinds = gguf.LlamaFileType
    kind = {"float32": kinds.ALL_F32, "float16": kinds.MOSTLY_F16, "q8_0": kinds.MOSTLY_Q8_0}[dtype]
    writer.add_name(name)
    writer.add_file_type(kind)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.ffn_size)
    writer.add_layer_norm_eps(config.layer_norm_eps)
    writer.add_wkv_head_size(config.head_size)
    writer.add_head_count(0)  # llama.cpp wants it, and does not use it
    writer.add_decay_lora_rank(config.decay_rank)
    writer.add_iclr_lora_rank(config.a_rank)
    writer.add_value_residual_mix_lora_rank(config.v_rank)
    writer.add_gate_lora_rank(config.gate_rank)
    for key, value in metadata.items():
        writer.add_string(f"sttx.{key}", value)


def _add_vocabulary(writer: Any, gguf: Any, tokenizer: Tokenizer, rows: int) -> None:
    kinds, known = gguf.TokenType, every_token(tokenizer, rows)
    tokens = [_escaped(token) if token else f"[PAD{number}]".encode() for number, token in enumerate(known)]
    types = [kinds.NORMAL if token else kinds.UNUSED for token in known]
    end = b"<s>"
    while end in tokens:
        end = b"<" + end + b">"
    tokens[0], types[0] = end, kinds.CONTROL
    writer.add_tokenizer_model("rwkv")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _escaped(token: bytes) -> bytes:
    r"""Return a token as llama.cpp reads it: bytes that are not printable ASCII as ``\xNN``.

    >>> _escaped(b"a\n\xff'")
    b"a\\n\\xff'"
    """
    named = {0x5C: b"\\\\", 0x0A: b"\\n", 0x0D: b"\\r", 0x09: b"\\t"}
    return b"".join(
        named.get(byte) or (bytes([byte]) if 0x20 <= byte < 0x7F else b"\\x%02x" % byte) for byte in token
    )

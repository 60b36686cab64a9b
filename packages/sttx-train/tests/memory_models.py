"""Tiny random models of the families that a memory attaches to, for the tests of the memory."""

from collections.abc import Callable

import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3nForCausalLM,
    Gemma3nTextConfig,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

VOCABULARY = 64
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**_SIZES)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**_SIZES)),
    "smollm3": lambda: SmolLM3ForCausalLM(SmolLM3Config(**_SIZES)),
    "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**_SIZES, sliding_window=8)),
}


def a_model(family: str = "llama", dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Return a random model of a family, the same each time."""
    torch.manual_seed(0)
    return FAMILIES[family]().to(dtype).eval()


def a_model_with_shared_keys() -> PreTrainedModel:
    """Return a random model whose last layer uses the keys and values of an earlier one."""
    torch.manual_seed(0)
    sizes = _SIZES | {"num_hidden_layers": 4, "num_kv_shared_layers": 1, "sliding_window": 8}
    config = Gemma3nTextConfig(
        **sizes,
        layer_types=["sliding_attention", "full_attention"] * 2,
        vocab_size_per_layer_input=VOCABULARY,
        hidden_size_per_layer_input=8,
        laurel_rank=4,
        activation_sparsity_pattern=[0.0] * 4,
        altup_num_inputs=2,
    )
    return Gemma3nForCausalLM(config).eval()


def train_at_random(memory: torch.nn.Module, scale: float = 0.3) -> None:
    """Give an adapter weights as if it were trained."""
    draws = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=draws)


def words(count: int, seed: int) -> list[int]:
    """Return tokens that repeat phrases of their own, so that a memory of them is worth something."""
    draws = torch.Generator().manual_seed(seed)
    phrases = torch.randint(3, VOCABULARY, (4, 6), generator=draws)
    return phrases[torch.randint(0, 4, (count // 6 + 1,), generator=draws)].flatten().tolist()[:count]

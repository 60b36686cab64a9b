"""A tiny random Llama with a vocabulary of bytes and an adapter as if trained, for tests that serve it."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

from sttx_train.memory import MemoryConfig, SessionConfig, attach
from sttx_train.memory.adapter import SavedAdapter, write_run
from sttx_train.memory.base import Base, load_base
from sttx_train.memory.serving import MemoryPredictor
from sttx_train.memory.vocabulary import served_vocabulary

END = 0
WORDS = ("User", "Assistant", "the", "build", "Ċ" * 2)


def write_base(folder: Path) -> Path:
    """Write a base, and return its folder."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<|end|>": END} | {letter: number for number, letter in enumerate(letters, 1)}
    merges = []
    for word in WORDS:
        for size in range(1, len(word)):
            pair = (word[:size], word[size])
            if word[: size + 1] not in vocabulary:
                merges.append(pair)
                vocabulary[word[: size + 1]] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=len(vocabulary) + 3,  # padded, as bases are
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        eos_token_id=END,
        bos_token_id=END,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8 if parameter.ndim > 1 else 1)  # so that tokens differ clearly
    model.save_pretrained(folder)
    return folder


def base_of(folder: Path) -> Base:
    """Return the base in a folder."""
    return load_base(str(folder), folder / "cache")


def predictor_of(
    base: Base, *, trained: bool = True, cut: str = "chunk", window: int = 48, overlap: int = 8
) -> MemoryPredictor:
    """Return a predictor with an adapter."""
    memory = attach(base.model, MemoryConfig(rank=4, slots=3, chunk=16, cut=cut))
    if trained:
        draws = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for parameter in memory.parameters():
                parameter += 0.5 * torch.randn(parameter.shape, generator=draws)
    return MemoryPredictor(memory, served_vocabulary(base), SessionConfig(window=window, overlap=overlap))


def write_adapter(predictor: MemoryPredictor, folder: Path) -> Path:
    """Write a predictor's adapter as a run, and return its folder."""
    write_run(SavedAdapter.of(predictor.memory, step=2), folder)
    return folder

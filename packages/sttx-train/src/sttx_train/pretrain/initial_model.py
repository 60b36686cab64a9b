"""The model that a run begins with: a fresh one of the configured sizes, or another's weights."""

from __future__ import annotations

from sttx_core.errors import UsageError
from sttx_train.pretrain.config import PretrainConfig
from sttx_train.rwkv7 import RWKV7, RWKV7Config, initialize


def begin(config: PretrainConfig, start: RWKV7 | None) -> RWKV7:
    """Return a model whose weights are all trained, in float32.

    Args:
        config: of the run; the sizes of a fresh model, and its seed.
        start: a model to go on from; None for a fresh one with the published initialisation.

    Raises:
        UsageError: there is no such model, or its vocabulary is smaller than the data's.
    """
    if start is None:
        return initialize(RWKV7(model_sizes(config), backend="auto"), seed=config.seed)
    if start.config.vocab_size < config.vocab_size:
        raise UsageError(
            f"the model to start from has {start.config.vocab_size} rows, and the vocabulary "
            f"{config.vocab_size} ids: give the model's own vocabulary"
        )
    return start.float().train().requires_grad_(True)


def model_sizes(config: PretrainConfig) -> RWKV7Config:
    """Return the sizes of the model that a config asks for.

    Raises:
        UsageError: the width is not a multiple of the head size, or there is no vocabulary.
    """
    if config.hidden_size % config.head_size:
        raise UsageError(
            f"--hidden-size {config.hidden_size!r} must be a multiple of --head-size {config.head_size!r}"
        )
    if config.vocab_size < 2:
        raise UsageError(f"vocab_size must be at least 2, not {config.vocab_size!r}: that of the tokenizer")
    return RWKV7Config(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        num_layers=config.layers,
        head_size=config.head_size,
    )

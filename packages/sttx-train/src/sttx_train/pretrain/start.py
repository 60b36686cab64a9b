"""What a pretraining run starts from: its data, and the weights of its model."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sttx_core.errors import UsageError
from sttx_core.hypernet import HyperNetwork
from sttx_train.architectures import build_model, new_config
from sttx_train.data.documents import Documents
from sttx_train.pretrain.config import PretrainConfig
from sttx_train.rwkv7 import LanguageModel, ModelConfig
from sttx_train.rwkv7.stored import model_in_training, with_inner_steps
from sttx_train.wkv import KernelChoice, choose_backend


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The documents of a run.

    Attributes:
        train: documents that are trained on.
        validation: documents that are only measured; None for no validation.
        text_bytes: UTF-8 bytes of the validation documents; None if they are not text.
        tokenizer_sha256: hash of the vocabulary; None if it is not known.
    """

    train: Documents
    validation: Documents | None = None
    text_bytes: int | None = None
    tokenizer_sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class StartingModel:
    """The model whose training a run continues.

    Attributes:
        model: the model, on the CPU in float32.
        hypernet: its hypernetwork, for a config with phrases; a new one when None.
        sha256: hash of its weights; None if it is not known.
    """

    model: LanguageModel
    hypernet: HyperNetwork | None = None
    sha256: str | None = None


def training_kernel(device: torch.device, *, compile: bool, plain: bool = True) -> KernelChoice:
    """Return the kernel that a run takes on a device, and why; `torch.compile` works on plain torch only.

    Args:
        device: where the run trains.
        compile: whether it uses `torch.compile`.
        plain: whether the recurrence is the architecture's own (`ModelConfig.plain_recurrence`).
    """
    if compile and device.type == "cpu":
        return KernelChoice("chunked", "torch.compile needs plain torch")
    return choose_backend(device, plain=plain)


def model_to_train(config: PretrainConfig, start: LanguageModel | None) -> LanguageModel:
    """Return a model with all weights trainable, in float32.

    Args:
        config: gives the sizes and the seed of a new model.
        start: a model to continue; None for a new one with the published initialization.

    Raises:
        UsageError: the sizes do not fit, or the model's vocabulary is smaller than the data's.
    """
    if start is None:
        return build_model(model_sizes(config), seed=config.seed)
    if start.config.vocab_size < config.vocab_size:
        raise UsageError(
            f"the model to start from has {start.config.vocab_size} rows, and the vocabulary has "
            f"{config.vocab_size} ids: give the model's own vocabulary"
        )
    if config.inner_steps:
        start = with_inner_steps(start, **config.inner())
    return model_in_training(start).float().train().requires_grad_(True)


def model_sizes(config: PretrainConfig) -> ModelConfig:
    """Return the model sizes of a config.

    Raises:
        UsageError: the width is not a multiple of the head size, or the vocabulary size is missing.
    """
    if config.hidden_size % config.head_size:
        raise UsageError(
            f"--hidden-size {config.hidden_size!r} must be a multiple of --head-size {config.head_size!r}"
        )
    if config.vocab_size < 2:
        raise UsageError(
            f"vocab_size must be at least 2, not {config.vocab_size!r}: give the tokenizer's vocabulary size"
        )
    return new_config(
        config.architecture,
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        num_layers=config.layers,
        head_size=config.head_size,
        **({"ghost_ratio": config.ghost_ratio} if config.ghost_ratio else {}),
        **config.inner(),
    )

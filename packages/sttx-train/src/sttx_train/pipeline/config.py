"""The options of a `TrainingPipeline`, under the names that rwkv_trainer has for them. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from sttx_core.errors import UsageError
from sttx_train.architectures import ARCHITECTURES, Architecture
from sttx_train.pretrain.config import PretrainConfig

Precision = Literal["auto", "bf16", "fp32"]

_FIXED = {"beta1": 0.9, "beta2": 0.99, "adam_eps": 1e-18, "strategy": "auto"}


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The model to train.

    Attributes:
        model_type: its architecture: RWKV-6 (x060), RWKV-7 (x070) or RWKV-5.2 (x052).
        n_layer: number of layers.
        n_embd: width, a multiple of ``head_size_a``.
        ctx_len: tokens of a window.
        vocab_size: rows of the embedding; 0 for as many as the tokenizer has ids.
        head_size_a: side of each head's square state.
    """

    model_type: Architecture = "x060"
    n_layer: int = 3
    n_embd: int = 128
    ctx_len: int = 1024
    vocab_size: int = 0
    head_size_a: int = 64

    def __post_init__(self) -> None:
        if self.model_type not in ARCHITECTURES:
            raise UsageError(f"model_type must be one of {', '.join(ARCHITECTURES)}, not {self.model_type!r}")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How to train.

    Attributes:
        lr_init: peak learning rate.
        lr_final: learning rate at the end; it falls along a cosine.
        warmup_steps: steps in which the learning rate rises to its peak.
        weight_decay: AdamW's weight decay, on matrices only.
        micro_bsz: streams read side by side, in each process.
        grad_cp: whether activations are computed again in the backward pass, which saves memory.
        epoch_save: epochs between two checkpoints.
        precision: of matrix products: bf16, fp32, or what suits the device.
        beta1: of AdamW; only 0.9.
        beta2: of AdamW; only 0.99.
        adam_eps: of AdamW; only 1e-18.
        strategy: only auto: `torchrun` starts several processes.
    """

    lr_init: float = 6e-4
    lr_final: float = 6e-5
    warmup_steps: int = 10
    weight_decay: float = 0.001
    micro_bsz: int = 16
    grad_cp: bool = True
    epoch_save: int = 1
    precision: Precision = "auto"
    beta1: float = 0.9
    beta2: float = 0.99
    adam_eps: float = 1e-18
    strategy: str = "auto"

    def __post_init__(self) -> None:
        for name, only in _FIXED.items():
            if getattr(self, name) != only:
                raise UsageError(f"{name} is always {only!r} here, not {getattr(self, name)!r}: leave it out")
        if self.precision not in get_args(Precision):
            raise UsageError(f"precision must be auto, bf16 or fp32, not {self.precision!r}")
        if self.epoch_save < 1:
            raise UsageError(f"epoch_save must be at least 1, not {self.epoch_save!r}")
        if not 0 < self.lr_final <= self.lr_init:
            raise UsageError(f"lr_final must be above 0 and at most lr_init, not {self.lr_final!r}")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How data is prepared.

    Attributes:
        sequence_length: length of the sequences that an array of one dimension is cut into.
        validation: share of the data that is only measured.
    """

    sequence_length: int = 1024
    validation: float = 0.01

    def __post_init__(self) -> None:
        if self.sequence_length < 1:
            raise UsageError(f"sequence_length must be at least 1, not {self.sequence_length!r}")
        if not 0 <= self.validation < 1:
            raise UsageError(f"validation must be a share from 0 to below 1, not {self.validation!r}")


def pretrain_config(
    model: ModelConfig, training: TrainingConfig, data: DataConfig, *, epochs: int, seed: int
) -> PretrainConfig:
    """Return the options as `sttx pretrain` takes them, without what depends on the data's size."""
    bf16 = {"auto": None, "bf16": True, "fp32": False}[training.precision]
    return PretrainConfig(
        architecture=model.model_type,
        vocab_size=model.vocab_size,
        hidden_size=model.n_embd,
        layers=model.n_layer,
        head_size=model.head_size_a,
        ctx=model.ctx_len,
        batch=training.micro_bsz,
        lr=training.lr_init,
        final=training.lr_final / training.lr_init,
        warmup=training.warmup_steps,
        weight_decay=training.weight_decay,
        recompute=bool(training.grad_cp),
        bf16=bf16,
        validation=data.validation,
        epochs=epochs,
        seed=seed,
    )

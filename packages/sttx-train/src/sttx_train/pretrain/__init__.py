"""Pretraining: all weights of a small model from any data, to a folder that loads.

A name is imported, and torch with it, when it is first used.
"""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names

if TYPE_CHECKING:
    from sttx_train.pretrain.config import PretrainConfig
    from sttx_train.pretrain.evaluation import Validation, validation_bits
    from sttx_train.pretrain.pretrainer import Pretrainer, PretrainReport
    from sttx_train.pretrain.trainer import PretrainStep

__all__ = [
    "PretrainConfig",
    "PretrainReport",
    "PretrainStep",
    "Pretrainer",
    "Validation",
    "validation_bits",
]

__getattr__ = lazy_names(
    __name__,
    {
        "config": ["PretrainConfig"],
        "evaluation": ["Validation", "validation_bits"],
        "pretrainer": ["PretrainReport", "Pretrainer"],
        "trainer": ["PretrainStep"],
    },
)

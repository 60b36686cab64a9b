"""A pretrainer as one object with a folder of its own: prepare data, train, continue, list checkpoints."""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names

if TYPE_CHECKING:
    from sttx_train.pipeline.config import DataConfig, ModelConfig, TrainingConfig
    from sttx_train.pipeline.pipeline import TrainingPipeline

__all__ = ["DataConfig", "ModelConfig", "TrainingConfig", "TrainingPipeline"]

__getattr__ = lazy_names(
    __name__,
    {
        "config": ["DataConfig", "ModelConfig", "TrainingConfig"],
        "pipeline": ["TrainingPipeline"],
    },
)

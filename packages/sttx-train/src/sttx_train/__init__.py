"""The RWKV-7 model, its kernels and formats, the online learner and pretraining.

The public face of the package. A name, and torch with it, is imported on first use. Further faces are
`sttx_train.wkv` (the recurrence and its kernels), `sttx_train.pretrain`, `sttx_train.data` and
`sttx_train.inspect`.
"""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names

if TYPE_CHECKING:
    from sttx_train.checkpoint import Checkpoint, CheckpointStore
    from sttx_train.formats import (
        HuggingFaceTokenizer,
        LoadedModel,
        load_model,
        load_state,
        load_tokenizer,
        save_model,
        save_state,
    )
    from sttx_train.generate import Generation, SamplingConfig
    from sttx_train.online import LearnerConfig, OnlineLearner, Score, StepReport, Window
    from sttx_train.predict import Predictor, PredictorBatch, Prices, Reader
    from sttx_train.rwkv7 import RWKV7, RecurrentState, RWKV7Config, initialize
    from sttx_train.stream import Progress, StreamConfig, StreamTrainer, Totals, TraceWindows

__all__ = [
    "Checkpoint",
    "CheckpointStore",
    "Generation",
    "HuggingFaceTokenizer",
    "LearnerConfig",
    "LoadedModel",
    "OnlineLearner",
    "Predictor",
    "PredictorBatch",
    "Prices",
    "Progress",
    "RWKV7",
    "RWKV7Config",
    "Reader",
    "RecurrentState",
    "SamplingConfig",
    "Score",
    "StepReport",
    "StreamConfig",
    "StreamTrainer",
    "Totals",
    "TraceWindows",
    "Window",
    "initialize",
    "load_model",
    "load_state",
    "load_tokenizer",
    "save_model",
    "save_state",
]

__getattr__ = lazy_names(
    __name__,
    {
        "checkpoint": ["Checkpoint", "CheckpointStore"],
        "formats": [
            "HuggingFaceTokenizer",
            "LoadedModel",
            "load_model",
            "load_state",
            "load_tokenizer",
            "save_model",
            "save_state",
        ],
        "generate": ["Generation", "SamplingConfig"],
        "online": ["LearnerConfig", "OnlineLearner", "Score", "StepReport", "Window"],
        "predict": ["Predictor", "PredictorBatch", "Prices", "Reader"],
        "rwkv7": ["RWKV7", "RWKV7Config", "RecurrentState", "initialize"],
        "stream": ["Progress", "StreamConfig", "StreamTrainer", "Totals", "TraceWindows"],
    },
)

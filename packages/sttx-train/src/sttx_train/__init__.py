"""The RWKV-7 model, its kernels and formats, the online learner and pretraining.

The public face of the package; a name arrives, and torch with it, when it is first used. The wkv recurrence
and its backends are in `sttx_train.wkv`, pretraining in `sttx_train.pretrain`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sttx_train.checkpoint import Checkpoint as Checkpoint
    from sttx_train.checkpoint import CheckpointStore as CheckpointStore
    from sttx_train.formats import LoadedModel, load_model, load_state, save_model, save_state
    from sttx_train.huggingface_tokenizer import HuggingFaceTokenizer, load_tokenizer
    from sttx_train.online import LearnerConfig, OnlineLearner, Score, StepReport, Window
    from sttx_train.rwkv7 import RWKV7, RecurrentState, RWKV7Config, initialize
    from sttx_train.stream import Progress, StreamConfig, StreamTrainer
    from sttx_train.totals import Totals
    from sttx_train.windows import TraceWindows

__all__ = [
    "Checkpoint",
    "CheckpointStore",
    "HuggingFaceTokenizer",
    "LearnerConfig",
    "LoadedModel",
    "OnlineLearner",
    "Progress",
    "RWKV7",
    "RWKV7Config",
    "RecurrentState",
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

_ROOMS = {
    "checkpoint": ("Checkpoint", "CheckpointStore"),
    "formats": ("LoadedModel", "load_model", "load_state", "save_model", "save_state"),
    "huggingface_tokenizer": ("HuggingFaceTokenizer", "load_tokenizer"),
    "online": ("LearnerConfig", "OnlineLearner", "Score", "StepReport", "Window"),
    "rwkv7": ("RWKV7", "RWKV7Config", "RecurrentState", "initialize"),
    "stream": ("Progress", "StreamConfig", "StreamTrainer"),
    "totals": ("Totals",),
    "windows": ("TraceWindows",),
}
_LATE = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)

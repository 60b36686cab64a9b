"""An online memory beside the attention of a frozen Transformers model: RWKV-7 states, written and read.

`core` has the equations, `attached` puts them beside a model. The names load no torch and no transformers.
"""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names
from sttx_train.memory.config import MemoryConfig
from sttx_train.memory.eval_config import MemoryEvalConfig
from sttx_train.memory.session_config import SessionConfig
from sttx_train.memory.train_config import MemoryTrainConfig

if TYPE_CHECKING:
    from sttx_train.memory.attached import AttachedMemory, attach
    from sttx_train.memory.core import LayerAdapter, LayerState, scan
    from sttx_train.memory.evaluation import Evaluator
    from sttx_train.memory.session import OnlineMemorySession
    from sttx_train.memory.training import MemoryTrainer

__all__ = [
    "AttachedMemory",
    "Evaluator",
    "LayerAdapter",
    "LayerState",
    "MemoryConfig",
    "MemoryEvalConfig",
    "MemoryTrainConfig",
    "MemoryTrainer",
    "OnlineMemorySession",
    "SessionConfig",
    "attach",
    "scan",
]

__getattr__ = lazy_names(
    __name__,
    {
        "attached": ["AttachedMemory", "attach"],
        "core": ["LayerAdapter", "LayerState", "scan"],
        "evaluation": ["Evaluator"],
        "session": ["OnlineMemorySession"],
        "training": ["MemoryTrainer"],
    },
)

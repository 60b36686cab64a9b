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
    from sttx_train.memory.adapter import SavedAdapter, differences, read_adapter, write_run, write_sidecar
    from sttx_train.memory.attached import AttachedMemory, attach
    from sttx_train.memory.base import SMOLLM2, Base, Vocabulary, cached_smollm2, load_base
    from sttx_train.memory.core import LayerAdapter, LayerState, scan
    from sttx_train.memory.evaluation import WITH_STATE, WITH_TEXT, Evaluator
    from sttx_train.memory.health import check_health
    from sttx_train.memory.lora import LowRank, read_control
    from sttx_train.memory.routes import MemoryRoutes
    from sttx_train.memory.serving import MemoryPredictor
    from sttx_train.memory.session import OnlineMemorySession
    from sttx_train.memory.suite import answer_line, compare_answers, read_prompts, require_active
    from sttx_train.memory.training import MemoryTrainer, TrainStep
    from sttx_train.memory.verdict import EFFECTS, MemoryReport, memory_report
    from sttx_train.memory.vocabulary import ServedVocabulary, served_vocabulary
    from sttx_train.memory.windows import SessionTokens, long_enough, split_sessions

__all__ = [
    "AttachedMemory",
    "Base",
    "EFFECTS",
    "Evaluator",
    "LayerAdapter",
    "LayerState",
    "LowRank",
    "MemoryConfig",
    "MemoryEvalConfig",
    "MemoryPredictor",
    "MemoryReport",
    "MemoryRoutes",
    "MemoryTrainConfig",
    "MemoryTrainer",
    "OnlineMemorySession",
    "SMOLLM2",
    "SavedAdapter",
    "ServedVocabulary",
    "SessionConfig",
    "SessionTokens",
    "TrainStep",
    "Vocabulary",
    "WITH_STATE",
    "WITH_TEXT",
    "answer_line",
    "attach",
    "cached_smollm2",
    "check_health",
    "compare_answers",
    "differences",
    "load_base",
    "long_enough",
    "memory_report",
    "read_adapter",
    "read_control",
    "read_prompts",
    "require_active",
    "scan",
    "served_vocabulary",
    "split_sessions",
    "write_run",
    "write_sidecar",
]

__getattr__ = lazy_names(
    __name__,
    {
        "adapter": ["SavedAdapter", "differences", "read_adapter", "write_run", "write_sidecar"],
        "attached": ["AttachedMemory", "attach"],
        "base": ["Base", "SMOLLM2", "Vocabulary", "cached_smollm2", "load_base"],
        "core": ["LayerAdapter", "LayerState", "scan"],
        "evaluation": ["Evaluator", "WITH_STATE", "WITH_TEXT"],
        "health": ["check_health"],
        "lora": ["LowRank", "read_control"],
        "routes": ["MemoryRoutes"],
        "serving": ["MemoryPredictor"],
        "session": ["OnlineMemorySession"],
        "suite": ["answer_line", "compare_answers", "read_prompts", "require_active"],
        "training": ["MemoryTrainer", "TrainStep"],
        "verdict": ["EFFECTS", "MemoryReport", "memory_report"],
        "vocabulary": ["ServedVocabulary", "served_vocabulary"],
        "windows": ["SessionTokens", "long_enough", "split_sessions"],
    },
)

"""Text that a reader writes: samplers, pieces of whole characters, stops, snapshots, and conversations.

Everything is chosen from what a reader says comes next; no probability comes from anywhere else.
"""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names
from sttx_train.generate.config import SamplingConfig

if TYPE_CHECKING:
    from sttx_train.generate.constraint import Constraint
    from sttx_train.generate.conversation import Conversation
    from sttx_train.generate.generation import Finish, Generation
    from sttx_train.generate.pieces import Pieces
    from sttx_train.generate.sampler import Sampler
    from sttx_train.generate.together import step_all

__all__ = [
    "Constraint",
    "Conversation",
    "Finish",
    "Generation",
    "Pieces",
    "Sampler",
    "SamplingConfig",
    "step_all",
]

__getattr__ = lazy_names(
    __name__,
    {
        "constraint": ["Constraint"],
        "conversation": ["Conversation"],
        "generation": ["Finish", "Generation"],
        "pieces": ["Pieces"],
        "sampler": ["Sampler"],
        "together": ["step_all"],
    },
)

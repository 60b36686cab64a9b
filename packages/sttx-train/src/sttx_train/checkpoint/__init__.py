"""Checkpoints that survive a kill at any moment."""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names

if TYPE_CHECKING:
    from sttx_train.checkpoint.store import Checkpoint, CheckpointStore

__all__ = [
    "Checkpoint",
    "CheckpointStore",
]

__getattr__ = lazy_names(
    __name__,
    {
        "store": ["Checkpoint", "CheckpointStore"],
    },
)

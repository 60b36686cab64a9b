"""Pretraining: all weights of a small model from any data, to a folder that loads.

A name arrives when it is first used, so that reading data loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sttx_train.pretrain.arrays import ArrayDocuments
    from sttx_train.pretrain.config import PretrainConfig
    from sttx_train.pretrain.documents import Documents
    from sttx_train.pretrain.evaluation import HeldOut, held_out_bits
    from sttx_train.pretrain.opening import Data, open_data
    from sttx_train.pretrain.pretrainer import Pretrainer, PretrainReport
    from sttx_train.pretrain.trainer import PretrainStep

__all__ = [
    "ArrayDocuments",
    "Data",
    "Documents",
    "HeldOut",
    "PretrainConfig",
    "PretrainReport",
    "PretrainStep",
    "Pretrainer",
    "held_out_bits",
    "open_data",
]

_ROOMS = {
    "arrays": ("ArrayDocuments",),
    "config": ("PretrainConfig",),
    "documents": ("Documents",),
    "evaluation": ("HeldOut", "held_out_bits"),
    "opening": ("Data", "open_data"),
    "pretrainer": ("PretrainReport", "Pretrainer"),
    "trainer": ("PretrainStep",),
}
_LATE = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)

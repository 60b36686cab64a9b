"""Pretraining: all weights of a small model from any data, to a folder that loads.

A name arrives when it is first used, so that reading data loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sttx_train.pretrain.arrays import ArrayDocuments
    from sttx_train.pretrain.corpus import Corpus, load_corpus
    from sttx_train.pretrain.opening import Data, open_data
    from sttx_train.pretrain.trainer import PretrainConfig, Pretrainer, PretrainStep, held_out_bits

__all__ = [
    "ArrayDocuments",
    "Corpus",
    "Data",
    "PretrainConfig",
    "PretrainStep",
    "Pretrainer",
    "held_out_bits",
    "load_corpus",
    "open_data",
]

_ROOMS = {
    "arrays": ("ArrayDocuments",),
    "corpus": ("Corpus", "load_corpus"),
    "opening": ("Data", "open_data"),
    "trainer": ("PretrainConfig", "PretrainStep", "Pretrainer", "held_out_bits"),
}
_LATE = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)

"""The RWKV-7 model: sizes, equations, recurrent state, initialization; what all architectures share."""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names

if TYPE_CHECKING:
    from sttx_train.rwkv7.compiling import compile_kernels, kernels_are_compiled
    from sttx_train.rwkv7.config import ModelConfig, RWKV7Config
    from sttx_train.rwkv7.init import initialize
    from sttx_train.rwkv7.language_model import Block, LanguageModel
    from sttx_train.rwkv7.model import RWKV7
    from sttx_train.rwkv7.state import RecurrentState

__all__ = [
    "Block",
    "LanguageModel",
    "ModelConfig",
    "RWKV7",
    "RWKV7Config",
    "RecurrentState",
    "compile_kernels",
    "initialize",
    "kernels_are_compiled",
]

__getattr__ = lazy_names(
    __name__,
    {
        "compiling": ["compile_kernels", "kernels_are_compiled"],
        "config": ["ModelConfig", "RWKV7Config"],
        "init": ["initialize"],
        "language_model": ["Block", "LanguageModel"],
        "model": ["RWKV7"],
        "state": ["RecurrentState"],
    },
)

"""The RWKV-7 model: sizes, equations, recurrent state, initialization."""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names

if TYPE_CHECKING:
    from sttx_train.rwkv7.compiling import compile_kernels, kernels_are_compiled
    from sttx_train.rwkv7.config import RWKV7Config
    from sttx_train.rwkv7.init import initialize
    from sttx_train.rwkv7.model import RWKV7
    from sttx_train.rwkv7.state import RecurrentState

__all__ = [
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
        "config": ["RWKV7Config"],
        "init": ["initialize"],
        "model": ["RWKV7"],
        "state": ["RecurrentState"],
    },
)

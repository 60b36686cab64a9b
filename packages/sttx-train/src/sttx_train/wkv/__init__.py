"""The wkv recurrence behind one entry: the definition, two kernels of our own, and fla's Triton kernels.

The names of the kernels load no torch.
"""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names

if TYPE_CHECKING:
    from sttx_train.wkv.backends import BACKENDS, Backend, KernelChoice, choose_backend
    from sttx_train.wkv.chunked import wkv_chunked
    from sttx_train.wkv.compiled import recurrence
    from sttx_train.wkv.dispatch import wkv
    from sttx_train.wkv.inner import InnerSteps, folded, inner_wkv
    from sttx_train.wkv.recurrent import wkv_recurrent
    from sttx_train.wkv.state import LayerState

__all__ = [
    "BACKENDS",
    "Backend",
    "InnerSteps",
    "KernelChoice",
    "LayerState",
    "choose_backend",
    "folded",
    "inner_wkv",
    "recurrence",
    "wkv",
    "wkv_chunked",
    "wkv_recurrent",
]

__getattr__ = lazy_names(
    __name__,
    {
        "backends": ["BACKENDS", "Backend", "KernelChoice", "choose_backend"],
        "chunked": ["wkv_chunked"],
        "compiled": ["recurrence"],
        "dispatch": ["wkv"],
        "inner": ["InnerSteps", "folded", "inner_wkv"],
        "recurrent": ["wkv_recurrent"],
        "state": ["LayerState"],
    },
)

"""The RWKV-5.2 "Eagle" and RWKV-6 "Finch" models: sizes, equations, kernels, initialization.

They differ from RWKV-7 in the two halves of a block. Embedding, norms, head, state and reading are those that
`sttx_train.rwkv7` has for all architectures.
"""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names

if TYPE_CHECKING:
    from sttx_train.rwkv56.chunked import wkv6_chunked
    from sttx_train.rwkv56.config import RWKV56Config
    from sttx_train.rwkv56.dispatch import wkv6
    from sttx_train.rwkv56.model import RWKV56
    from sttx_train.rwkv56.recurrent import wkv6_recurrent

__all__ = ["RWKV56", "RWKV56Config", "wkv6", "wkv6_chunked", "wkv6_recurrent"]

__getattr__ = lazy_names(
    __name__,
    {
        "chunked": ["wkv6_chunked"],
        "config": ["RWKV56Config"],
        "dispatch": ["wkv6"],
        "model": ["RWKV56"],
        "recurrent": ["wkv6_recurrent"],
    },
)

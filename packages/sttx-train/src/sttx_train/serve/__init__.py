"""A server that ordinary OpenAI clients talk to: one engine thread, requests as the rows of one batch.

Needs the extra ``sttx-train[serve]``. Everything it answers comes from readers; it computes no probability.
"""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names
from sttx_train.serve.config import ServeConfig

if TYPE_CHECKING:
    from sttx_train.serve.catalog import Catalog, Served
    from sttx_train.serve.engine import Engine
    from sttx_train.serve.following import FollowedRun
    from sttx_train.serve.server import Server

__all__ = ["Catalog", "Engine", "FollowedRun", "ServeConfig", "Served", "Server"]

__getattr__ = lazy_names(
    __name__,
    {
        "catalog": ["Catalog", "Served"],
        "engine": ["Engine"],
        "following": ["FollowedRun"],
        "server": ["Server"],
    },
)

"""The RWKV-7 model: sizes, equations, recurrent state, initialisation."""

from sttx_train.rwkv7.config import RWKV7Config
from sttx_train.rwkv7.init import initialize
from sttx_train.rwkv7.model import RWKV7
from sttx_train.rwkv7.state import RecurrentState

__all__ = ["RWKV7", "RWKV7Config", "RecurrentState", "initialize"]

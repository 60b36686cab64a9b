"""Memory of many states: where a stream is cut into blocks, what a block's state keeps, and how it is read.

Numpy only, and pure. `reproduce` runs the experiment behind it: dynamic linear attention and RWKV-7 states,
by block and single, beside the rows that the original gave. docs/memory.md explains it.
"""

from sttx_core.memory.blocks import BlockPolicy, Contributions, adaptive, fixed, oracle, shifted, surprises
from sttx_core.memory.bounds import bound, optimal, ward
from sttx_core.memory.experiment import ReproduceConfig, Reproduction, reproduce
from sttx_core.memory.report import render
from sttx_core.memory.routing import largest_read, nearest_centroid
from sttx_core.memory.states import DELTA, LINEAR, RWKV7, StateUpdate, block_reads, coefficients, cosine

__all__ = [
    "BlockPolicy",
    "Contributions",
    "DELTA",
    "LINEAR",
    "RWKV7",
    "ReproduceConfig",
    "Reproduction",
    "StateUpdate",
    "adaptive",
    "block_reads",
    "bound",
    "coefficients",
    "cosine",
    "fixed",
    "largest_read",
    "nearest_centroid",
    "optimal",
    "oracle",
    "render",
    "reproduce",
    "shifted",
    "surprises",
    "ward",
]

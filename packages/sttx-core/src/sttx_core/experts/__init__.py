"""Experts beside the network: what a session repeats, kept verbatim and mixed with the network's prediction.

`Experts` prices tokens by a tree of binary decisions. Counts of contexts, matches in the text so far and the
network's own distribution are mixed at each decision, and the mixer learns whom to trust after each token.
`Experts.encode` turns tokens into as few bytes as they cost, and `Experts.decode` turns them back;
`Experts.rows` does so for documents side by side, with networks; `rows_without_experts` with a network alone.
Needs numba: `sttx-core[experts]`.
"""

from sttx_core.experts.coders import CoderName
from sttx_core.experts.compiling import (
    compile_choosing,
    compile_coding,
    compile_experts,
    experts_are_compiled,
)
from sttx_core.experts.config import ExpertsConfig
from sttx_core.experts.experts import Experts, ExpertsDocument, Known
from sttx_core.experts.next_token import NextToken, Parts
from sttx_core.experts.rows import AloneRows, CodedRows, rows_without_experts

__all__ = [
    "AloneRows",
    "CodedRows",
    "CoderName",
    "Experts",
    "ExpertsConfig",
    "ExpertsDocument",
    "Known",
    "NextToken",
    "Parts",
    "compile_choosing",
    "compile_coding",
    "compile_experts",
    "experts_are_compiled",
    "rows_without_experts",
]

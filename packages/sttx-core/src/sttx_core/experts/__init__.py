"""Experts beside the network: what a session repeats, kept verbatim and mixed with the network's prediction.

`Experts` prices tokens by a tree of binary decisions. Counts of contexts, matches in the text so far and the
network's own distribution are mixed at each decision, and the mixer learns whom to trust after each token.
Needs numba: `sttx-core[experts]`.
"""

from sttx_core.experts.config import ExpertsConfig
from sttx_core.experts.experts import Experts, ExpertsDocument

__all__ = ["Experts", "ExpertsConfig", "ExpertsDocument"]

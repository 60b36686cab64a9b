"""Conformance checks as library code, for anything that implements one of our protocols.

Each check takes a factory, runs what it makes, and raises an `AssertionError` that says which rule is broken.
"""

from sttx_core.checks.blocks import check_block_policy
from sttx_core.checks.learner import check_learner
from sttx_core.checks.phrases import check_dynamic_tokenizer
from sttx_core.checks.replay import check_replay
from sttx_core.checks.source import check_source
from sttx_core.checks.tokenizer import check_tokenizer

__all__ = [
    "check_block_policy",
    "check_dynamic_tokenizer",
    "check_learner",
    "check_replay",
    "check_source",
    "check_tokenizer",
]

"""Conformance checks as library code: whatever implements a protocol of ours is run through them.

Each takes a factory, makes what it needs, and raises an `AssertionError` that says what was broken.
"""

from sttx_core.checks.phrases import check_dynamic_tokenizer
from sttx_core.checks.replay import check_replay
from sttx_core.checks.source import check_source
from sttx_core.checks.tokenizer import check_tokenizer

__all__ = ["check_dynamic_tokenizer", "check_replay", "check_source", "check_tokenizer"]

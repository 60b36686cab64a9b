"""Proves that a served memory is active: that it changes what comes next, and that a saved one continues.

Three facts about a reference conversation, each measured on the model itself: what it wrote changes the
answer, and another conversation changes it otherwise; a saved and restored conversation continues with equal
bits; and one that was changed by a single bit is refused. Knows predictors; no HTTP.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sttx_core.errors import CheckpointError
from sttx_train.memory.serving import MemoryPredictor, MemoryReader

REFERENCE = (
    "User: The nightly build failed: the disk of runner seven was full.\n\n"
    "Assistant: I removed the old caches of runner seven and started the build again.\n\n"
)
"""The conversation that is written."""

OTHER = (
    "User: Which colour has the banner of the summer sale?\n\n"
    "Assistant: The banner is green, and the button on it is white.\n\n"
)
"""Another one, of about the same length."""

PROBE = "User: What was wrong with the nightly build?\n\nAssistant:"
LEAST_BITS = 1e-4
"""A smaller divergence may be rounding: the memory is then not active."""

_TOKENS = 8  # after which a restored conversation must still be equal


@dataclass(frozen=True, kw_only=True)
class Check:
    """One fact.

    Attributes:
        name: of the fact.
        passed: whether it holds.
        detail: a sentence with what was measured.
    """

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, kw_only=True)
class Health:
    """Whether the memory is active.

    Attributes:
        digest: of the predictor.
        checks: the facts.
    """

    digest: str
    checks: tuple[Check, ...]

    @property
    def active(self) -> bool:
        """Whether all facts hold."""
        return all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """Why the memory is not active; empty if it is."""
        return "; ".join(check.detail for check in self.checks if not check.passed)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "active": self.active,
            "digest": self.digest,
            "checks": [asdict(check) for check in self.checks],
        }


def check_health(predictor: MemoryPredictor) -> Health:
    """Measure the facts; takes about as long as reading 150 tokens."""
    encode = predictor.tokenizer.encode
    with_reference, with_other = (_remembering(predictor, encode(text)) for text in (REFERENCE, OTHER))
    without = predictor.read(writes=False)
    rows = [_after(reader, encode(PROBE)) for reader in (with_reference, with_other, without)]
    effect, content = divergence(rows[0], rows[2]), divergence(rows[0], rows[1])
    source = predictor.read()
    source.advance(encode(REFERENCE))
    return Health(
        digest=predictor.digest,
        checks=(
            Check(
                name="effect",
                passed=effect > LEAST_BITS,
                detail=f"the reference conversation changes the next token by {effect:.2g} bits",
            ),
            Check(
                name="content",
                passed=content > LEAST_BITS,
                detail=f"another conversation changes it otherwise, by {content:.2g} bits",
            ),
            _restored(predictor, source, encode(PROBE)),
            _corrupted(predictor, source),
        ),
    )


def divergence(one: np.ndarray, other: np.ndarray) -> float:
    """Return how many bits a token costs more by one's probabilities if it is drawn from the other's.

    Args:
        one: natural log-probabilities ``[V]`` that draw.
        other: those that pay.
    """
    return max(float(np.sum(np.exp(one) * (one - other))) / math.log(2), 0.0)


def _remembering(predictor: MemoryPredictor, ids: list[int]) -> MemoryReader:
    """Return a reader of which only the memory knows some tokens."""
    reader = predictor.read()
    reader.advance(ids)
    reader.forget_context()
    return reader


def _after(reader: MemoryReader, ids: list[int]) -> np.ndarray:
    reader.advance(ids)
    return reader.log_probs()


def _restored(predictor: MemoryPredictor, source: MemoryReader, probe: list[int]) -> Check:
    """Check that a saved conversation continues as the one that goes on."""
    going, restored = source.copy(), predictor.read()
    restored.load_state_dict(source.state_dict())
    equal = True
    for token in probe[:_TOKENS]:
        equal = equal and np.array_equal(going.log_probs(), restored.log_probs())
        going.advance([token])
        restored.advance([token])
    equal = equal and np.array_equal(going.log_probs(), restored.log_probs())
    what = "equal" if equal else "different"
    detail = (
        f"after it was saved and restored, its next {len(probe[:_TOKENS])} tokens have {what} probabilities"
    )
    return Check(name="restore", passed=equal, detail=detail)


def _corrupted(predictor: MemoryPredictor, source: MemoryReader) -> Check:
    """Check that a saved conversation is refused if one bit of its memory differs."""
    saved = source.state_dict()
    name = next(name for name in saved["tensors"] if name.endswith(".slots"))
    tensor = saved["tensors"][name].clone()
    flat = tensor.flatten().numpy().view(np.uint32)
    flat[0] ^= 1
    saved["tensors"][name] = tensor
    try:
        predictor.read().load_state_dict(saved)
    except CheckpointError as error:
        return Check(name="corruption", passed=True, detail=f"one changed bit is refused: {error}")
    return Check(name="corruption", passed=False, detail="one changed bit is not noticed")

"""Predictors that differ by S0 alone: each has its own, and readers of all of them are rows of one batch."""

from __future__ import annotations

import copy

from torch import Tensor

from sttx_core.errors import UsageError
from sttx_train.predict.predictor import Predictor


def with_s0(predictor: Predictor, s0: Tensor) -> Predictor:
    """Return a predictor like another one, with an S0 of its own that is added at each window's start.

    Everything else is shared. It does not learn, and shares no experts: each reader has its own, or none.

    Args:
        predictor: who predicts; without experts that all readers share.
        s0: ``[L, H, N, N]``; not copied.

    Raises:
        UsageError: the predictor's readers share experts, or it learns, or S0 has another shape.
    """
    if (predictor.experts and not predictor.own_experts) or predictor.learns:
        raise UsageError("a predictor with experts, or one that learns, has no twins: make one without")
    if s0.shape != predictor.learner.s0.shape:
        raise UsageError(f"S0 must be {list(predictor.learner.s0.shape)}, not {list(s0.shape)}")
    twin, learner = copy.copy(predictor), copy.copy(predictor.learner)
    learner.networks = copy.copy(learner.networks)
    learner.networks.s0, learner.networks.inject = s0, "every"
    learner.s0 = s0  # type: ignore[assignment]
    twin.learner = learner
    return twin


def are_twins(one: Predictor, other: Predictor) -> bool:
    """Return whether readers of both may be rows of one batch."""
    return one.learner.head is other.learner.head

"""What predictors are worth on a stream: prices by trace, arms, controls, forgetting and transfer."""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names

if TYPE_CHECKING:
    from sttx_train.evaluate.arms import ARMS, DEFAULT_ARMS, Arm, check_arms, parse_arms
    from sttx_train.evaluate.evaluation import Evaluation, help_evaluate
    from sttx_train.evaluate.scoring import ScoredTrace, TraceScorer, score_traces

__all__ = [
    "ARMS",
    "Arm",
    "DEFAULT_ARMS",
    "Evaluation",
    "ScoredTrace",
    "TraceScorer",
    "check_arms",
    "help_evaluate",
    "parse_arms",
    "score_traces",
]

__getattr__ = lazy_names(
    __name__,
    {
        "arms": ["ARMS", "Arm", "DEFAULT_ARMS", "check_arms", "parse_arms"],
        "evaluation": ["Evaluation", "help_evaluate"],
        "scoring": ["ScoredTrace", "TraceScorer", "score_traces"],
    },
)

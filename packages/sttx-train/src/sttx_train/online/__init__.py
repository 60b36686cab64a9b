"""Online learning: price a window, pay for it, learn from it."""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names

if TYPE_CHECKING:
    from sttx_train.online.gate import PhraseGate
    from sttx_train.online.learner import LearnerConfig, OnlineLearner, Score, StepReport, Window
    from sttx_train.online.phrase_head import PHRASES, PhraseHead, Row
    from sttx_train.online.scope import SCOPES, parse_scopes

__all__ = [
    "LearnerConfig",
    "OnlineLearner",
    "PHRASES",
    "PhraseGate",
    "PhraseHead",
    "Row",
    "SCOPES",
    "Score",
    "StepReport",
    "Window",
    "parse_scopes",
]

__getattr__ = lazy_names(
    __name__,
    {
        "gate": ["PhraseGate"],
        "learner": ["LearnerConfig", "OnlineLearner", "Score", "StepReport", "Window"],
        "phrase_head": ["PHRASES", "PhraseHead", "Row"],
        "scope": ["SCOPES", "parse_scopes"],
    },
)

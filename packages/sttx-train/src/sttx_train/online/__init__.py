"""Online learning: predict a window, pay for it, learn from it."""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names

if TYPE_CHECKING:
    from sttx_train.online.config import PHRASES, LearnerConfig
    from sttx_train.online.gate import PhraseGate
    from sttx_train.online.learner import OnlineLearner
    from sttx_train.online.mixture import Mixture
    from sttx_train.online.phrase_head import PhraseHead, Row
    from sttx_train.online.scope import SCOPES, parse_scopes
    from sttx_train.online.window import Score, StepReport, Window

__all__ = [
    "LearnerConfig",
    "Mixture",
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
        "config": ["PHRASES", "LearnerConfig"],
        "gate": ["PhraseGate"],
        "learner": ["OnlineLearner"],
        "mixture": ["Mixture"],
        "phrase_head": ["PhraseHead", "Row"],
        "scope": ["SCOPES", "parse_scopes"],
        "window": ["Score", "StepReport", "Window"],
    },
)

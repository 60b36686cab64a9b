"""Online learning: price a window, pay for it, learn from it."""

from sttx_train.online.gate import PhraseGate
from sttx_train.online.learner import LearnerConfig, OnlineLearner, Score, StepReport, Window
from sttx_train.online.phrase_head import PHRASES, PhraseHead, Row
from sttx_train.online.scope import SCOPES, parse_scopes

__all__ = [
    "PHRASES",
    "SCOPES",
    "LearnerConfig",
    "OnlineLearner",
    "PhraseGate",
    "PhraseHead",
    "Row",
    "Score",
    "StepReport",
    "Window",
    "parse_scopes",
]

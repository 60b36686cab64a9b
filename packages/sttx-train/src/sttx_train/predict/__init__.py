"""What comes next, by everything that predicts it: one predictor for training, scoring and all the rest."""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names
from sttx_train.online.prices import Prices

if TYPE_CHECKING:
    from sttx_train.predict.batch import PredictorBatch
    from sttx_train.predict.branch import Branch, branch_log_probs
    from sttx_train.predict.learned import check_base, check_origin
    from sttx_train.predict.predictor import Predictor
    from sttx_train.predict.reader import Reader
    from sttx_train.predict.shared import SharedReading

__all__ = [
    "Branch",
    "Predictor",
    "PredictorBatch",
    "Prices",
    "Reader",
    "SharedReading",
    "branch_log_probs",
    "check_base",
    "check_origin",
]

__getattr__ = lazy_names(
    __name__,
    {
        "batch": ["PredictorBatch"],
        "branch": ["Branch", "branch_log_probs"],
        "learned": ["check_base", "check_origin"],
        "predictor": ["Predictor"],
        "reader": ["Reader"],
        "shared": ["SharedReading"],
    },
)

"""Smaller models: forms for the matrices of a model, chosen by its inputs, and the price of each choice."""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names

if TYPE_CHECKING:
    from sttx_train.shrink.calibration import input_grams
    from sttx_train.shrink.config import ShrinkConfig
    from sttx_train.shrink.plan import choose_forms
    from sttx_train.shrink.shrinking import ShrinkReport, check_shrinkable, shrink_model, shrink_to

__all__ = [
    "ShrinkConfig",
    "ShrinkReport",
    "check_shrinkable",
    "choose_forms",
    "input_grams",
    "shrink_model",
    "shrink_to",
]

__getattr__ = lazy_names(
    __name__,
    {
        "calibration": ["input_grams"],
        "config": ["ShrinkConfig"],
        "plan": ["choose_forms"],
        "shrinking": ["ShrinkReport", "check_shrinkable", "shrink_model", "shrink_to"],
    },
)

"""Classic state tuning: epochs over pairs, chats and texts, each read from a state that learns."""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names
from sttx_train.tune.config import TuneConfig

if TYPE_CHECKING:
    from sttx_train.tune.examples import (
        Example,
        Examples,
        Lines,
        encode_examples,
        read_examples,
        read_lines,
        split_examples,
    )
    from sttx_train.tune.report import TuneReport, TuneStep
    from sttx_train.tune.tuner import Tuner

__all__ = [
    "Example",
    "Examples",
    "Lines",
    "TuneConfig",
    "TuneReport",
    "TuneStep",
    "Tuner",
    "encode_examples",
    "read_examples",
    "read_lines",
    "split_examples",
]

__getattr__ = lazy_names(
    __name__,
    {
        "examples": [
            "Example",
            "Examples",
            "Lines",
            "encode_examples",
            "read_examples",
            "read_lines",
            "split_examples",
        ],
        "report": ["TuneReport", "TuneStep"],
        "tuner": ["Tuner"],
    },
)

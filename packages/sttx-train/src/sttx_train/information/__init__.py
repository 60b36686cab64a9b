"""Information in texts, in bits by one predictor: entropy, mutual information, distance, size of an archive.

A `Meter` prices texts from where it stands; the measures are sums of its prices and compute no probability of
their own. `compress_size` is what `sttx compress` would write.
"""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names

if TYPE_CHECKING:
    from sttx_train.information.archive_size import compress_size
    from sttx_train.information.cost import Cost, Segment
    from sttx_train.information.measures import (
        Distances,
        JointEntropy,
        MutualInformation,
        chain,
        conditional_entropy,
        cross_entropy,
        distances,
        joint_entropy,
        mutual_information,
    )
    from sttx_train.information.meter import Meter, Text
    from sttx_train.information.rates import EntropyRate, entropy_rate

__all__ = [
    "Cost",
    "Distances",
    "EntropyRate",
    "JointEntropy",
    "Meter",
    "MutualInformation",
    "Segment",
    "Text",
    "chain",
    "compress_size",
    "conditional_entropy",
    "cross_entropy",
    "distances",
    "entropy_rate",
    "joint_entropy",
    "mutual_information",
]

__getattr__ = lazy_names(
    __name__,
    {
        "archive_size": ["compress_size"],
        "cost": ["Cost", "Segment"],
        "measures": [
            "Distances",
            "JointEntropy",
            "MutualInformation",
            "chain",
            "conditional_entropy",
            "cross_entropy",
            "distances",
            "joint_entropy",
            "mutual_information",
        ],
        "meter": ["Meter", "Text"],
        "rates": ["EntropyRate", "entropy_rate"],
    },
)

"""A mean over seeds with its 95% interval."""

import math
from typing import TypedDict

from sttx_core.memory.blocks import Array


class Estimate(TypedDict):
    """A mean and its interval, as it is saved."""

    mean: float
    low: float
    high: float


def estimate(values: Array) -> Estimate:
    """Return the mean of independent values, one a seed, with Student's 95% interval; at least two values.

    >>> import numpy as np
    >>> round(estimate(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))["low"], 2)  # 3 - 2.776 * sqrt(2.5 / 5)
    1.04
    """
    count = len(values)
    mean = float(values.mean())
    half = _student(count - 1) * float(values.std(ddof=1)) / math.sqrt(count)
    return {"mean": mean, "low": mean - half, "high": mean + half}


def _student(freedom: int) -> float:
    """Return the 97.5% quantile of Student's distribution: its expansion around the normal one.

    Right to 0.01 from 4 degrees of freedom on (Abramowitz and Stegun, 26.7.5).
    """
    z = 1.959964
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))

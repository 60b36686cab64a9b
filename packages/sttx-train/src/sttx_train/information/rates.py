"""The entropy rate of a text, and its curve over windows. Knows costs; not how they are computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sttx_core.errors import UsageError
from sttx_train.information.cost import Cost, Segment, rate
from sttx_train.information.meter import Meter, Text


@dataclass(frozen=True, kw_only=True)
class EntropyRate:
    """How many bits a byte costs once the predictor has adapted.

    Two definitions agree for a stationary source (Cover & Thomas, theorem 4.2.1): the limit of the mean
    ``H(x_1 … x_n) / n``, and the limit of the conditional ``H(x_n | x_1 … x_n-1)``, which has forgotten what
    it cost to adapt. ``bits_per_byte`` estimates the second by the last half of the windows. For a long text
    of a stationary ergodic source it is not below the true rate, to which -log2 p / n converges (theorem
    16.8.1).

    Attributes:
        cost: what the whole text costs.
        windows: the curve: statistics of each window, in order.
        settled: number of windows at the end that the estimate is of.
    """

    cost: Cost
    windows: tuple[Segment, ...]
    settled: int

    @property
    def bits_per_byte(self) -> float | None:
        """The estimate, over the settled windows; None if the text is empty."""
        last = self.windows[len(self.windows) - self.settled :]
        return rate(sum(one.bits for one in last), sum(one.bytes for one in last))

    @property
    def mean_bits_per_byte(self) -> float | None:
        """Bits for each byte of the whole text; None if it is empty."""
        return self.cost.bits_per_byte


def entropy_rate(
    meter: Meter, text: Text, window: int = 1024, advance: Callable[[int], object] = lambda _: None
) -> EntropyRate:
    """Return the entropy rate of a text from where the meter stands. Pure.

    Args:
        meter: who measures.
        text: the text.
        window: bytes of a window of the curve, at least 1.
        advance: called with the number of bytes as they are read.

    Raises:
        UsageError: ``window`` is less than 1.
    """
    if window < 1:
        raise UsageError(f"a window must have at least 1 byte, not {window}")
    (cost,) = meter.measure([text], advance)
    windows = tuple(cost.segments(window))
    return EntropyRate(cost=cost, windows=windows, settled=(len(windows) + 1) // 2)

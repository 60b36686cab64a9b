"""How far a number of bits per byte may be off: the bootstrap over sessions. Knows no arms."""

from __future__ import annotations

import numpy as np

RESAMPLES = 1000
_SEED = 0
_PERCENT = (2.5, 97.5)


def interval(bits_S: np.ndarray, bytes_S: np.ndarray) -> list[float] | None:
    """Return the 95% interval of bits per byte over sessions; None for fewer than two sessions with text.

    Sessions are drawn with replacement, as many as there are, :data:`RESAMPLES` times from a fixed seed; the
    interval holds the middle 95% of the results. The interval of a difference comes from differences of bits.

    Args:
        bits_S: bits of each session, or differences of bits.
        bytes_S: bytes of each session.
    """
    with_text = bytes_S > 0
    bits, sizes = bits_S[with_text].astype(np.float64), bytes_S[with_text].astype(np.float64)
    count = len(sizes)
    if count < 2:
        return None
    drawn_RS = np.random.default_rng(_SEED).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    ratios = (drawn_RS @ bits) / (drawn_RS @ sizes)
    low, high = np.percentile(ratios, _PERCENT)
    return [float(low), float(high)]

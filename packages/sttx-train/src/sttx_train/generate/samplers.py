"""Samplers: pure functions from the log-probabilities of the next token to others.

Each takes a row ``[V]`` of natural log-probabilities, float64, of which no token is above 0 and excluded ones
are minus infinity, and returns a new row that is normalized again. Where tokens are equally likely, those
with lower ids come first. Knows neither text nor readers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def normalized(row: np.ndarray) -> np.ndarray:
    """Return a row of logarithms less the logarithm of their sum.

    >>> np.exp(normalized(np.log([1.0, 3.0]))).tolist()
    [0.25, 0.75]
    """
    return _normalized(row - row.max())


def penalize_repetition(row: np.ndarray, seen: np.ndarray, penalty: float) -> np.ndarray:
    """Multiply the log-probabilities of tokens that were seen.

    Source: Keskar et al. 2019, CTRL (arXiv 1909.05858), section 4.1, which divides positive logits; a
    log-probability is negative, and is multiplied, as Hugging Face's processor does.

    Args:
        row: ``[V]`` log-probabilities.
        seen: bool ``[V]``.
        penalty: above 1 makes them less likely.
    """
    return normalized(np.where(seen & np.isfinite(row), row * penalty, row))


def penalize_counts(
    row: np.ndarray, seen: np.ndarray, counts: np.ndarray, *, presence: float, frequency: float
) -> np.ndarray:
    """Subtract a penalty for each token that was seen, and one for each time.

    Source: OpenAI's documentation of ``presence_penalty`` and ``frequency_penalty``. With counts that decay
    it is the penalty of BlinkDL's ChatRWKV (``GEN_penalty_decay``).

    Args:
        row: ``[V]`` log-probabilities.
        seen: bool ``[V]``.
        counts: ``[V]`` how often each token was seen; it may have decayed.
        presence: subtracted where it was seen.
        frequency: subtracted for each count.
    """
    return normalized(row - presence * seen - frequency * counts)


def add_bias(row: np.ndarray, bias: Sequence[tuple[int, float]]) -> np.ndarray:
    """Add to the log-probabilities of some tokens, as OpenAI's ``logit_bias``."""
    biased = row.copy()
    for token, more in bias:
        biased[token] += more
    return normalized(biased)


def apply_temperature(row: np.ndarray, temperature: float) -> np.ndarray:
    """Raise the probabilities to the power of 1 over a temperature above 0 (Ackley et al. 1985)."""
    with np.errstate(over="ignore"):  # next to 0 all but the likeliest become minus infinity
        return _normalized((row - row.max()) / temperature)


def keep_top_k(row: np.ndarray, k: int) -> np.ndarray:
    """Keep the k likeliest tokens (Fan et al. 2018, arXiv 1805.04833)."""
    return row if k >= len(row) else _only(row, _likeliest(row)[:k])


def keep_top_p(row: np.ndarray, p: float) -> np.ndarray:
    """Keep the fewest of the likeliest tokens whose sum is at least p.

    Source: Holtzman et al. 2019, The Curious Case of Neural Text Degeneration (arXiv 1904.09751).
    """
    # The likeliest are mostly enough. Tokens below the second bound have together less than 1 - p, so the
    # others are enough, unless rounding tips the scales.
    bounds = [np.log((1 - p) / 64), np.log((1 - p) / len(row))] if p < 1 else []
    for bound in bounds:
        some = np.flatnonzero(row >= bound)
        order = some[_likeliest(row[some])]
        if (count := _enough(row, order, p)) <= len(order):
            return _only(row, order[:count])
    order = _likeliest(row)
    return _only(row, order[: _enough(row, order, p)])


def keep_min_p(row: np.ndarray, p: float) -> np.ndarray:
    """Keep tokens at least p times as likely as the likeliest (Nguyen et al. 2024, arXiv 2407.01082)."""
    return normalized(np.where(np.exp(row - row.max()) >= p, row, -np.inf))


def keep_typical(row: np.ndarray, p: float) -> np.ndarray:
    """Keep the fewest tokens, of those whose surprise is nearest to the entropy, whose sum is at least p.

    Source: Meister et al. 2022, Locally Typical Sampling (arXiv 2202.00666), section 3.
    """
    possible = np.isfinite(row)
    entropy = -(np.exp(row[possible]) * row[possible]).sum()
    order = np.argsort(np.where(possible, np.abs(-row - entropy), np.inf), kind="stable")
    return _only(row, order[: _enough(row, order, p)])


def draw(row: np.ndarray, uniform: float) -> int:
    """Return the token at which the cumulative probability, by ids, passes a number from 0 to below 1.

    >>> [draw(np.log([0.5, 0.25, 0.25]), u) for u in (0.0, 0.49, 0.5, 0.99)]
    [0, 0, 1, 2]
    """
    possible = np.flatnonzero(np.isfinite(row))
    cumulative = np.cumsum(np.exp(row[possible]))
    place = np.searchsorted(cumulative, uniform * cumulative[-1], side="right")
    return int(possible[min(place, len(possible) - 1)])  # rounding may pass the last token


def _normalized(row: np.ndarray) -> np.ndarray:
    """Return `normalized` of a row whose greatest logarithm is 0."""
    return row - np.log(np.exp(row).sum())


def _likeliest(row: np.ndarray) -> np.ndarray:
    return np.argsort(-row, kind="stable")


def _enough(row: np.ndarray, order: np.ndarray, p: float) -> int:
    """Return how many of the tokens in order have together at least p, at least one."""
    return int(np.searchsorted(np.cumsum(np.exp(row[order])), p)) + 1


def _only(row: np.ndarray, kept: np.ndarray) -> np.ndarray:
    only = np.full_like(row, -np.inf)
    only[kept] = normalized(row[kept])
    return only

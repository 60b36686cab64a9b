"""BM25: which pieces of a text share the rarest tokens with a query; the search beside a memory."""

import math
from collections import Counter
from collections.abc import Sequence

from sttx_core.errors import UsageError

_K1, _B = 1.2, 0.75  # as in Robertson and Zaragoza, "The Probabilistic Relevance Framework"


def bm25_scores(pieces: Sequence[Sequence[int]], query: Sequence[int]) -> list[float]:
    """Return the score of each piece.

    Args:
        pieces: tokens of each piece.
        query: tokens to search for; a repeated one counts once.

    >>> bm25_scores([[1, 2], [3, 3]], [3])
    [0.0, 0.9530773732699247]
    """
    mean = sum(map(len, pieces)) / max(len(pieces), 1)
    counts = [Counter(piece) for piece in pieces]
    scores = [0.0] * len(pieces)
    for token in dict.fromkeys(query):
        holding = sum(token in count for count in counts)
        rarity = math.log(1 + (len(pieces) - holding + 0.5) / (holding + 0.5))
        for at, (piece, count) in enumerate(zip(pieces, counts, strict=True)):
            if often := count[token]:
                scores[at] += rarity * often * (_K1 + 1) / (often + _K1 * (1 - _B + _B * len(piece) / mean))
    return scores


def bm25_top(pieces: Sequence[Sequence[int]], query: Sequence[int], count: int) -> list[int]:
    """Return the places of the best pieces in their order; of equally good ones the later.

    Raises:
        UsageError: ``count`` is below 1.
    """
    if count < 1:
        raise UsageError(f"count must be 1 or more, not {count!r}")
    scores = bm25_scores(pieces, query)
    best = sorted(range(len(pieces)), key=lambda at: (scores[at], at), reverse=True)[:count]
    return sorted(best)

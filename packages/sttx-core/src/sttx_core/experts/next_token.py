"""The next token of a document: its probabilities, computed as far as a caller asks.

Pricing all tokens takes as many decisions as there are tokens; most are about tokens that cannot matter.
"""

from typing import NamedTuple

import numpy as np

from sttx_core.experts.entry import entry_points
from sttx_core.experts.memory import Memory, Place
from sttx_core.experts.opening import UNKNOWN
from sttx_core.experts.reading import Seen, Vocabulary, Work

_NO_RANKS = np.zeros(0, np.int64)


class Parts(NamedTuple):
    """The tokens of a vocabulary in parts, in the order of their bytes. A part is one token or several.

    Attributes:
        first: [P] the rank of each part's first token.
        size: [P] the number of its tokens.
        kept: [P] the number of its tokens that may be chosen.
        log_probs: [P] the natural log-probability of all its tokens together, float64.
    """

    first: np.ndarray
    size: np.ndarray
    kept: np.ndarray
    log_probs: np.ndarray


class NextToken:
    """What experts say of the next token; `Experts.next_token` returns one. Valid until they read on.

    It changes nothing, except that it remembers what was computed.

    Args:
        memory: the experts' memory.
        place: where the next token stands.
        vocabulary: the tokens.
        says: [1, V] float32 the network's natural log-probabilities.
        beside: [1, V] those of a second network, or [0, V].
        seen: arrays to work in.
        work: arrays to work in.
        order: [V] the ids, sorted by their bytes.

    Attributes:
        order: [V] the ids, sorted by their bytes; an id's position there is its rank.
    """

    def __init__(
        self,
        memory: Memory,
        place: Place,
        vocabulary: Vocabulary,
        says: np.ndarray,
        beside: np.ndarray,
        seen: Seen,
        work: Work,
        *,
        order: np.ndarray,
    ) -> None:
        self._memory, self._place = memory, place
        self._arrays = vocabulary, says, beside, seen, work
        self.order, self._rank = order, vocabulary.rank
        self._opened = np.full(work.mass.size, UNKNOWN)
        self._opened[1] = 1.0

    def log_probs(self) -> np.ndarray:
        """Return the natural log-probability of each token [V], float64: all are computed."""
        counts = np.arange(len(self.order) + 1)
        return self.parts(0.0, counts, counts).log_probs[self._rank]

    def parts(self, least: float, kept: np.ndarray, needed: np.ndarray) -> Parts:
        """Return the tokens in parts of which those of several tokens are all less probable than ``least``.

        Args:
            least: a probability.
            kept: [V + 1] for each rank the number of tokens before it that may be chosen; a part without any
                may have several tokens, however probable.
            needed: [V + 1] the same of tokens that are each to be a part, however improbable.
        """
        size = len(self.order)
        first, count, bits = np.zeros(size, np.int64), np.zeros(size, np.int64), np.zeros(size)
        arrays = self._memory, self._copied_place(), *self._arrays
        found = entry_points().open(*arrays, kept, needed, least, self._opened, first, count, bits)
        first = first[:found]
        sizes = np.diff(first, append=size)
        return Parts(first, sizes, count[:found], -np.log(2) * bits[:found])

    def walk(self, uniform: float, kept: np.ndarray, excluded: np.ndarray = _NO_RANKS) -> int | None:
        """Return the token at which the sum of probabilities, in the order of the bytes, passes a number.

        Returns None if the excluded tokens have nearly all of the probability: the rest is lost in rounding.

        Args:
            uniform: the number, from 0 to below 1, as a part of what all tokens have that may be chosen.
            kept: as in `parts`; at least one may be chosen.
            excluded: the ranks of the tokens that may not be chosen, all of them; each is computed too.
        """
        arrays = self._memory, self._copied_place(), *self._arrays
        rank = entry_points().walk(*arrays, kept, excluded, uniform, self._opened)
        return int(self.order[rank]) if rank >= 0 else None

    def _copied_place(self) -> Place:
        return Place(*(array.copy() for array in self._place))

"""What would come next if certain tokens came first: continuations that no reader reads and nothing learns.

A branch is cheap: the experts' memory is shared and not changed. Knows readers; not what is searched for.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sttx_core.errors import UsageError
from sttx_train.predict.reading import Said, adapt, checked, move, next_log_probs

if TYPE_CHECKING:
    from sttx_train.predict.reader import Reader


class Branch:
    """A place after a reader's text and some tokens more.

    Its next token has the probability that the reader would give it, had it read the tokens without learning
    from them: neither the networks nor the counts, matches and mixing of the experts learn along a branch. At
    the reader's own place they agree exactly. Branches are valid until the reader reads on.

    Args:
        reader: where the branch starts; it stays as it is.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = copy.copy(reader)
        self._reader.unlearned = []

    def log_probs(self) -> np.ndarray:
        """Return the natural log-probability of each token as the next one ``[V]``, float64. Pure."""
        return branch_log_probs([self])[0]

    def after(self, token: int) -> Branch:
        """Return the branch that goes on by one token. Pure."""
        reader, (token,) = self._reader, checked(self._reader.predictor, [token])
        if reader.ahead is None:
            self.log_probs()
        child = Branch(reader)
        if reader.mixture is not None and reader.place is not None:
            child._reader.place = reader.mixture.experts.document()
            child._reader.place.load_state_dict(reader.place.state_dict())
            reader.mixture.experts.follow(child._reader.place, np.array([token]))
        assert reader.ahead is not None
        move(reader.predictor, child._reader, [token], _alone(reader.ahead.said))
        adapt(reader.predictor, [child._reader])
        return child


def _alone(said: Said) -> Said:
    """Return the same with states that share no memory with the branches that were asked beside this one."""
    frozen = None if said.frozen is None else said.frozen.select([0])
    return replace(said, state=said.state.select([0]), frozen=frozen)


def branch_log_probs(branches: Sequence[Branch]) -> np.ndarray:
    """Return the log-probabilities of each branch's next token ``[B, V]``: one forward pass for all. Pure.

    Raises:
        UsageError: the branches are of different predictors.
    """
    readers = [branch._reader for branch in branches]
    if len({id(reader.predictor) for reader in readers}) != 1:
        raise UsageError("branches of one predictor are needed, at least one")
    return next_log_probs(readers[0].predictor, readers)

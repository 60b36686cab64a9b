"""Many readers as one batch, for whatever serves or scores several documents at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sttx_core.errors import UsageError
from sttx_train.online.prices import Prices
from sttx_train.predict.distributions import Note, advance_with_expected, advance_with_log_probs
from sttx_train.predict.ordered import advance_in_order
from sttx_train.predict.reading import (
    advance_rows,
    learn_rows,
    next_log_probs,
    next_tokens,
    read_rows,
    undone,
)

if TYPE_CHECKING:
    from sttx_core.experts import NextToken
    from sttx_train.predict.predictor import Predictor
    from sttx_train.predict.reader import Reader
    from sttx_train.predict.shared import SharedReading


class PredictorBatch:
    """Readers of one predictor, read together.

    Results are those of each reader alone, up to 1e-4 bits a token in float32. Readers that share the
    memory of experts read in the order of the rows.

    Args:
        predictor: who predicts.
        readers: its readers, each once.

    Raises:
        UsageError: a reader is there twice.
    """

    def __init__(self, predictor: Predictor, readers: Sequence[Reader]) -> None:
        if len({id(reader) for reader in readers}) != len(readers):
            raise UsageError("a reader is in the batch twice: make one for each row")
        self.predictor, self.readers = predictor, list(readers)

    def log_probs(self) -> np.ndarray:
        """Return the natural log-probability of each next token ``[B, V]``, float64. Pure."""
        return next_log_probs(self.predictor, self.readers)

    def expected(self) -> list[np.ndarray | NextToken]:
        """Return what is expected as each next token, as `next_tokens` describes it. Pure."""
        return next_tokens(self.predictor, self.readers)

    def advance(self, ids: Sequence[Sequence[int]]) -> list[Prices]:
        """Read the tokens of each row, as `Reader.advance` does."""
        return advance_rows(self.predictor, self.readers, ids)

    def read(self, ids: Sequence[Sequence[int]]) -> None:
        """Read the tokens of each row as :meth:`advance` does; compute no prices if nothing needs them."""
        read_rows(self.predictor, self.readers, ids)

    def advance_with_log_probs(self, ids: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Read the tokens of each row as :meth:`advance` does, and return what was expected at each token.

        Returns:
            For each row ``[T, V]``, float64: at each of its tokens the natural log-probabilities of all
            tokens, as :meth:`log_probs` would have returned them there.

        Raises:
            UsageError: the predictor learns.
        """
        return advance_with_log_probs(self.predictor, self.readers, ids)

    def advance_with_expected(self, ids: Sequence[Sequence[int]], note: Note) -> None:
        """Read the tokens of each row as :meth:`advance` does; before each, note what is expected there.

        Args:
            ids: tokens for each row.
            note: is called with the row, the token, and what `expected` would have returned there.

        Raises:
            UsageError: the predictor learns.
        """
        advance_with_expected(self.predictor, self.readers, ids, note)

    def score(self, ids: Sequence[Sequence[int]]) -> list[Prices]:
        """Return what :meth:`advance` would return. Pure."""
        with undone(self.readers):
            return advance_rows(self.predictor, self.readers, ids, keep=False)

    def advance_in_order(
        self, pieces: Sequence[tuple[int, Sequence[int]]], *, networks: SharedReading | None = None
    ) -> list[Prices]:
        """Read pieces of documents, and return what each cost.

        The networks read the pieces of a row as one text and many rows at once; the experts read piece by
        piece, in order. So a piece costs what it costs in a loop of `Reader.advance`.

        Args:
            pieces: row of each piece, and the next tokens of that row. Until all are read, what the networks
                said of every token is held: V numbers a token, with experts.
            networks: those of several processes, which read the pieces together.
        """
        return advance_in_order(self.predictor, self.readers, pieces, networks)

    def learn(self, ids: Sequence[Sequence[int]]) -> list[Prices]:
        """Pay for the tokens of each row, and learn the windows that they complete, as `Reader.learn` does.

        Windows that are completed together are one optimizer step.
        """
        return learn_rows(self.predictor, self.readers, ids)

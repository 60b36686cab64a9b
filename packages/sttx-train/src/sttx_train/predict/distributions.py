"""Reads tokens and keeps what was expected at each of them, to show alternatives. Knows readers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sttx_core.errors import UsageError
from sttx_train.online.mixture import as_array
from sttx_train.predict.reading import Said, ask, checked, inputs, move, reach

if TYPE_CHECKING:
    from sttx_train.predict.predictor import Predictor
    from sttx_train.predict.reader import Reader

_LONGEST = 64  # tokens of a row in one forward pass: V numbers a token are kept


def advance_with_log_probs(
    predictor: Predictor, readers: Sequence[Reader], ids: Sequence[Sequence[int]]
) -> list[np.ndarray]:
    """Read the tokens of each row; return the log-probabilities of all tokens at each of them ``[T, V]``.

    Raises:
        UsageError: the predictor learns.
    """
    if predictor.learns:
        raise UsageError("this predictor learns: ask one that does not")
    left = [checked(predictor, row) for row in ids]
    size = predictor.loaded.model.config.vocab_size
    parts: list[list[np.ndarray]] = [[np.zeros((0, size))] for _ in readers]
    while rows := [row for row, rest in enumerate(left) if rest]:
        segments = [left[row][: reach(predictor, readers[row], _LONGEST)][:_LONGEST] for row in rows]
        saying = ask(predictor, [readers[row] for row in rows], segments)
        for row, segment, said in zip(rows, segments, saying, strict=True):
            del left[row][: len(segment)]
            parts[row].append(_expected(predictor, readers[row], segment, said))
            move(predictor, readers[row], segment, said)
    return [np.concatenate(part) for part in parts]


def _expected(predictor: Predictor, reader: Reader, segment: list[int], said: Said) -> np.ndarray:
    """Return the log-probabilities at each token of a segment; the experts read it."""
    if reader.mixture is None or reader.place is None:
        return as_array(said.network_TV).astype(np.float64)
    experts, (network, frozen) = reader.mixture.experts, inputs(predictor, said)
    rows = []
    for at, token in enumerate(segment):
        beside = None if frozen is None else frozen[at]
        rows.append(experts.log_probs(reader.place, network[at], beside))
        second = None if frozen is None else frozen[at : at + 1]
        experts.read(reader.place, network[at : at + 1], np.array([token]), second)
    return np.stack(rows)

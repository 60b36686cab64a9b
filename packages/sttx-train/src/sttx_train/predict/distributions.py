"""Reads tokens and keeps what was expected at each of them, to show alternatives. Knows readers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from sttx_core.errors import UsageError
from sttx_train.online.mixture import as_array
from sttx_train.predict.reading import Said, adapt, ask, checked, inputs, move, reach

if TYPE_CHECKING:
    from sttx_core.experts import NextToken
    from sttx_train.predict.predictor import Predictor
    from sttx_train.predict.reader import Reader

_LONGEST = 64  # tokens of a row in one forward pass: V numbers a token are kept


Note: TypeAlias = "Callable[[int, int, np.ndarray | NextToken], None]"
"""Takes the row, a token, and what was expected there, as `next_tokens` describes it."""


def advance_with_log_probs(
    predictor: Predictor, readers: Sequence[Reader], ids: Sequence[Sequence[int]]
) -> list[np.ndarray]:
    """Read the tokens of each row; return the log-probabilities of all tokens at each of them ``[T, V]``.

    Raises:
        UsageError: the predictor learns.
    """
    parts: list[list[np.ndarray]] = [[] for _ in readers]

    def note(row: int, token: int, expected: np.ndarray | NextToken) -> None:
        parts[row].append(expected if isinstance(expected, np.ndarray) else expected.log_probs())

    advance_with_expected(predictor, readers, ids, note)
    nothing = np.zeros((0, predictor.loaded.model.config.vocab_size))
    return [np.stack(part) if part else nothing for part in parts]


def advance_with_expected(
    predictor: Predictor, readers: Sequence[Reader], ids: Sequence[Sequence[int]], note: Note
) -> None:
    """Read the tokens of each row; before each of them, call ``note`` with what is expected there.

    Raises:
        UsageError: the predictor learns.
    """
    if predictor.learns:
        raise UsageError("this predictor learns: ask one that does not")
    left = [checked(predictor, row) for row in ids]
    while rows := [row for row, rest in enumerate(left) if rest]:
        segments = [left[row][: reach(predictor, readers[row], _LONGEST)][:_LONGEST] for row in rows]
        saying = ask(predictor, [readers[row] for row in rows], segments)
        for row, segment, said in zip(rows, segments, saying, strict=True):
            del left[row][: len(segment)]
            _note_each(predictor, readers[row], segment, said, partial(note, row))
            move(predictor, readers[row], segment, said)
        adapt(predictor, [readers[row] for row in rows])


def _note_each(
    predictor: Predictor,
    reader: Reader,
    segment: list[int],
    said: Said,
    note: Callable[[int, np.ndarray | NextToken], None],
) -> None:
    """Note what is expected at each token of a segment; the experts read it."""
    if reader.mixture is None or reader.place is None:
        for token, row in zip(segment, as_array(said.network_TV).astype(np.float64), strict=True):
            note(token, row)
        return
    experts, (network, frozen) = reader.mixture.experts, inputs(predictor, said)
    for at, token in enumerate(segment):
        beside = None if frozen is None else frozen[at]
        note(token, experts.next_token(reader.place, network[at], beside))
        second = None if frozen is None else frozen[at : at + 1]
        experts.read(reader.place, network[at : at + 1], np.array([token]), second)

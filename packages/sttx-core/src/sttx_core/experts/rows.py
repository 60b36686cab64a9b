"""Codes several documents side by side: one token of each in turn.

So a network can be asked for all documents in one call. Encoder and decoder must start, move and code rows in
the same order, because the experts, which all rows share, learn in that order.
"""

from collections.abc import Sequence

import numpy as np

from sttx_core.experts.coders import (
    AT,
    END,
    MODES,
    MORE_BYTES,
    MOST_BYTES,
    NOTE,
    NOTED,
    RANS,
    STATE,
    Coder,
    CoderName,
)
from sttx_core.experts.entry import entry_points
from sttx_core.experts.memory import Memory, Place, new_place, new_places
from sttx_core.experts.reading import Rates, Seen, Vocabulary, Work, new_work
from sttx_core.experts.vocabulary import vocabulary_of

_NO_DATA, _NOT_NOTED, _NO_INPUTS = np.zeros(0, np.uint8), np.zeros(0, np.int32), np.zeros(0)


class _Blocks:
    """Blocks of tokens, one in each row, and the bytes that they become.

    Args:
        count: most rows.
        mode: of the coder.
        vocabulary: the tokens.
        work: arrays to work in.
    """

    def __init__(self, count: int, mode: int, vocabulary: Vocabulary, work: Work) -> None:
        self._decode, self._vocabulary, self._work = mode, vocabulary, work
        self._first = np.zeros(count, np.int64)
        self._coder = Coder(_NOT_NOTED, _NO_DATA, np.zeros((count, STATE), np.uint64))
        self._encoding = True

    @property
    def _mode(self) -> int:
        return NOTE if self._encoding else self._decode

    def start_encoding(self, tokens: int) -> None:
        """Make room for the decisions of so many tokens, in all rows together."""
        noted = np.zeros(tokens * self._work.p.size, np.int32)
        self._coder = self._coder._replace(noted=noted, data=_NO_DATA)
        self._encoding = True

    def start_decoding(self, data: bytes) -> None:
        """Take the bytes of all blocks, one after another."""
        self._coder = self._coder._replace(noted=_NOT_NOTED, data=np.frombuffer(data, np.uint8).copy())
        self._encoding = False

    def start(self, row: int, start: int = 0, end: int = 0) -> None:
        """Start a block in a row; where its document stands stays as it is.

        Args:
            row: the row.
            start: while encoding, number of tokens of all blocks before; while decoding, where its bytes
                start in the data.
            end: while decoding, where they end.
        """
        state = self._coder.state[row]
        state[:] = 0
        if self._encoding:
            self._first[row] = state[NOTED] = start * self._work.p.size
        else:
            state[AT], state[END] = start, end
            entry_points().start(self._coder.data, state)

    def payload(self, row: int) -> bytes:
        """Return the bytes of the block that was started in a row."""
        noted = self._coder.noted[self._first[row] : int(self._coder.state[row, NOTED])]
        data = np.zeros(len(noted) * MOST_BYTES + MORE_BYTES, np.uint8)
        size = entry_points().encode(noted, data, self._decode)
        return (data[len(data) - size :] if self._decode == RANS else data[:size]).tobytes()

    def move(self, source: int, target: int) -> None:
        """Let a row stand where another one stands, which ends there."""
        self._coder.state[target] = self._coder.state[source]
        self._first[target] = self._first[source]


class CodedRows(_Blocks):
    """Documents that are coded side by side, by experts and networks. `Experts.rows` makes one.

    Call `start_encoding` or `start_decoding` first, and `start` for each block of tokens.

    Args:
        count: most rows.
        mode: of the coder.
        memory: of the experts, which all rows share.
        vocabulary: the tokens.
        rates: of learning.
        seen: arrays to work in.
        work: arrays to work in.
    """

    def __init__(
        self,
        count: int,
        mode: int,
        memory: Memory,
        vocabulary: Vocabulary,
        rates: Rates,
        seen: Seen,
        work: Work,
    ) -> None:
        super().__init__(count, mode, vocabulary, work)
        self._memory, self._rates, self._seen = memory, rates, seen
        self._places = new_places(count)

    def code(self, ids: np.ndarray, logits: np.ndarray, second: np.ndarray | None = None) -> None:
        """Code the next token of each of the first rows, and learn it.

        Args:
            ids: [B] int64 the tokens; while decoding they are written there.
            logits: [B, V or more] float32 what the network says of them. They are overwritten.
            second: those of a second network, or None.
        """
        beside = logits[:0] if second is None else second
        arrays = self._memory, self._places, self._vocabulary, _NO_INPUTS, logits, beside, ids[None]
        entry_points().code(*arrays, self._rates, self._seen, self._work, self._mode, self._coder)

    def place(self, row: int) -> Place:
        """Return a copy of where a row's document stands."""
        return Place(*(array[row].copy() for array in self._places))

    def set_place(self, row: int, place: Place | None) -> None:
        """Let a row continue from where `place` stood; None is the start of a document."""
        for array, value in zip(self._places, place or new_place(), strict=True):
            array[row] = value

    def move(self, source: int, target: int) -> None:
        """Let a row stand where another one stands, which ends there."""
        super().move(source, target)
        for array in self._places:
            array[target] = array[source]


class AloneRows(_Blocks):
    """Documents that are coded side by side by a network alone. `rows_without_experts` makes one.

    It is used as `CodedRows` is. It remembers nothing, so a document has no place here.
    """

    def code(self, ids: np.ndarray, logits: np.ndarray) -> None:
        """Code the next token of each of the first rows.

        Args:
            ids: [B] int64 the tokens; while decoding they are written there.
            logits: [B, V or more] float32 what the network says of them. They are overwritten.
        """
        entry_points().code_alone(self._vocabulary, logits, ids, self._work, self._mode, self._coder)

    def place(self, row: int) -> None:
        """Return None: there is no place."""

    def set_place(self, row: int, place: None) -> None:
        """Do nothing."""


def rows_without_experts(tokens: Sequence[bytes], count: int, coder: CoderName = "ac") -> AloneRows:
    """Return what codes so many documents side by side, with what a network says of them and nothing else.

    Args:
        tokens: bytes of each id, at least two.
        count: most rows.
        coder: the entropy coder.
    """
    work = new_work(len(tokens), (len(tokens) - 1).bit_length())
    return AloneRows(count, MODES[coder], vocabulary_of(tokens), work)

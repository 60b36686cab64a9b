"""The experts as objects: `Experts` for a stream, `ExpertsDocument` for each document in it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sttx_core.errors import UsageError
from sttx_core.experts.coders import (
    END,
    MODES,
    MORE_BYTES,
    MOST_BYTES,
    NOTE,
    NOTED,
    STATE,
    Coder,
    CoderName,
)
from sttx_core.experts.config import ExpertsConfig
from sttx_core.experts.entry import entry_points
from sttx_core.experts.memory import (
    Memory,
    Place,
    aligned,
    bounds,
    new_memory,
    new_place,
)
from sttx_core.experts.next_token import NextToken
from sttx_core.experts.reading import Rates, new_seen, new_work
from sttx_core.experts.rows import CodedRows
from sttx_core.experts.vocabulary import vocabulary_of
from sttx_core.saved_state import damaged

Known = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""For each array of a memory the places that differ from a new one, and their values; slots are whole."""


class ExpertsDocument:
    """Where reading stands in one document. `Experts.document` makes one."""

    def __init__(self, memory: Memory, vocab_size: int) -> None:
        self.place = new_place()
        self._bounds = bounds(memory, vocab_size)
        self._pages = memory.stamp.size

    def __len__(self) -> int:
        return int(self.place.at[0])

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return copies of the arrays."""
        return _copied(self.place)

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            CheckpointError: an array is missing, or has another shape, type or range.
        """
        what = "experts' document"
        _check(self.place, state, what, self._bounds)
        tokens, page, _, column, line = np.asarray(state["at"]).tolist()
        lengths = np.asarray(state["match"])[:, 1:]
        inside = 0 <= tokens < 2**62 and -1 <= page < self._pages and 0 <= column < 2**62 and line in (0, 1)
        if not (inside and lengths.min() >= 0):
            raise damaged(what, "its place is outside the history")
        _restore(self.place, state)


class Experts:
    """Experts over the tokens of one vocabulary, and the memory that all documents of a stream share.

    A token costs the sum of its decisions, so `log_probs` sums to one by construction, and `read` pays what
    `log_probs` says. All numbers follow from the calls, in order: no time, thread or random number enters.

    Args:
        tokens: bytes of each id. Ids without bytes are allowed.
        config: sizes and rates.
        known: what they know already, as `known` of experts with the same tokens and config returned it.

    Attributes:
        config: the sizes and rates.
        vocab_size: number of tokens, V.
        order: [V] the ids, sorted by their bytes; an id's position there is its rank.
        depth: most decisions of a token.

    Raises:
        UsageError: there are fewer than two tokens.

    >>> experts = Experts([b"", b"a", b"b"], ExpertsConfig(slot_bits=12, history_bits=12))
    >>> document = experts.document()
    >>> uniform = np.log(np.full((60, 3), 1 / 3))
    >>> bits = experts.read(document, uniform, np.array([1, 2] * 30))
    >>> bool(bits[:10].sum() > 8 > 2 > bits[-10:].sum())
    True
    >>> bool(np.isclose(np.exp(experts.log_probs(document, uniform[0])).sum(), 1))
    True
    """

    def __init__(
        self, tokens: Sequence[bytes], config: ExpertsConfig | None = None, known: Known | None = None
    ) -> None:
        if len(tokens) < 2:
            raise UsageError(f"experts need a vocabulary of two tokens or more, not {len(tokens)}")
        self.config = config or ExpertsConfig()
        self.vocab_size = len(tokens)
        self._vocabulary = vocabulary_of(tokens)
        self.order = self._vocabulary.order.astype(np.int64)
        self.depth = (len(tokens) - 1).bit_length()
        self._memory = new_memory(len(tokens), self.depth, self.config)
        for name, (places, values) in (known or {}).items():
            array = getattr(self._memory, name)
            (array if name == "slots" else array.reshape(-1))[places] = values
        self._seen, self._work = new_seen(), new_work(len(tokens), self.depth)
        rates = self.config
        self._rates = Rates(rates.rate, rates.first_rate, rates.final_rate, rates.limit)
        self._even: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the memory; they do not grow."""
        return sum(array.nbytes for array in self._memory)

    @property
    def tokens_read(self) -> int:
        """Number of tokens read so far, of all documents."""
        return int(self._memory.tokens[0])

    def document(self) -> ExpertsDocument:
        """Return the start of a document."""
        return ExpertsDocument(self._memory, self.vocab_size)

    def copy(self) -> Experts:
        """Return experts that know the same; what either reads does not change the other."""
        other = copy.copy(self)
        slots = aligned(len(self._memory.slots))
        slots[...] = self._memory.slots
        others = {name: array.copy() for name, array in self._memory._asdict().items() if name != "slots"}
        other._memory = Memory(slots=slots, **others)
        other._seen, other._work = new_seen(), new_work(self.vocab_size, self.depth)
        return other

    def known(self) -> Known:
        """Return what they know, as differences from experts that have read nothing."""
        fresh = new_memory(self.vocab_size, self.depth, self.config)
        known = {}
        for name, array in self._memory._asdict().items():
            if name == "slots":
                places = np.flatnonzero(array[:, 0])
                known[name] = places.astype(np.int32), array[places]
            else:
                places = np.flatnonzero(array != getattr(fresh, name))
                known[name] = places.astype(np.int32), array.reshape(-1)[places]
        return known

    def read(
        self,
        document: ExpertsDocument,
        log_probs: np.ndarray,
        ids: np.ndarray,
        second: np.ndarray | None = None,
        *,
        slopes: np.ndarray | None = None,
    ) -> np.ndarray:
        """Pay for tokens and learn them.

        Args:
            document: where they stand; it moves on.
            log_probs: [T, V] the network's natural log-probabilities; row t without knowledge of ids[t].
            ids: [T] the tokens.
            second: [T, V] those of a second network, or None.
            slopes: [T, depth] float64, or None. It receives the derivative of each token's bits by the
                network's input at each decision of `path`: the stretched probability of the right half. It is
                0 where there is no decision, or where the input or the price is at its bound.

        Returns:
            [T] bits, float64.

        Raises:
            UsageError: shapes differ, or an id is not in the vocabulary.
        """
        ids = self._checked(ids)
        if slopes is not None and (slopes.shape, slopes.dtype) != ((len(ids), self.depth), np.float64):
            raise UsageError(f"slopes must be float64 of the shape {(len(ids), self.depth)}")
        says = self._said(log_probs, len(ids))
        beside = self._said(second, len(ids)) if second is not None else says[:0]
        bits = np.zeros(len(ids))
        arrays = self._memory, document.place, self._vocabulary, says, beside
        filled = np.zeros((len(ids), 0)) if slopes is None else slopes
        entry_points().read(*arrays, ids, self._rates, self._seen, self._work, bits, filled)
        return bits

    def encode(self, document: ExpertsDocument, ids: np.ndarray, coder: CoderName = "ac") -> bytes:
        """Return tokens as few bytes, without a network, and learn them.

        Args:
            document: where the tokens stand; it moves on.
            ids: [T] the tokens; their number is not in the bytes.
            coder: the entropy coder.

        Raises:
            UsageError: an id is not in the vocabulary.
        """
        noted = self.decisions(document, ids)
        data = np.zeros(len(noted) * MOST_BYTES + MORE_BYTES, np.uint8)
        size = entry_points().encode(noted, data, MODES[coder])
        return (data[:size] if coder == "ac" else data[len(data) - size :]).tobytes()

    def decode(
        self, document: ExpertsDocument, data: bytes, count: int, coder: CoderName = "ac"
    ) -> np.ndarray:
        """Return the tokens that `encode` was given, and learn them as it did.

        Damaged bytes give other tokens, not an error: keep a checksum.

        Args:
            document: where the tokens stand; it moves on.
            data: what `encode` returned.
            count: the number of tokens, T.
            coder: the one that encoded.

        Returns:
            [T] int64.
        """
        ids = np.zeros(count, np.int64)
        self._code(document, ids, MODES[coder], np.zeros(0, np.int32), np.frombuffer(data, np.uint8).copy())
        return ids

    def decisions(self, document: ExpertsDocument, ids: np.ndarray) -> np.ndarray:
        """Return each decision of tokens, without a network, and learn them.

        Returns:
            [N] int32 of 2 q + answer, where q 2^-24 is the probability of the right half, the answer 1.

        Raises:
            UsageError: an id is not in the vocabulary.
        """
        ids = self._checked(ids).copy()
        noted = np.zeros(len(ids) * self.depth, np.int32)
        return noted[: self._code(document, ids, NOTE, noted, np.zeros(0, np.uint8))]

    def _code(
        self, document: ExpertsDocument, ids: np.ndarray, mode: int, noted: np.ndarray, data: np.ndarray
    ) -> int:
        """Run `code_tokens`; return the number of decisions that it noted."""
        if self._even is None:
            self._even = np.zeros(1 << self.depth)
            equal = np.zeros(self.vocab_size, np.float32)
            entry_points().inputs(equal, self._vocabulary.order, self._work, self._even)
        coder = Coder(noted, data, np.zeros((1, STATE), np.uint64))
        coder.state[0, END] = data.size
        entry_points().start(data, coder.state[0])
        places = Place(*(array[None] for array in document.place))
        none = np.zeros((0, self.vocab_size), np.float32)
        arrays = self._memory, places, self._vocabulary, self._even, none, none, ids[:, None]
        entry_points().code(*arrays, self._rates, self._seen, self._work, mode, coder)
        return int(coder.state[0, NOTED])

    def rows(self, count: int, coder: CoderName = "ac") -> CodedRows:
        """Return what codes so many documents side by side, with what networks say of them."""
        arrays = self._memory, self._vocabulary, self._rates, self._seen, self._work
        return CodedRows(count, MODES[coder], *arrays)

    def path(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the ranges of ranks between which each token's decisions choose.

        A decision is whether the token's rank is in the left half, from ``low`` to ``middle - 1``, or in the
        right half, from ``middle`` to ``high - 1``. There is none where ``middle`` is V.

        Args:
            ids: [T] the tokens.

        Returns:
            ``low``, ``middle`` and ``high``, each [T, depth] of 0 to V.

        Raises:
            UsageError: an id is not in the vocabulary.
        """
        ranks = self._vocabulary.rank[self._checked(ids)][:, None]
        width = 2 ** np.arange(self.depth, 0, -1)
        low = ranks // width * width
        middle, high = low + width // 2, low + width
        return low, np.minimum(middle, self.vocab_size), np.minimum(high, self.vocab_size)

    def log_probs(
        self, document: ExpertsDocument, log_probs: np.ndarray, second: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the natural log-probability of each token as the next one; changes nothing.

        Args:
            document: where the next token stands.
            log_probs: [V] the network's.
            second: [V] those of a second network, or None.

        Returns:
            [V] float64. `read` pays exactly what stands here, in bits.
        """
        return self.next_token(document, log_probs, second).log_probs()

    def next_token(
        self, document: ExpertsDocument, log_probs: np.ndarray, second: np.ndarray | None = None
    ) -> NextToken:
        """Return the probabilities of the next token as an object that computes only what it is asked for.

        It takes as arguments what `log_probs` takes, and is valid until the experts read on.
        """
        says = self._said(np.asarray(log_probs)[None], 1)
        beside = self._said(np.asarray(second)[None], 1) if second is not None else says[:0]
        arrays = document.place, self._vocabulary, says, beside, self._seen, self._work
        return NextToken(self._memory, *arrays, order=self.order)

    def follow(self, document: ExpertsDocument, ids: np.ndarray) -> None:
        """Let a document stand after tokens that the memory does not learn: what if they came next?

        Only the document changes. Until it reads on, `log_probs` says what would follow. From such a place
        do not `read`: the history would lack the tokens.

        Args:
            document: where the tokens stand; it moves on.
            ids: [T] the tokens.

        Raises:
            UsageError: an id is not in the vocabulary.
        """
        entry_points().follow(self._memory, document.place, self._vocabulary, self._checked(ids), self._seen)

    def score(
        self,
        document: ExpertsDocument,
        log_probs: np.ndarray,
        ids: np.ndarray,
        second: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return what `read` would return; document and memory are afterwards as before."""
        memory, place = self.state_dict(), document.state_dict()
        try:
            return self.read(document, log_probs, ids, second)
        finally:
            _restore(self._memory, memory)
            _restore(document.place, place)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return copies of the memory's arrays."""
        return _copied(self._memory)

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            CheckpointError: an array is missing, or has another shape, type or range: it is damaged, or of
                another config or vocabulary.
        """
        _check(self._memory, state, "experts' memory", bounds(self._memory, self.vocab_size))
        _restore(self._memory, state)

    def _checked(self, ids: np.ndarray) -> np.ndarray:
        ids = np.asarray(ids, dtype=np.int64)
        if ids.ndim != 1 or (ids.size and not (ids.min() >= 0 and ids.max() < self.vocab_size)):
            raise UsageError(f"ids must be one row of numbers from 0 to {self.vocab_size - 1}")
        return ids

    def _said(self, log_probs: np.ndarray, rows: int) -> np.ndarray:
        """Return checked log-probabilities [T, V] as float32."""
        if log_probs.shape != (rows, self.vocab_size):
            raise UsageError(
                f"log_probs must have the shape {(rows, self.vocab_size)}, not {log_probs.shape}"
            )
        return np.ascontiguousarray(log_probs, np.float32)


def _copied(arrays: Memory | Place) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in arrays._asdict().items()}


def _check(
    arrays: Memory | Place, state: Mapping[str, Any], what: str, limits: Mapping[str, tuple[float, float]]
) -> None:
    """Raise a `CheckpointError` unless each array has its shape and type, and values that can be used."""
    current = arrays._asdict()
    if state.keys() != current.keys():
        raise damaged(what, f"it has the arrays {sorted(state)}, not {sorted(current)}")
    for name, array in current.items():
        saved = np.asarray(state[name])
        if (saved.shape, saved.dtype) != (array.shape, array.dtype):
            expected = f"{array.dtype} {array.shape}"
            raise damaged(what, f"{name} is {saved.dtype} {saved.shape}, expected {expected}")
        least, most = limits.get(name, (None, None))
        if least is not None and not (saved.min() >= least and saved.max() <= most):
            raise damaged(what, f"{name} has values outside {least} to {most}")


def _restore(arrays: Memory | Place, state: Mapping[str, Any]) -> None:
    for name, array in arrays._asdict().items():
        array[...] = state[name]

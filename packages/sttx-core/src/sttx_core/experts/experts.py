"""The experts as objects: `Experts` for a stream, `ExpertsDocument` for each document in it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sttx_core.errors import UsageError
from sttx_core.experts.config import ExpertsConfig
from sttx_core.experts.entry import entry_points
from sttx_core.experts.memory import Memory, Place, bounds, new_memory, new_place
from sttx_core.experts.reading import Rates, Vocabulary, new_seen, new_work
from sttx_core.saved_state import damaged

_LETTERS = [*b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz", *range(128, 256)]
_NONE = np.zeros(1)


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
        tokens, page, _, column = np.asarray(state["at"]).tolist()
        lengths = np.asarray(state["match"])[:, 1:]
        if not (
            0 <= tokens < 2**62 and -1 <= page < self._pages and 0 <= column < 2**62 and lengths.min() >= 0
        ):
            raise damaged(what, "its place is outside the history")
        _restore(self.place, state)


class Experts:
    """Experts over the tokens of one vocabulary, and the memory that all documents of a stream share.

    A token costs the sum of its decisions, so `log_probs` sums to one by construction, and `read` pays what
    `log_probs` says. All numbers follow from the calls, in order: no time, thread or random number enters.

    Args:
        tokens: bytes of each id. Ids without bytes are allowed.
        config: sizes and rates.

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

    def __init__(self, tokens: Sequence[bytes], config: ExpertsConfig | None = None) -> None:
        if len(tokens) < 2:
            raise UsageError(f"experts need a vocabulary of two tokens or more, not {len(tokens)}")
        self.config = config or ExpertsConfig()
        self.vocab_size = len(tokens)
        self._order = np.array(sorted(range(len(tokens)), key=lambda token: (tokens[token], token)))
        self._vocabulary = Vocabulary(
            rank=np.argsort(self._order),
            data=np.frombuffer(b"".join(tokens) or b"\0", np.uint8),
            start=np.cumsum([0, *map(len, tokens)]),
            in_words=np.isin(np.arange(256), _LETTERS),
        )
        depth = (len(tokens) - 1).bit_length()
        self._memory = new_memory(len(tokens), depth, self.config)
        self._seen, self._work = new_seen(), new_work(depth)

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

    def read(
        self,
        document: ExpertsDocument,
        log_probs: np.ndarray,
        ids: np.ndarray,
        second: np.ndarray | None = None,
    ) -> np.ndarray:
        """Pay for tokens and learn them.

        Args:
            document: where they stand; it moves on.
            log_probs: [T, V] the network's natural log-probabilities; row t without knowledge of ids[t].
            ids: [T] the tokens.
            second: [T, V] those of a second network, or None.

        Returns:
            [T] bits, float64.

        Raises:
            UsageError: shapes differ, or an id is not in the vocabulary.
        """
        ids = np.asarray(ids, dtype=np.int64)
        if ids.ndim != 1 or (ids.size and not (ids.min() >= 0 and ids.max() < self.vocab_size)):
            raise UsageError(f"ids must be one row of numbers from 0 to {self.vocab_size - 1}")
        mass = self._mass(log_probs, len(ids))
        beside = np.zeros((len(ids), 1)) if second is None else self._mass(second, len(ids))
        bits = np.zeros(len(ids))
        config = self.config
        rates = Rates(config.rate, config.first_rate, config.final_rate, config.limit)
        arrays = self._memory, document.place, self._vocabulary, mass, beside
        entry_points().read(*arrays, ids, rates, self._seen, self._work, bits)
        return bits

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
        place = Place(*(array.copy() for array in document.place))
        mass = self._mass(np.asarray(log_probs)[None], 1)[0]
        beside = _NONE if second is None else self._mass(np.asarray(second)[None], 1)[0]
        bits = np.zeros(self.vocab_size)
        entry_points().price_all(
            self._memory, place, self._vocabulary, mass, beside, self._seen, self._work, bits
        )
        return -np.log(2) * bits[self._vocabulary.rank]

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

    def _mass(self, log_probs: np.ndarray, rows: int) -> np.ndarray:
        """Return [T, V+1] the probability of all ranks before each one."""
        if log_probs.shape != (rows, self.vocab_size):
            raise UsageError(
                f"log_probs must have the shape {(rows, self.vocab_size)}, not {log_probs.shape}"
            )
        mass = np.zeros((rows, self.vocab_size + 1))
        entry_points().accumulate(np.exp(log_probs), self._order, mass)
        return mass


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

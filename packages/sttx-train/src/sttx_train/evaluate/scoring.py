"""Prices a stream of traces, trace by trace; nothing learns but the experts.

Sessions interleave, so each document has its own reader. Traces are buffered and read together, which uses
the machine; they cost what they cost one by one. Knows a predictor and traces, not where these come from.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from sttx_core.errors import UsageError
from sttx_core.render import render_parts
from sttx_core.traces import Trace
from sttx_train.byte_lengths import token_byte_lengths
from sttx_train.predict import Predictor, Prices, Reader
from sttx_train.predict.shared import SharedReading

_MOST = 4096
_NUMBERS = 2**24  # most log-probabilities that are held at once, by each network


@dataclass(frozen=True, kw_only=True)
class ScoredTrace:
    """A trace and what its text costs.

    Attributes:
        trace: the trace; it has text.
        ids: its T tokens.
        paid: ``[T]`` which of them are paid for.
        prices: what each of them costs, 0 where it is not paid for.
        bytes: UTF-8 bytes of the tokens that are paid for.
    """

    trace: Trace
    ids: tuple[int, ...]
    paid: np.ndarray
    prices: Prices
    bytes: int

    @property
    def bits(self) -> float:
        """The price by everything that predicts."""
        return float(self.prices.bits.sum())

    @property
    def network_bits(self) -> float:
        """The price by the learned network alone."""
        return float(self.prices.network.sum())

    @property
    def frozen_bits(self) -> float:
        """The price by the frozen network alone; NaN if it is not computed."""
        return float(self.prices.frozen.sum())


def score_traces(
    predictor: Predictor,
    traces: Iterable[Trace],
    *,
    batch: int | None = None,
    documents: int | None = None,
    networks: SharedReading | None = None,
) -> Iterator[ScoredTrace]:
    """Yield what each trace with text costs, in the order of the stream.

    The networks learn nothing; the experts remember what they read, in the order of the stream. Prices do not
    depend on ``batch``, up to 1e-4 bits a token in float32.

    Args:
        predictor: who predicts.
        traces: the stream; it is rendered as in training.
        batch: tokens that are read together, of one or many documents: more of them are faster and take more
            memory. By default 4,096, fewer with a vocabulary of more than 4,096 tokens.
        documents: most documents whose readers are kept; beyond it the least recently used starts again. By
            default as while learning, ``LearnerConfig.max_documents``.
        networks: those of several processes, which read the documents together.

    Raises:
        UsageError: ``batch`` or ``documents`` is less than 1.
    """
    if batch is None:
        batch = max(64, min(_MOST, _NUMBERS // predictor.loaded.model.config.vocab_size))
    if documents is None:
        documents = predictor.learner.config.max_documents
    for name, value in (("batch", batch), ("documents", documents)):
        if value < 1:
            raise UsageError(f"--{name} must be at least 1, not {value!r}")
    return _scored(TraceScorer(predictor, batch=batch, documents=documents, networks=networks), traces)


def _scored(buffer: TraceScorer, traces: Iterable[Trace]) -> Iterator[ScoredTrace]:
    for trace in traces:
        yield from buffer.add(trace)
    yield from buffer.read()


@dataclass
class _Waiting:
    """A trace that is not read to its end."""

    trace: Trace
    ids: tuple[int, ...]
    paid: np.ndarray
    left: int
    prices: list[Prices] = field(default_factory=list)


class TraceScorer:
    """Collects pieces of traces, and reads them when there are enough, or when it is asked to.

    Readers are chosen when a trace arrives, so which of them are forgotten does not depend on the batch.

    Args:
        predictor: who predicts.
        batch: tokens that are read together, of one or many documents.
        documents: most documents whose readers are kept.
        alone: each document has a memory of experts of its own, at first a copy of the predictor's.
        networks: those of several processes, which read the documents together.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        batch: int = _MOST,
        documents: int = 64,
        alone: bool = False,
        networks: SharedReading | None = None,
    ) -> None:
        self._networks = networks
        self.predictor, self.batch, self.documents, self.alone = predictor, batch, documents, alone
        self.byte_lengths = token_byte_lengths(predictor.loaded.tokenizer)
        self._readers: OrderedDict[str, Reader] = OrderedDict()
        self._waiting: deque[_Waiting] = deque()
        self._rows: list[Reader] = []
        self._row_of: dict[int, int] = {}  # by the reader's identity: `_rows` keeps it alive
        self._pieces: list[tuple[int, Sequence[int]]] = []
        self._owners: list[_Waiting] = []
        self._size = 0

    def add(self, trace: Trace) -> Iterator[ScoredTrace]:
        """Buffer a trace; whenever the buffer is full, read it and yield the traces that ended."""
        ids, paid = [], []
        for part in render_parts(trace):
            encoded = self.predictor.loaded.tokenizer.encode(part.text)
            ids += encoded
            paid += [part.paid] * len(encoded)
        if not ids:
            return
        waiting = _Waiting(trace, tuple(ids), np.array(paid), len(ids))
        self._waiting.append(waiting)
        reader = self._reader(trace.document)
        for start in range(0, len(ids), self.batch):
            yield from self._put(reader, waiting, waiting.ids[start : start + self.batch])

    def _put(self, reader: Reader, waiting: _Waiting, ids: Sequence[int]) -> Iterator[ScoredTrace]:
        while ids:
            first, ids = ids[: self.batch - self._size], ids[self.batch - self._size :]
            row = self._row_of.setdefault(id(reader), len(self._rows))
            if row == len(self._rows):
                self._rows.append(reader)
            self._pieces.append((row, first))
            self._owners.append(waiting)
            self._size += len(first)
            if self._size == self.batch or len(self._rows) > self.documents:
                yield from self.read()

    def read(self) -> Iterator[ScoredTrace]:
        """Read what is buffered, and yield the traces that are read to their end."""
        prices = self.predictor.batch(self._rows).advance_in_order(self._pieces, networks=self._networks)
        for waiting, price in zip(self._owners, prices, strict=True):
            waiting.prices.append(price)
            waiting.left -= len(price)
        self._rows, self._pieces, self._owners, self._size = [], [], [], 0
        self._row_of.clear()
        while self._waiting and not self._waiting[0].left:
            yield self._priced(self._waiting.popleft())

    def reader(self, document: str) -> Reader | None:
        """Return the reader of a document; None if none is kept."""
        return self._readers.get(document)

    def _reader(self, document: str) -> Reader:
        reader = self._readers.get(document) or self.predictor.read(document, alone=self.alone)
        self._readers[document] = reader
        self._readers.move_to_end(document)
        while len(self._readers) > self.documents:
            self._readers.popitem(last=False)
        return reader

    def _priced(self, done: _Waiting) -> ScoredTrace:
        whole = Prices.join(done.prices)
        return ScoredTrace(
            trace=done.trace,
            ids=done.ids,
            paid=done.paid,
            prices=Prices(
                bits=np.where(done.paid, whole.bits, 0.0),
                network=np.where(done.paid, whole.network, 0.0),
                frozen=np.where(done.paid, whole.frozen, 0.0),
            ),
            bytes=int(self.byte_lengths[np.asarray(done.ids)][done.paid].sum()),
        )

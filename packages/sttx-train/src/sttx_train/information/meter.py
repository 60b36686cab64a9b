"""Where measuring stands: a reader of one document, and a memory of experts that nobody else shares.

Knows a predictor; no formulas. All prices are the reader's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from sttx_core.errors import UsageError
from sttx_core.saved_state import damaged
from sttx_train.information.cost import Cost
from sttx_train.saved_tensors import as_arrays, as_tensor

if TYPE_CHECKING:
    from sttx_train.predict import Predictor

Text = str | bytes
"""A text, or any bytes; a text counts as its UTF-8."""

_PASS = 4096  # tokens that are read together
_NUMBERS = 2**24  # most log-probabilities that are held at once
_EXPERTS = "experts."
_WHAT = "state of a meter"


class Meter:
    """Prices texts by one predictor, from where it stands in a document.

    A new meter stands at a document's start. Its experts know what those of the predictor know: nothing, or
    what a checkpoint's run has read. They are a copy, so the predictor stays as it is.

    Args:
        predictor: who predicts, with experts or by the network alone; it does not learn by gradient.
        document: a document that a run has read, to continue where its training left it; None to start one.

    Attributes:
        predictor: who predicts.

    Raises:
        UsageError: the predictor learns, or carries no state of the document.
    """

    def __init__(self, predictor: Predictor, document: str | None = None) -> None:
        if predictor.learns:
            raise UsageError("this predictor learns while it reads: measure by one that does not")
        if document is not None and document not in predictor.learner.carried.entries:
            raise UsageError(f"no state of the document {document!r} is carried: name another, or none")
        self.predictor = predictor
        self._reader = predictor.read(document or "", alone=True, go_on=document is not None)
        self._lengths = np.array([len(token) for token in predictor.tokens], np.int64)
        self._pass = max(64, min(_PASS, _NUMBERS // len(predictor.tokens)))

    def fresh(self) -> Meter:
        """Return a meter at a document's start, which has read nothing."""
        return Meter(self.predictor)

    def read(self, texts: Iterable[Text], advance: Callable[[int], object] = lambda _: None) -> list[Cost]:
        """Read texts one after another, and return what each costs after those before it.

        Each text is encoded by itself, so a token ends where a text ends. Prices do not depend on how texts
        are split over calls, up to 1e-4 bits a token in float32.

        Args:
            texts: the texts, in order.
            advance: called with the number of bytes as they are read.
        """
        ids = [self._encoded(text) for text in texts]
        flat = np.concatenate([np.zeros(0, np.int64), *ids])
        parts = []
        for start in range(0, len(flat), self._pass):
            chunk = flat[start : start + self._pass]
            (prices,) = self.predictor.batch([self._reader]).advance_in_order([(0, chunk.tolist())])
            part = Cost(bits_T=prices.bits, network_T=prices.network, bytes_T=self._lengths[chunk])
            parts.append(part)
            advance(part.bytes)
        return Cost.join(parts).cut([len(row) for row in ids])

    def measure(self, texts: Iterable[Text], advance: Callable[[int], object] = lambda _: None) -> list[Cost]:
        """Return what :meth:`read` would return. Pure."""
        with self.undone():
            return self.read(texts, advance)

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Undo, at the end, what is read in the block."""
        state = self.state_dict()
        try:
            yield
        finally:
            self.load_state_dict(state)

    def _encoded(self, text: Text) -> np.ndarray:
        tokenizer = self.predictor.loaded.tokenizer
        ids = tokenizer.encode_bytes(text) if isinstance(text, bytes) else tokenizer.encode(text)
        return np.asarray(ids, np.int64)

    # -- saving --------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of everything that decides what texts cost, as ``tensors`` and JSON-able ``meta``."""
        state = self._reader.state_dict()
        if self._reader.mixture is not None:
            memory = self._reader.mixture.experts.state_dict()
            state["tensors"] |= {_EXPERTS + name: as_tensor(array) for name, array in memory.items()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Stand where :meth:`state_dict` was called, in this meter or in another of the same predictor.

        Raises:
            CheckpointError: the state is damaged, or of a predictor with other experts.
        """
        memory, rest = {}, {}
        for name, tensor in state["tensors"].items():
            into = memory if name.startswith(_EXPERTS) else rest
            into[name.removeprefix(_EXPERTS)] = tensor
        mixture = self._reader.mixture
        if (mixture is not None) != bool(memory):
            raise damaged(_WHAT, "it is of a predictor with other experts")
        if mixture is not None:
            mixture.experts.load_state_dict(as_arrays(_WHAT, memory))
        self._reader.load_state_dict({"tensors": rest, "meta": state["meta"]})

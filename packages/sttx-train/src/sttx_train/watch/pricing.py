"""Who prices a watched stream: frozen or learned networks, and for each document experts of its own.

A loop is what a session repeats. So experts start empty in every document: what other sessions, or
the run of a checkpoint, have read must not make a session look like a repeat.
"""

from __future__ import annotations

import os

from sttx_core.experts import ExpertsConfig
from sttx_core.traces import Trace
from sttx_train.evaluate import ScoredTrace, TraceScorer
from sttx_train.formats import LoadedModel
from sttx_train.online import Mixture
from sttx_train.predict import Predictor, Reader
from sttx_train.watch.clipping import clipped

MEMORY = ExpertsConfig(slot_bits=16, history_bits=15, index_bits=13)
"""Sizes of the experts of one document: about 2.5 MB, which remember the last 32,768 tokens."""


class Pricer:
    """Prices traces as they come, each on its own.

    Args:
        loaded: the frozen model and its vocabulary.
        learned: what was learned of it, as `Predictor` takes it; its experts are not used.
        most: characters of a trace that are priced, from its start and its end.
        documents: most documents whose states are kept; beyond it the least recently used starts again.
        memory: sizes of each document's experts.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        learned: str | os.PathLike[str] | None = None,
        *,
        most: int = 1024,
        documents: int = 64,
        memory: ExpertsConfig = MEMORY,
    ) -> None:
        self.most = most
        self.predictor = Predictor(loaded, learned, experts=False)
        self.predictor.learner.use(Mixture(self.predictor.tokens, 1, memory))
        self._scorer = TraceScorer(self.predictor, documents=documents, alone=True)

    def price(self, trace: Trace) -> ScoredTrace | None:
        """Return what a trace costs; None if it has no text."""
        priced = [*self._scorer.add(clipped(trace, self.most)), *self._scorer.read()]
        return priced[0] if priced else None

    def reader(self, document: str) -> Reader | None:
        """Return where reading stands in a document; None if it is not kept."""
        return self._scorer.reader(document)

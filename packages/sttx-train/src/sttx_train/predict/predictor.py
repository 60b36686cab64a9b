"""Who predicts: the frozen network, what was learned, and experts, as one object.

Training, scoring, generating and compressing all ask a `Predictor`. It knows models and what was learned of
them; where reading stands in a document is a `Reader`'s.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from sttx_core.errors import UsageError
from sttx_core.experts import ExpertsConfig
from sttx_core.phrases import PhraseConfig
from sttx_core.tokenizers import Tokenizer
from sttx_train.byte_lengths import every_token
from sttx_train.formats import LoadedModel
from sttx_train.generate import Constraint, Generation, SamplingConfig
from sttx_train.online import LearnerConfig, Mixture, OnlineLearner, StepReport, Window
from sttx_train.predict.batch import PredictorBatch
from sttx_train.predict.learned import Learned, find_learned
from sttx_train.predict.reader import Reader

_NOTHING_LEARNS = LearnerConfig(scope=(), inject="none", phrases="off", replay_rows=0, frozen=False)


class Predictor:
    """Predicts the next token of documents, and learns from them if asked to.

    Args:
        loaded: the frozen model and its vocabulary.
        learned: what was learned of it: the folder of a run of `sttx train` or of one of its checkpoints, or
            the file of a tuned state; None for nothing. A predictor that does not learn takes half of the
            average of a run's S0, because the last S0 fits the newest text only.
        experts: mix experts in. Those of a checkpoint know what its run has read; others start empty.
        learning: how to learn, to start learning. With ``learned`` leave it out: a checkpoint says how.
        learns: whether :meth:`Reader.learn` may be called; by default with ``learning``.
        phrase_config: how phrases are found while learning.
        window: base tokens of a window; a checkpoint's own where there is one.
        state_lr: rate of the outer step, which readers take at a window's end on an offset of their document;
            0 for none, None for what ``learned`` or ``learning`` says.
        state_decay: share of the offset that each outer step takes away; None as there.

    Attributes:
        learner: the learning network, its experts and what it carries.
        window: base tokens of a window: S0 is added at its start, and learning happens at its end.
        learns: whether its readers may learn.
        updates: how often its readers learned.
        own_experts: whether each reader has experts of its own, as `with_own_experts` makes them.
        tokens: the bytes of each id; none for the end of text and unused ids.

    Raises:
        UsageError: what was learned is of another model, or a decay is given without a rate.
        CheckpointError, ModelError: it cannot be read.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        learned: str | os.PathLike[str] | None = None,
        *,
        experts: bool = True,
        learning: LearnerConfig | None = None,
        learns: bool | None = None,
        phrase_config: PhraseConfig | None = None,
        window: int = 64,
        state_lr: float | None = None,
        state_decay: float | None = None,
    ) -> None:
        assert learned is None or learning is None, "a checkpoint says how it learns"
        self.loaded = loaded
        found = None if learned is None else find_learned(learned, loaded)
        config = _with_outer(found.config if found else learning or _NOTHING_LEARNS, state_lr, state_decay)
        self.updates, self.own_experts = 0, False
        self._s0_known: tuple[Tensor, int, bool] | None = None  # S0, its version, whether it is not zero
        self.learns = learning is not None if learns is None else learns
        self.window = found.window if found else window
        tokenizer, size = loaded.tokenizer, loaded.model.config.vocab_size
        # Learned weights are loaded into a copy: the caller's model stays as it is.
        weights = found is not None and not set(found.config.scope) <= {"state", "bias"}
        with_memory = experts if found is None else found.experts
        self.tokens = every_token(tokenizer, size)
        self.learner = OnlineLearner(
            copy.deepcopy(loaded.model) if weights else loaded.model,
            np.array([len(token) for token in self.tokens]),
            config,
            phrase_config=found.phrases if found else phrase_config,
            eot_id=tokenizer.eot_id,
            hypernet=loaded.hypernet,
            mixture=self._new_mixture(config) if with_memory else None,
        )
        if found is not None:
            self._load(found)
        if experts != with_memory:
            self.learner.use(self._new_mixture(config) if experts else None)

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's vocabulary."""
        return self.loaded.tokenizer

    @property
    def has_learned(self) -> bool:
        """Whether its network may differ from the frozen one."""
        return bool(self.learner.trainable()) or self.has_s0 or self.adapts

    @property
    def adapts(self) -> bool:
        """Whether its readers take an outer step at each window's end, also if it does not learn."""
        return self.learner.outer is not None

    @property
    def has_s0(self) -> bool:
        """Whether its S0 is not zero."""
        s0, known = self.learner.s0, self._s0_known
        if known is None or known[0] is not s0 or known[1] != s0._version:  # a copy may have another S0
            self._s0_known = known = (s0, s0._version, bool(s0.any()))
        return known[2]

    @property
    def experts(self) -> bool:
        """Whether experts are mixed in."""
        return self.learner.mixture is not None

    @cached_property
    def order(self) -> np.ndarray:
        """The ids sorted by their bytes ``[V]``: texts are drawn in this order, with experts and without."""
        return np.array(sorted(range(len(self.tokens)), key=lambda token: (self.tokens[token], token)))

    def read(self, document: str = "", *, alone: bool = False, go_on: bool = False) -> Reader:
        """Return a reader at the start of a document.

        Args:
            document: its name.
            alone: read with a copy of the experts' memory, so that other readers are as if they were not
                there, and leave no memory of this document.
            go_on: stand where training left the document, if its state is carried.
        """
        return Reader(self, document, alone=alone or self.own_experts, go_on=go_on)

    def with_own_experts(self, config: ExpertsConfig | None = None) -> Predictor:
        """Return a predictor like this one of which each reader has experts of its own, empty at its start.

        They are part of the reader: of its copies, of its memory and of what it saves.

        Args:
            config: sizes and rates of the experts of one reader.
        """
        assert not self.learns, "what learns has one memory"
        other, learner = copy.copy(self), copy.copy(self.learner)
        learner.networks = copy.copy(learner.networks)
        learner.use(Mixture(self.tokens, 1, config))
        other.learner, other.own_experts = learner, True
        return other

    def batch(self, readers: Sequence[Reader]) -> PredictorBatch:
        """Return readers of different documents as the rows of one batch."""
        return PredictorBatch(self, readers)

    def generate(
        self,
        prompt: str = "",
        sampling: SamplingConfig | None = None,
        *,
        max_tokens: int = 256,
        stop: Sequence[str] = (),
        stream: int = 0,
        document: str = "",
        remember: bool = False,
        constraint: Constraint | None = None,
    ) -> Generation:
        """Generate a text after a prompt. Nothing learns from either, also in a predictor that learns.

        Iterate the result for pieces of text: whole characters, never part of a stop. Each step is one base
        token, also where phrases were learned.

        Args:
            prompt: the text to continue, from a document's start.
            sampling: how tokens are chosen; by default they are drawn from the predictor's probabilities.
            max_tokens: most tokens.
            stop: texts that end the text and are not part of it.
            stream: number of the text, among those with the same seed.
            document: name of the document.
            remember: let the predictor's experts remember prompt and text. Otherwise a copy of them reads,
                and the predictor stays as it is.
            constraint: what the text must be.

        Raises:
            UsageError: an option does not fit.
        """
        still = copy.copy(self)
        still.learns = False
        reader = still.read(document, alone=not remember)
        if prompt:
            reader.advance(self.loaded.tokenizer.encode(prompt))
        return reader.generate(
            sampling, max_tokens=max_tokens, stop=stop, stream=stream, constraint=constraint
        )

    def step(self, windows: Sequence[Window]) -> StepReport:
        """Pay for windows of different documents and learn from them, in one optimizer step."""
        return self.learner.step(windows)

    def _new_mixture(self, config: LearnerConfig) -> Mixture:
        return Mixture(self.tokens, config.max_documents)

    def _load(self, found: Learned) -> None:
        if found.state is not None:
            self.learner.load_state_dict(found.state)
            if not self.learns:
                self.learner.stand_still()
        else:
            with torch.no_grad():
                self.learner.s0.copy_(found.s0)


def _with_outer(config: LearnerConfig, rate: float | None, decay: float | None) -> LearnerConfig:
    """Return how to learn, with another rate and decay of the outer step where they are given.

    Where nothing else learns, the frozen network reads beside the one that adapts, as in training.

    Raises:
        UsageError: a decay is given, and the rate is 0.
    """
    if rate is None and decay is None:
        return config
    changed = {"state_lr": rate, "state_decay": decay}
    config = replace(config, **{name: value for name, value in changed.items() if value is not None})
    if decay is not None and not config.state_lr:
        raise UsageError(
            "--state-decay would have no effect: there is no offset without --state-lr, and what was learned "
            "has no rate either; leave it out"
        )
    return replace(config, frozen=config.frozen or config.state_lr > 0)

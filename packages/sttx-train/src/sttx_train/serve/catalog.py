"""The models that a server offers: one id for the frozen model and for each thing that was learned of it.

Knows predictors; neither requests nor how they are batched.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sttx_core.errors import UsageError
from sttx_core.experts import ExpertsConfig, compile_choosing, compile_experts
from sttx_train.formats import LoadedModel
from sttx_train.predict import Predictor
from sttx_train.run_folder import load_checkpoint
from sttx_train.serve.failures import RequestError
from sttx_train.serve.readers import AnyPredictor

EXPERTS = ExpertsConfig(slot_bits=16, history_bits=14, index_bits=14)
"""Experts of one request, 5 MB: a context of 4,096 tokens costs 0.6% more bits than with 44 MB."""
_SHOWN = 12  # characters of a digest in an id


@dataclass(frozen=True, kw_only=True)
class Served:
    """A model that answers.

    Attributes:
        id: its id in requests: that of the model, or ``MODEL:NAME@DIGEST`` of what was learned.
        predictor: who predicts; it does not learn.
        digest: SHA-256 of everything that decides what it predicts.
        step: training step of a checkpoint; 0 otherwise.
        created: Unix time when it was loaded.
        base: the frozen model, of a state that goes on learning.
    """

    id: str
    predictor: AnyPredictor
    digest: str
    step: int = 0
    created: int = field(default_factory=lambda: int(time.time()))
    base: Served | None = None

    @property
    def learner(self) -> Predictor:
        """The predictor of a model of sttx itself, of which others can be made that learn."""
        assert isinstance(self.predictor, Predictor), self.predictor
        return self.predictor

    @property
    def fingerprint(self) -> str:
        """The ``system_fingerprint``: the digest and the step."""
        return f"fp_{self.digest[:_SHOWN]}_{self.step}"

    def as_json(self) -> dict[str, Any]:
        """Return what ``/v1/models`` says of it."""
        return {"id": self.id, "object": "model", "created": self.created, "owned_by": "sttx"}


class Catalog:
    """All models of a server, the default one first.

    Args:
        served: the models.

    Raises:
        UsageError: two have the same id.
    """

    def __init__(self, served: Sequence[Served]) -> None:
        self._by_id = {one.id: one for one in served}
        if len(self._by_id) < len(served):
            raise UsageError("the same state is named twice: name each --checkpoint once")

    def __iter__(self) -> Iterator[Served]:
        return iter(self._by_id.values())

    @classmethod
    def load(
        cls,
        loaded: LoadedModel,
        learned: Sequence[str | os.PathLike[str]] = (),
        *,
        experts: bool = False,
    ) -> Catalog:
        """Return the frozen model and what was learned of it.

        Args:
            loaded: the model.
            learned: folders of runs or checkpoints of `sttx train`, or files of tuned states. The first of
                them is the default model; without any, the frozen model is.
            experts: mix experts in: each request has its own, which know what that request reads.

        Raises:
            UsageError, CheckpointError, ModelError: as by `Predictor`.
        """
        if experts:
            compile_experts()
            compile_choosing()
        tuned = [learned_model(loaded, path, experts=experts) for path in learned]
        frozen = _serving(Predictor(loaded, experts=False, learns=False), experts)
        frozen.read().log_probs()  # what is compiled at its first use is compiled now
        return cls([*tuned, Served(id=loaded.id, predictor=frozen, digest=digest_of(frozen))])

    def put(self, served: Served) -> Served | None:
        """Offer a model in the place of the one whose id differs in the digest alone; a new one comes first.

        Requests that are computed keep the model that they started with. May be called from any thread.

        Returns:
            The model that was there; None if there was none.
        """
        name = _without_digest(served.id)
        others = list(self)
        places = [index for index, one in enumerate(others) if _without_digest(one.id) == name]
        before = others.pop(places[0]) if places else None
        others.insert(places[0] if places else 0, served)
        self._by_id = {one.id: one for one in others}
        return before

    @property
    def frozen(self) -> Served:
        """The frozen model."""
        return list(self)[-1]

    @property
    def default(self) -> Served:
        """The first model."""
        return next(iter(self))

    def find(self, name: str) -> Served:
        """Return a model by its id; an id without its digest names it too, if it is the only one.

        Raises:
            RequestError: there is none (404).
        """
        if (exact := self._by_id.get(name)) is not None:
            return exact
        alike = [one for one in self if _without_digest(one.id) == name]
        if len(alike) == 1:
            return alike[0]
        known = ", ".join(repr(one.id) for one in self)
        raise RequestError(
            404, f"no model {name!r}: there are {known}", param="model", code="model_not_found"
        )


def _without_digest(name: str) -> str:
    """Return an id without its digest; the id of a frozen model has none."""
    return name.partition("@")[0]


def digest_of(predictor: Predictor) -> str:
    """Return the SHA-256 of everything that decides what a predictor predicts that shares no experts."""
    learner, loaded = predictor.learner, predictor.loaded
    about = (loaded.sha256, loaded.tokenizer.sha256, learner.networks.inject, predictor.window)
    if learner.mixture is not None:
        about = (*about, learner.mixture.experts.config)
    if learner.outer is not None:
        about = (*about, learner.outer)
    digest = hashlib.sha256(repr(about).encode())
    tensors = {"s0": learner.s0, **learner.trainable()}
    for name, tensor in sorted(tensors.items()):
        if not name.startswith("hypernet."):  # phrases are not read in one step here
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _serving(predictor: Predictor, experts: bool) -> Predictor:
    return predictor.with_own_experts(EXPERTS) if experts else predictor


def learned_model(loaded: LoadedModel, path: str | os.PathLike[str], *, experts: bool = False) -> Served:
    """Return what was learned: a run's newest checkpoint, one checkpoint, or the file of a tuned state.

    Args:
        loaded: the model that it was learned with.
        path: the folder or file.
        experts: as in `Catalog.load`.

    Raises:
        UsageError, CheckpointError, ModelError: as by `Predictor`.
    """
    path = Path(path)
    predictor = _serving(Predictor(loaded, path, experts=False, learns=False), experts)
    digest = digest_of(predictor)
    if path.is_dir():
        checkpoint = load_checkpoint(path)
        run = path if checkpoint.path != path else path.parent
        name, step = run.resolve().name, checkpoint.manifest["step"]
    else:
        name, step = path.stem, 0
    return Served(id=f"{loaded.id}:{name}@{digest[:_SHOWN]}", predictor=predictor, digest=digest, step=step)

"""A network that learns while it codes, by gradients in torch: only where it was made does an archive decode.

Torch's sums differ from one processor, version and number of threads to another. So the archive holds a
fingerprint: versions, and a digest of the logits while a known text is learned. Decoding compares it first.
A policy says when the network learns, and how; positions are bytes that were coded in the segment.
"""

from __future__ import annotations

import copy
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sttx_core.errors import DataError
from sttx_core.foreign_files import shown
from sttx_train.checkpoint.store import CheckpointStore
from sttx_train.formats import LoadedModel
from sttx_train.online import LearnerConfig
from sttx_train.online.policy import Policy, Train
from sttx_train.online.scope import SCOPES, Scope
from sttx_train.predict import Predictor, Reader

_PROBED = 300
"""Most tokens of a fingerprint: somewhat more than four windows."""

_MOST_PROBED = 4
"""Actions of a policy that a fingerprint tries: a foreign archive may have thousands."""

Chooser = Callable[[int, int], Train | None]
"""Says how a window is learned from, by the bytes and the windows before it; None for not at all."""


class LearningRows:
    """One document at a time, read by a network that learns from it.

    Args:
        loaded: the model; it stays as it is.
        policy: when it learns, and how.
        start: what it starts from, as `OnlineLearner.go_on_from` takes it; None for nothing.
        choose: instead of what the policy says at each position.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        policy: Policy,
        start: Mapping[str, Any] | None = None,
        *,
        choose: Chooser | None = None,
    ) -> None:
        config = learning_of(policy)
        if not set(config.scope) <= {"state", "bias"}:  # the weights learn, and the model stays as it is
            loaded = replace(loaded, model=copy.deepcopy(loaded.model))
        self._loaded = loaded
        self._predictor = Predictor(loaded, experts=False, learning=config)
        if start is not None:
            self._predictor.learner.go_on_from(start)
        self._choose: Chooser = choose or policy.step_at
        self._lengths = [len(token) for token in self._predictor.tokens]
        self._reader: Reader | None = None
        self._documents = self._bytes = self._windows = 0

    def start(self, rows: int) -> None:
        """Start a batch of one document."""
        assert rows == 1, "a network that learns reads one document at a time"

    def step(self, ids: np.ndarray) -> np.ndarray:
        """Read a token [1], learn at the end of a window, and return float32 logits [1, V] of the next."""
        if self._reader is None:  # the token opens a document, as the reader knows
            self._documents += 1
            self._reader = self._predictor.read(f"{self._documents}")
        else:
            self._learn(self._reader, int(ids[0]))
        return self._reader.log_probs()[None].astype(np.float32)

    def _learn(self, reader: Reader, token: int) -> None:
        learner, before = self._predictor.learner, self._predictor.updates
        if reader.filled == 0:
            how = self._choose(self._bytes, self._windows)
            learner.how = how if how is None or how.scope else replace(how, scope=("state",))
        reader.learn([token])
        self._bytes += self._lengths[token]
        self._windows += self._predictor.updates - before

    def place(self, row: int) -> Reader | None:
        """Return where the document stands; it must not be read meanwhile."""
        return self._reader

    def set_place(self, row: int, place: Reader | None) -> None:
        """Continue from where `place` stood; None is the start of a document."""
        self._reader = place

    def move(self, source: int, target: int) -> None:
        """Do nothing: there is one row."""

    def save(self, folder: Path) -> Path:
        """Write what was learned, with the optimizer and the windows for replay; return the checkpoint.

        A policy's ``load_from`` continues from there; all that reads what a run learned reads it.

        Raises:
            CheckpointError: it cannot be written.
        """
        learner = self._predictor.learner
        state = learner.state_dict()
        documents = state["documents"]
        documents["learner"] |= {"sessions": [], "evictions": 0}  # all documents have ended
        return CheckpointStore(folder, keep=1).save(
            self._windows,
            tensors={**state["tensors"], "sessions": {}},
            documents=documents,
            manifest={
                "kind": "coding",
                "base_model": self._loaded.id,
                "base_sha256": self._loaded.sha256,
                "tokenizer_sha256": self._loaded.tokenizer.sha256,
                "learning": asdict(learner.config),
                "window": self._predictor.window,
                "torch": torch.__version__,
                "torch_threads": torch.get_num_threads(),
            },
        )


def learning_of(policy: Policy) -> LearnerConfig:
    """Return how a learner is made whose tensors a policy names; an action without a scope learns S0."""
    named = set(policy.scopes())
    if not named or any(not how.scope for how in policy.actions()):
        named.add("state")
    scope: tuple[Scope, ...] = tuple(one for one in SCOPES if one in named)
    return LearnerConfig(scope=scope, phrases="off", frozen=False)


def digest_of(start: Mapping[str, Any]) -> str:
    """Return the SHA-256 of what a network that learns starts from."""
    digest = sha256()
    for kind in ("learned", "optimizer", "replay"):
        for name, tensor in sorted(start["tensors"][kind].items()):
            digest.update(f"\n{kind} {name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
            digest.update(tensor.contiguous().numpy().tobytes())
    learner = start["documents"]["learner"]
    digest.update(repr((learner.get("averaged", 0), sorted(learner["replay"].items()))).encode())
    return digest.hexdigest()


def fingerprint(
    loaded: LoadedModel, text: bytes, policy: Policy, start: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what an archive says of where it is made: versions, and a digest of exact logits.

    Args:
        loaded: the model.
        text: what the probe reads and learns; it should fill four windows.
        policy: its ways of learning are tried in turn, a window each.
        start: what the network starts from.
    """
    actions: Sequence[Train | None] = [*dict.fromkeys(policy.actions())][:_MOST_PROBED] or [None]
    rows = LearningRows(loaded, policy, start, choose=partial(_in_turn, actions))
    digest = sha256()
    rows.start(1)
    for token in (loaded.tokenizer.eot_id, *loaded.tokenizer.encode_bytes(text)[:_PROBED]):
        digest.update(rows.step(np.array([token])).tobytes())
    return {**versions(), "probe": digest.hexdigest()}


def versions() -> dict[str, Any]:
    """Return the part of a fingerprint that takes no computing."""
    return {
        "torch": torch.__version__,
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
    }


def check_fingerprint(needed: Any, here: Mapping[str, Any]) -> None:
    """Check that an archive can be decoded here.

    Args:
        needed: what the archive says.
        here: what `fingerprint` returns here, or `versions` for a check before anything is computed.

    Raises:
        DataError: it cannot.
    """
    if not isinstance(needed, dict) or needed.keys() != {*versions(), "probe"}:
        raise DataError("the archive's header is damaged: it lacks the fingerprint of profile native")
    if any(needed[name] != value for name, value in here.items()):
        made, now = (
            f"torch {shown(one['torch'])} on {shown(one['processor'])} with {shown(one['threads'])} threads"
            for one in (needed, here)
        )
        raise DataError(
            f"the archive was made by profile native with {made}, and {now} here may compute other numbers: "
            "decompress it where it was made"
        )


def _in_turn(actions: Sequence[Train | None], position: int, windows: int) -> Train | None:
    return actions[windows % len(actions)]

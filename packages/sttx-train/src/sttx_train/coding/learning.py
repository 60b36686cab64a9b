"""A network that learns while it codes, by gradients in torch: only where it was made does an archive decode.

Torch's sums differ from one processor, version and number of threads to another. So the archive holds a
fingerprint: versions, and a digest of the logits while a known text is learned. Decoding compares it first.
"""

from __future__ import annotations

import platform
from hashlib import sha256
from typing import Any

import numpy as np
import torch

from sttx_core.errors import DataError
from sttx_train.formats import LoadedModel
from sttx_train.online import LearnerConfig
from sttx_train.predict import Predictor, Reader

LEARNING = LearnerConfig(phrases="off", frozen=False)
"""S0 learns at the end of each window, from the window and from replayed ones, as in `sttx train`."""


class LearningRows:
    """One document at a time, read by a network that learns from it.

    Args:
        loaded: the model; it stays as it is.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._predictor = Predictor(loaded, experts=False, learning=LEARNING)
        self._reader: Reader | None = None
        self._documents = 0

    def start(self, rows: int) -> None:
        """Start a batch of one document."""
        assert rows == 1, "a network that learns reads one document at a time"

    def step(self, ids: np.ndarray) -> np.ndarray:
        """Read a token [1], learn at the end of a window, and return float32 logits [1, V] of the next."""
        if self._reader is None:  # the token opens a document, as the reader knows
            self._documents += 1
            self._reader = self._predictor.read(f"{self._documents}")
        else:
            self._reader.learn(ids.tolist())
        return self._reader.log_probs()[None].astype(np.float32)

    def place(self, row: int) -> Reader | None:
        """Return where the document stands; it must not be read meanwhile."""
        return self._reader

    def set_place(self, row: int, place: Reader | None) -> None:
        """Continue from where `place` stood; None is the start of a document."""
        self._reader = place

    def move(self, source: int, target: int) -> None:
        """Do nothing: there is one row."""


def fingerprint(loaded: LoadedModel, text: bytes) -> dict[str, Any]:
    """Return what an archive says of where it is made: versions, and a digest of exact logits.

    Args:
        loaded: the model.
        text: what the probe reads and learns; it should fill several windows.
    """
    rows, digest = LearningRows(loaded), sha256()
    rows.start(1)
    for token in (loaded.tokenizer.eot_id, *loaded.tokenizer.encode_bytes(text)):
        digest.update(rows.step(np.array([token])).tobytes())
    return {
        "torch": torch.__version__,
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "probe": digest.hexdigest(),
    }


def check_fingerprint(needed: Any, here: dict[str, Any]) -> None:
    """Check that an archive can be decoded here.

    Raises:
        DataError: it cannot.
    """
    if not isinstance(needed, dict) or needed.keys() != here.keys():
        raise DataError("the archive's header is damaged: it lacks the fingerprint of profile native")
    if needed != here:
        made, now = (
            f"torch {one['torch']} on {one['processor']} with {one['threads']} threads"
            for one in (needed, here)
        )
        raise DataError(
            f"the archive was made by profile native with {made}, and {now} here may compute other numbers: "
            "decompress it where it was made"
        )

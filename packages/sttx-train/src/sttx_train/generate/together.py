"""Texts that are generated side by side, as the rows of one batch; a text may join or end between steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from sttx_train.generate.generation import Generation


class Rows(Protocol):
    """What a batch of readers can do; `sttx_train.PredictorBatch` does."""

    def log_probs(self) -> np.ndarray:
        """Return the natural log-probability of each next token ``[B, V]``. Pure."""
        ...

    def advance(self, ids: Sequence[Sequence[int]]) -> Any:
        """Read the tokens of each row."""
        ...


def step_all(generations: Sequence[Generation], batch: Callable[[Sequence[Any]], Rows]) -> list[str]:
    """Choose the next token of each text that has not ended; return each one's new piece, which may be empty.

    Args:
        generations: the texts, each with a reader of its own.
        batch: returns readers as the rows of one batch, as `Predictor.batch` does.
    """
    running = [generation for generation in generations if generation.finish_reason is None]
    if not running:
        return [""] * len(generations)
    rows = batch([generation.reader for generation in running])
    rows.advance([generation.behind for generation in running])
    log_probs = rows.log_probs()
    pieces = {
        id(generation): generation.take(row) for generation, row in zip(running, log_probs, strict=True)
    }
    return [pieces.get(id(generation), "") for generation in generations]

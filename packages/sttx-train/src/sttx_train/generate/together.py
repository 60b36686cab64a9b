"""Texts that are generated side by side, as the rows of one batch; a text may join or end between steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from sttx_train.generate.generation import Generation
from sttx_train.generate.partial import Expected


class Rows(Protocol):
    """What a batch of readers can do; `sttx_train.PredictorBatch` does."""

    def expected(self) -> Sequence[np.ndarray | Expected]:
        """Return what is expected as each next token. Pure."""
        ...

    def read(self, ids: Sequence[Sequence[int]]) -> None:
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
    rows.read([generation.behind for generation in running])
    expected = rows.expected()
    pieces = {
        id(generation): generation.take(each) for generation, each in zip(running, expected, strict=True)
    }
    return [pieces.get(id(generation), "") for generation in generations]

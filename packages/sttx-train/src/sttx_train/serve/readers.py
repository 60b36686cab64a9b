"""What the server needs of a model: an id's bytes, a reader of each text, and readers as the rows of a batch.

`sttx_train.predict.Predictor` is one; `sttx_train.memory.serving.MemoryPredictor` is another. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np

from sttx_core.experts import NextToken
from sttx_core.tokenizers import Tokenizer
from sttx_train.generate import Constraint, Generation, SamplingConfig
from sttx_train.online.prices import Prices


class AnyReader(Protocol):
    """Where reading stands in one text."""

    def advance(self, ids: Sequence[int]) -> Prices:
        """Read tokens, and return what they cost."""
        ...

    def generate(
        self,
        sampling: SamplingConfig | None = None,
        *,
        max_tokens: int = 256,
        stop: Sequence[str] = (),
        stream: int = 0,
        constraint: Constraint | None = None,
    ) -> Generation:
        """Generate a text after what was read."""
        ...

    def copy(self) -> Self:
        """Return a reader that stands where this one does; neither moves the other."""
        ...

    @property
    def nbytes(self) -> int:
        """Memory of its state in bytes."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return where reading stands, as ``tensors`` and JSON-able ``meta``."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Stand where `state_dict` was called.

        Raises:
            CheckpointError: the state is damaged, or of another model.
        """
        ...


class AnyBatch(Protocol):
    """Readers that read together."""

    def expected(self) -> list[np.ndarray | NextToken]:
        """Return what is expected as each next token."""
        ...

    def advance(self, ids: Sequence[Sequence[int]]) -> list[Prices]:
        """Read the tokens of each row, and return what they cost."""
        ...

    def read(self, ids: Sequence[Sequence[int]]) -> None:
        """Read the tokens of each row."""
        ...

    def advance_with_expected(
        self, ids: Sequence[Sequence[int]], note: Callable[[int, int, np.ndarray | NextToken], None]
    ) -> None:
        """Read the tokens of each row; before each, note the row, the token and what is expected there."""
        ...


class AnyPredictor(Protocol):
    """Who predicts."""

    @property
    def tokens(self) -> Sequence[bytes]:
        """The bytes of each id; none for the end of text and unused ids."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """The vocabulary."""
        ...

    def read(self) -> AnyReader:
        """Return a reader at the start of a text."""
        ...

    def batch(self, readers: Sequence[Any]) -> AnyBatch:
        """Return readers of this predictor as a batch."""
        ...

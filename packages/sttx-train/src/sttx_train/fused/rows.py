"""The compiled step for documents that are read side by side, in numpy alone: torch computes nothing here.

A row's numbers depend on its own tokens only, whatever stands in the other rows, how many there are, and how
many threads share them (`sttx_train.fused`). So an archive that was written here is read anywhere.

Legend: B most rows, A active rows, D hidden size, V vocabulary, L layers, H heads, N head size.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from torch import Tensor

from sttx_train.fused.entry import entry_point
from sttx_train.fused.layers import Sizes, State
from sttx_train.fused.step import packed_weights


class FusedRows:
    """Reads documents side by side, one token of each of the first rows at a time.

    Args:
        parameters: the model's, by name, float32 on the CPU. Later changes to them are not noticed.
        rows: most documents, B.
        head_size: N.
        eps: epsilon of every LayerNorm.
        head_eps: epsilon of the norm of each head's output.
        threads: most threads that share the rows.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        rows: int,
        *,
        head_size: int,
        eps: float,
        head_eps: float,
        threads: int = 1,
    ) -> None:
        self._weights = packed_weights(parameters)
        self._table = parameters["emb.weight"].detach().numpy()
        self._sizes = Sizes(head_size, np.float32(eps), np.float32(head_eps))
        layers, width = self._weights.vectors.shape[0], self._table.shape[1]
        matrices = (layers, rows, width // head_size, head_size, head_size)
        shapes = (layers, rows, width), matrices, (layers, rows, width)
        self._state, self._other = (State(*(np.zeros(s, np.float32) for s in shapes)) for _ in range(2))
        blocks, _, wide = self._weights.head.shape[1:]
        self._logits = np.zeros((rows, blocks * wide), np.float32)
        self._threads = min(threads, rows)
        self._pool = ThreadPoolExecutor(self._threads) if self._threads > 1 else None

    def step(self, ids: np.ndarray) -> np.ndarray:
        """Read a token of each of the first rows.

        Args:
            ids: [A] int64 the tokens.

        Returns:
            [A, V or more] float32 logits of the next tokens, until the next call; columns from V on are 0.
        """
        x, count = self._table[ids], len(ids)
        arguments = (self._weights, self._sizes, x, self._state, self._other, self._logits)
        if self._pool is None or count == 1:
            entry_point()(*arguments, 0, count)
        else:
            bounds = [count * part // self._threads for part in range(self._threads + 1)]
            parts = [(first, last) for first, last in zip(bounds, bounds[1:], strict=False) if first < last]
            list(self._pool.map(lambda part: entry_point()(*arguments, *part), parts))
        self._state, self._other = self._other, self._state
        return self._logits[:count]

    def state(self, row: int) -> State:
        """Return a copy of a row's state: [L, D], [L, H, N, N] and [L, D]."""
        return State(*(part[:, row].copy() for part in self._state))

    def set_state(self, row: int, state: State | None) -> None:
        """Let a row go on from a state; None is the start of a document."""
        for part, value in zip(self._state, state or (0.0, 0.0, 0.0), strict=True):
            part[:, row] = value

    def move(self, source: int, target: int) -> None:
        """Let a row stand where another one stands, which ends there."""
        for part in self._state:
            part[:, target] = part[:, source]

    def add(self, row: int, matrices: np.ndarray) -> None:
        """Add [L, H, N, N] to a row's matrices."""
        self._state.wkv[:, row] += matrices

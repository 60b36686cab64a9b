"""Codes blocks of tokens side by side, by networks and experts together: the weights are read once for all.

Each lane codes one block, a token at a time, and takes the next block when its own ends. Experts learn from
all lanes in turn. So the same blocks in the same order give the same bytes, and decoding repeats all of it.
Knows tokens; neither files nor archives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from sttx_core.experts import AloneRows, CodedRows
from sttx_core.experts.memory import Place

_BLOCK, _AT, _END = range(3)


class _End(NamedTuple):
    """Where a document stands after a block: for experts, if any, and each network, and its last token."""

    place: Place | None
    read: list[Any]
    token: int


class Rows(Protocol):
    """Documents that a network reads side by side."""

    def start(self, rows: int) -> None:
        """Start so many documents."""

    def step(self, ids: np.ndarray) -> np.ndarray:
        """Read a token of each of the first rows [A], after which others end; return their logits [A, V]."""
        ...

    def place(self, row: int) -> Any:
        """Return where a row stands."""
        ...

    def set_place(self, row: int, place: Any) -> None:
        """Let a row continue from there; None is the start of a document."""

    def move(self, source: int, target: int) -> None:
        """Let a row stand where another one stands, which ends there."""


class Lanes:
    """Codes blocks side by side.

    Args:
        coded: rows of experts, which learn from all blocks, or of a network alone.
        networks: one or two; what they say is mixed by the experts.
        streams: most blocks at a time, as ``coded`` has rows.
        eot: the token that opens a document.
    """

    def __init__(
        self, coded: CodedRows | AloneRows, networks: Sequence[Rows], streams: int, eot: int
    ) -> None:
        self._coded: Any = coded
        self._networks = networks
        self._streams, self._eot = streams, eot
        self._last = np.zeros(streams, np.int64)
        self._end: _End | None = None

    def encode(
        self, blocks: Sequence[np.ndarray], *, goes_on: bool, advance: Callable[[np.ndarray], object]
    ) -> list[bytes]:
        """Return the bytes of blocks of tokens, and learn them.

        Args:
            blocks: each [T] int64, T at least 1. A block starts a document.
            goes_on: the first block continues the document of the last block of the call before.
            advance: called with the tokens of each step.
        """
        ids, bounds = np.concatenate(blocks), _bounds(list(map(len, blocks)))
        self._coded.start_encoding(len(ids))
        payloads = [b""] * len(blocks)

        def start(row: int, block: int) -> None:
            self._coded.start(row, bounds[block])

        def finish(row: int, block: int) -> None:
            payloads[block] = self._coded.payload(row)

        self._run(ids, bounds, goes_on, start, finish, advance)
        return payloads

    def decode(
        self,
        payloads: Sequence[bytes],
        counts: Sequence[int],
        *,
        goes_on: bool,
        advance: Callable[[np.ndarray], object],
    ) -> list[np.ndarray]:
        """Return the blocks of tokens that `encode` was given; other tokens if the bytes are damaged.

        Args:
            payloads: what `encode` returned.
            counts: the number of tokens of each block, at least 1.
            goes_on: as in `encode`.
            advance: as in `encode`.
        """
        bounds, places = _bounds(counts), _bounds(list(map(len, payloads)))
        ids = np.zeros(bounds[-1], np.int64)
        self._coded.start_decoding(b"".join(payloads))

        def start(row: int, block: int) -> None:
            self._coded.start(row, places[block], places[block + 1])

        self._run(ids, bounds, goes_on, start, lambda row, block: None, advance)
        return [ids[first:last] for first, last in zip(bounds, bounds[1:], strict=False)]

    def _run(
        self,
        ids: np.ndarray,
        bounds: Sequence[int],
        goes_on: bool,
        start: Callable[[int, int], None],
        finish: Callable[[int, int], None],
        advance: Callable[[np.ndarray], object],
    ) -> None:
        """Code ``ids`` in place; block b has those from ``bounds[b]`` to ``bounds[b + 1]``."""
        blocks = len(bounds) - 1
        active = min(self._streams, blocks)
        waiting = deque(range(blocks))
        # What each row does: its block, the place of its next token, and where its tokens end.
        turns = np.zeros((active, 3), np.int64)
        for network in self._networks:
            network.start(active)

        def take(row: int) -> None:
            block = waiting.popleft()
            turns[row] = block, bounds[block], bounds[block + 1]
            self._start_document(row, goes_on=goes_on and block == 0)
            start(row, block)

        for row in range(active):
            take(row)
        while active:
            advance(self._step(ids, turns[:active, _AT]))
            turns[:active, _AT] += 1
            ended = np.flatnonzero(turns[:active, _AT] == turns[:active, _END])
            for row in reversed(ended.tolist()):
                finish(row, int(turns[row, _BLOCK]))
                if turns[row, _BLOCK] == blocks - 1:
                    self._end = self._where(row)
                if waiting:
                    take(row)
                else:
                    active -= 1
                    self._move(active, row)
                    turns[row] = turns[active]

    def _step(self, ids: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Code the tokens at these places of ``ids``, one of each row; return them."""
        last = self._last[: len(at)]
        logits = [network.step(last) for network in self._networks]
        tokens = ids[at]
        self._coded.code(tokens, *logits)
        ids[at] = last[:] = tokens
        return tokens

    def _start_document(self, row: int, *, goes_on: bool) -> None:
        place = self._end if goes_on else None
        self._last[row] = self._eot if place is None else place.token
        self._coded.set_place(row, None if place is None else place.place)
        for number, network in enumerate(self._networks):
            network.set_place(row, None if place is None else place.read[number])

    def _where(self, row: int) -> _End:
        read = [network.place(row) for network in self._networks]
        return _End(self._coded.place(row), read, int(self._last[row]))

    def _move(self, source: int, target: int) -> None:
        self._coded.move(source, target)
        self._last[target] = self._last[source]
        for network in self._networks:
            network.move(source, target)


def _bounds(lengths: Sequence[int]) -> list[int]:
    """Return where each of so many parts starts, and where the last one ends."""
    return np.cumsum([0, *lengths]).tolist()

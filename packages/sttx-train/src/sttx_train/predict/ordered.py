"""Reads pieces of many documents: the networks in large passes, then the experts piece by piece, in order.

What experts pay depends on the order in which they read; what networks say of a document does not depend on
the others. So the order of the pieces decides every price, and how they are batched does not. Knows readers;
not where their documents come from.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sttx_train.online.prices import Prices
from sttx_train.predict.reading import adapt, ask, checked, inputs, move, network_prices, reach

if TYPE_CHECKING:
    from sttx_train.predict.predictor import Predictor
    from sttx_train.predict.reader import Reader
    from sttx_train.predict.shared import SharedReading

PASS = 1024  # most tokens of one forward pass, padding included
_LOGITS = 2**23  # most logits of one forward pass; a large vocabulary shortens it
_PADDING = 16  # steps of padding that any row may have


@dataclass
class Segment:
    """What was computed for consecutive tokens of a row that the experts have not read yet.

    Attributes:
        prices: what the tokens cost by the networks alone.
        network_TV, frozen_TV: what the experts get; None without experts.
    """

    prices: Prices
    network_TV: np.ndarray | None = None
    frozen_TV: np.ndarray | None = None

    def cut(self, count: int) -> Segment:
        """Return the first tokens and keep the others."""
        first, rest = (_sliced(self, part) for part in (slice(count), slice(count, None)))
        self.prices, self.network_TV, self.frozen_TV = rest.prices, rest.network_TV, rest.frozen_TV
        return first


def advance_in_order(
    predictor: Predictor,
    readers: Sequence[Reader],
    pieces: Sequence[tuple[int, Sequence[int]]],
    networks: SharedReading | None = None,
) -> list[Prices]:
    """Read pieces, each the next tokens of a row; return what each cost.

    ``networks`` read in several processes, if they are given.
    """
    tokens = [checked(predictor, ids) for _, ids in pieces]
    left: list[list[int]] = [[] for _ in readers]
    for (row, _), ids in zip(pieces, tokens, strict=True):
        left[row] += ids
    read = networks(readers, left) if networks else read_by_networks(predictor, readers, left)
    return [
        Prices.join([_mixed(readers[row], *part) for part in _taken(read[row], ids)])
        for (row, _), ids in zip(pieces, tokens, strict=True)
    ]


def read_by_networks(
    predictor: Predictor, readers: Sequence[Reader], left: Sequence[list[int]]
) -> list[deque[Segment]]:
    """Read the next tokens of each row with the networks; return what these say of them, row by row."""
    left = [list(ids) for ids in left]
    read: list[deque[Segment]] = [deque() for _ in readers]
    for rows, segments in _passes(predictor, readers, left):
        saying = ask(predictor, [readers[row] for row in rows], segments)
        for row, segment, said in zip(rows, segments, saying, strict=True):
            prices = network_prices(predictor, segment, said)
            with_experts = readers[row].mixture is not None
            says = inputs(predictor, said) if with_experts else (None, None)
            read[row].append(Segment(prices, *says))
            move(predictor, readers[row], segment, said)
        adapt(predictor, [readers[row] for row in rows])
    return read


def _passes(
    predictor: Predictor, readers: Sequence[Reader], left: list[list[int]]
) -> Iterator[tuple[list[int], list[list[int]]]]:
    """Yield rows and the segments of them to read next, until nothing is left of any row."""
    most = max(1, min(PASS, _LOGITS // predictor.loaded.model.config.vocab_size))
    while rows := [row for row, rest in enumerate(left) if rest]:
        segments = {row: left[row][: reach(predictor, readers[row], most)] for row in rows}
        for group in grouped([len(segments[row]) for row in rows], most):
            chosen = [rows[index] for index in group]
            for row in chosen:
                del left[row][: len(segments[row])]
            yield chosen, [segments[row] for row in chosen]


def grouped(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Group segments of similar lengths into passes, so that little is padding.

    Args:
        lengths: tokens of each segment.
        most: tokens of a pass, padding included; a longer segment is a pass of its own.

    Yields:
        Indices of the segments of a pass, the longest first.

    >>> list(grouped([100, 4, 98, 60, 5], 256))
    [[0, 2], [3], [4, 1]]
    """
    group: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        longest = lengths[group[0]] if group else lengths[index]
        padded = longest - lengths[index] > max(_PADDING, longest // 4)
        if group and (padded or longest * (len(group) + 1) > most):
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def _taken(segments: deque[Segment], ids: list[int]) -> Iterator[tuple[list[int], Segment]]:
    """Yield the tokens of a piece with what was computed for them, and remove that."""
    start = 0
    while start < len(ids):
        count = min(len(ids) - start, len(segments[0].prices))
        yield ids[start : start + count], segments[0].cut(count)
        start += count
        if not len(segments[0].prices):
            segments.popleft()


def _mixed(reader: Reader, ids: list[int], segment: Segment) -> Prices:
    """Let the experts read tokens, and return what these cost."""
    if reader.mixture is None or reader.place is None or segment.network_TV is None:
        return segment.prices
    experts = reader.mixture.experts
    bits = experts.read(reader.place, segment.network_TV, np.asarray(ids), segment.frozen_TV)
    return replace(segment.prices, bits=bits)


def _sliced(segment: Segment, part: slice) -> Segment:
    prices = segment.prices
    return Segment(
        Prices(bits=prices.bits[part], network=prices.network[part], frozen=prices.frozen[part]),
        None if segment.network_TV is None else segment.network_TV[part],
        None if segment.frozen_TV is None else segment.frozen_TV[part],
    )

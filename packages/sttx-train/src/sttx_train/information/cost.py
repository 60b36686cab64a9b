"""What a text costs, token by token, and statistics of its segments. Knows neither models nor formulas.

T tokens of a text. Bits are ``-log2 p``; a code of that many bits exists, up to two bits for the whole text
(Cover & Thomas, Elements of Information Theory, 2nd edition, section 13.3: arithmetic coding).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sttx_core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a text costs.

    Attributes:
        bits_T: ``[T]`` bits of each token, by everything that predicts.
        network_T: ``[T]`` bits of each token by the network alone; without experts the same.
        bytes_T: ``[T]`` bytes of each token.
    """

    bits_T: np.ndarray
    network_T: np.ndarray
    bytes_T: np.ndarray

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return len(self.bits_T)

    @property
    def bytes(self) -> int:
        """Bytes of the text."""
        return int(self.bytes_T.sum())

    @property
    def bits(self) -> float:
        """Code length of the text in bits, by everything that predicts."""
        return float(self.bits_T.sum())

    @property
    def network_bits(self) -> float:
        """Code length in bits by the network alone."""
        return float(self.network_T.sum())

    @property
    def code_bytes(self) -> float:
        """Code length in bytes: bits / 8."""
        return self.bits / 8

    @property
    def bits_per_byte(self) -> float | None:
        """Bits for each byte of the text; None if it is empty."""
        return rate(self.bits, self.bytes)

    @classmethod
    def join(cls, parts: Sequence[Cost]) -> Cost:
        """Return what consecutive texts cost together."""
        bits, network = (
            np.concatenate([np.zeros(0), *(getattr(part, name) for part in parts)])
            for name in ("bits_T", "network_T")
        )
        sizes = np.concatenate([np.zeros(0, np.int64), *(part.bytes_T for part in parts)])
        return cls(bits_T=bits, network_T=network, bytes_T=sizes)

    def cut(self, counts: Sequence[int]) -> list[Cost]:
        """Return what consecutive parts cost.

        Args:
            counts: tokens of each part; together all tokens.
        """
        assert sum(counts) == self.tokens, "parts that are not the whole text"
        ends = np.cumsum(np.asarray(counts, np.int64))
        return [self._part(end - count, end) for count, end in zip(counts, ends, strict=True)]

    def segments(self, size: int) -> list[Segment]:
        """Return statistics of consecutive segments.

        A segment ends with the token that reaches a multiple of ``size``, so each has ``size`` bytes, up to a
        token more or less; the last one may be shorter.

        Args:
            size: bytes of a segment, at least 1.

        Raises:
            UsageError: ``size`` is less than 1.
        """
        if size < 1:
            raise UsageError(f"a segment must have at least 1 byte, not {size}")
        return list(self._segments(size))

    def _segments(self, size: int) -> Iterator[Segment]:
        ends_T = np.cumsum(self.bytes_T)
        number_T = (ends_T - 1) // size  # the segment that holds the last byte of each token
        first = 0
        for last in [*np.flatnonzero(np.diff(number_T)) + 1, self.tokens]:
            if last > first:
                part = self._part(first, last)
                yield Segment(
                    start=int(ends_T[first] - self.bytes_T[first]),
                    bytes=part.bytes,
                    tokens=part.tokens,
                    bits=part.bits,
                    network_bits=part.network_bits,
                    most_bits=float(part.bits_T.max()),
                )
            first = last

    def _part(self, first: int, last: int) -> Cost:
        part = slice(first, last)
        return Cost(bits_T=self.bits_T[part], network_T=self.network_T[part], bytes_T=self.bytes_T[part])


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Statistics of consecutive tokens of a text.

    Attributes:
        start: bytes of the text before it.
        bytes: its bytes.
        tokens: its tokens.
        bits: its code length in bits, by everything that predicts.
        network_bits: the same by the network alone.
        most_bits: bits of the token that costs most.
    """

    start: int
    bytes: int
    tokens: int
    bits: float
    network_bits: float
    most_bits: float

    @property
    def bits_per_byte(self) -> float | None:
        """Bits for each byte; None for tokens without bytes."""
        return rate(self.bits, self.bytes)


def rate(bits: float, size: int) -> float | None:
    """Return bits for each byte; None without bytes."""
    return bits / size if size else None

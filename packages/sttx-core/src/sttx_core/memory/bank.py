"""Decisions of a bank of states: which states of a document it takes in, and which one makes room.

Measured as starts of other documents of the same project (docs/log.md): states after 256 to 2,048 tokens are
about equally good, and later ones know less of how documents start. Their mean is better than any one of
them, and than the one nearest to what is being read. So a bank holds one mean for each project, and takes in
the states where the early parts of a document end. Knows prices and names; not what a state is.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sttx_core.memory.blocks import THRESHOLD

SHORTEST, LONGEST = 4, 16
"""Least and most windows of a part."""

EARLY = 32
"""Windows of a document, from its start, whose states are taken in."""

MEMORY = 64
"""The mean is of about so many of the last states."""


@dataclass(kw_only=True)
class Part:
    """The part of a document whose last state is not in the bank yet.

    Attributes:
        before: windows of the document before the part.
        windows: windows of the part.
        bits: what they cost.
        bytes: how much text they are.
    """

    before: int = 0
    windows: int = 0
    bits: float = 0.0
    bytes: int = 0

    @property
    def is_early(self) -> bool:
        """Whether states of the document are still taken in."""
        return self.before + self.windows < EARLY

    def ends_before(self, bits: float, size: int) -> bool:
        """Return whether the part ends before a window, because that window is surprising. Pure.

        Args:
            bits: what the window cost.
            size: its bytes.

        >>> part = Part(windows=SHORTEST, bits=400.0, bytes=400)
        >>> part.ends_before(170.0, 100), part.ends_before(150.0, 100)
        (True, False)
        """
        if self.windows < SHORTEST or not size or not self.bytes:
            return False
        return bits / size >= (1 + THRESHOLD) * self.bits / self.bytes

    def add(self, bits: float, size: int) -> None:
        """Count a window."""
        self.windows, self.bits, self.bytes = self.windows + 1, self.bits + bits, self.bytes + size

    @property
    def is_full(self) -> bool:
        """Whether it ends now, surprise or not."""
        return self.windows >= LONGEST

    def next(self) -> "Part":
        """Return the part after this one."""
        return Part(before=self.before + self.windows)


def share(states: int) -> float:
    """Return how much of a mean the newest of so many states is.

    >>> [share(states) for states in (1, 2, 1000)]
    [1.0, 0.5, 0.015625]
    """
    return 1 / min(states, MEMORY)


def makes_room(projects: Iterable[str], newest: str) -> str:
    """Return the project whose state is dropped for that of the newest one: the least recently used.

    Args:
        projects: of all states, the least recently used first.
        newest: the project that stays in any case.
    """
    return next(project for project in projects if project != newest)

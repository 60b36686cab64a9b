"""How often phrases stopped or went on at each trie node: the prior of the model's output factor.

After its first token, a phrase is priced at each node that it passes by one choice among *stop* and *continue
with t*. Knows nodes by number only; neither how phrases are found nor what their tokens are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

SMOOTHING = 0.4  # added to each count; near Krichevsky and Trofimov's 1/2, as most nodes branch little
COUNT_LIMIT = 255.0  # a node's counts are halved when their sum passes this, so that old habits fade
STOP = -1  # the option of a choice that ends the phrase


class Choice(NamedTuple):
    """One stop-or-continue decision: where it stands, what could be taken, and what was.

    Attributes:
        position: index of the phrase in the window.
        options: phrase ids that continue it; :data:`STOP` comes first.
        log_prior: log of each option's smoothed count, unnormalised, natural logarithm.
        taken: index into ``options``.
    """

    position: int
    options: tuple[int, ...]
    log_prior: tuple[float, ...]
    taken: int


class ChoiceCounts:
    """Fading counts of what was chosen at each node.

    >>> counts = ChoiceCounts()
    >>> counts.add(3, STOP)
    >>> ahead = counts.draft()
    >>> ahead.add(3, STOP)
    >>> [round(math.exp(table.log_prior(3, (STOP,))[0]), 1) for table in (counts, ahead)]
    [1.4, 2.4]
    """

    def __init__(self) -> None:
        self._nodes: dict[int, dict[int, float]] = {}
        self._under: dict[int, dict[int, float]] = {}  # a draft's original, which it only reads

    def draft(self) -> ChoiceCounts:
        """Return counts that start from these and leave these as they are; cheap, whatever their size."""
        ahead = ChoiceCounts()
        ahead._under = self._nodes
        return ahead

    def add(self, node: int, option: int, amount: float = 1.0) -> None:
        """Count one choice; halve the node's counts when they grow past the limit."""
        counts = self._nodes.get(node)
        if counts is None:
            counts = self._nodes[node] = dict(self._under.get(node, ()))
        counts[option] = counts.get(option, 0.0) + amount
        if sum(counts.values()) > COUNT_LIMIT:
            for key in counts:
                counts[key] /= 2

    def log_prior(self, node: int, options: Sequence[int]) -> tuple[float, ...]:
        """Return the log of each option's smoothed count, unnormalised."""
        counts = self._nodes.get(node) or self._under.get(node) or {}
        return tuple(math.log(counts.get(option, 0.0) + SMOOTHING) for option in options)

    def grow(self, parent: int, phrase: int, seen: float) -> None:
        """Give a node a new branch that was seen so often: those stops would now continue."""
        counts = self._nodes.setdefault(parent, {})
        stops = counts.get(STOP, 0.0)
        counts[STOP] = stops - min(stops, seen)
        self.add(parent, phrase, seen)

    def remove(self, parent: int, phrase: int) -> None:
        """Forget a phrase, as a node and as a branch of its parent."""
        self._nodes.pop(phrase, None)
        self._nodes.get(parent, {}).pop(phrase, None)

    def state_dict(self) -> list[Any]:
        """Return the counts, JSON-able, in order."""
        return [[node, list(counts.items())] for node, counts in self._nodes.items()]

    def load_state_dict(self, snapshot: Sequence[Any]) -> None:
        """Hold exactly what :meth:`state_dict` described."""
        self._nodes = {node: {int(o): float(c) for o, c in items} for node, items in snapshot}

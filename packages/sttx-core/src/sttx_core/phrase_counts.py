"""Counts how often a phrase ended or continued at each trie node.

Output probabilities start from these counts. The price of a phrase is that of its first token plus one choice
at each trie node on its path: *stop* or *continue with t*. This file knows nodes by number only; neither how
phrases are found nor their tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

# Added to each count. Close to the 1/2 of Krichevsky and Trofimov, because most nodes have few branches.
SMOOTHING = 0.4
COUNT_LIMIT = 255.0  # a node's counts are halved when their sum exceeds this, so that old data fades
STOP = -1  # the option that ends the phrase


class Choice(NamedTuple):
    """One stop-or-continue decision.

    Attributes:
        position: index of the phrase in the window.
        options: :data:`STOP`, then the phrase ids that continue the node.
        log_prior: natural logarithm of each option's smoothed count, not normalized.
        taken: index of the option that was taken.
    """

    position: int
    options: tuple[int, ...]
    log_prior: tuple[float, ...]
    taken: int


class ChoiceCounts:
    """Decaying counts of the options taken at each node.

    >>> counts = ChoiceCounts()
    >>> counts.add(3, STOP)
    >>> draft = counts.draft()
    >>> draft.add(3, STOP)
    >>> [round(math.exp(each.log_prior(3, (STOP,))[0]), 1) for each in (counts, draft)]
    [1.4, 2.4]
    """

    def __init__(self) -> None:
        self._nodes: dict[int, dict[int, float]] = {}
        # The parent's counts; a draft reads them and never writes them.
        self._base: dict[int, dict[int, float]] = {}

    def draft(self) -> ChoiceCounts:
        """Return counts that start from these and never change them. Cheap: only changed nodes are copied."""
        draft = ChoiceCounts()
        draft._base = self._nodes
        return draft

    def add(self, node: int, option: int, amount: float = 1.0) -> None:
        """Count one choice; halve the node's counts if their sum exceeds the limit."""
        counts = self._nodes.get(node)
        if counts is None:
            counts = self._nodes[node] = dict(self._base.get(node, ()))
        counts[option] = counts.get(option, 0.0) + amount
        if sum(counts.values()) > COUNT_LIMIT:
            for key in counts:
                counts[key] /= 2

    def log_prior(self, node: int, options: Sequence[int]) -> tuple[float, ...]:
        """Return the natural logarithm of each option's smoothed count, not normalized."""
        counts = self._nodes.get(node) or self._base.get(node) or {}
        return tuple(math.log(counts.get(option, 0.0) + SMOOTHING) for option in options)

    def add_branch(self, parent: int, phrase: int, seen: float) -> None:
        """Add a branch seen ``seen`` times; move that many of the parent's stops to the new branch."""
        counts = self._nodes.setdefault(parent, {})
        stops = counts.get(STOP, 0.0)
        counts[STOP] = stops - min(stops, seen)
        self.add(parent, phrase, seen)

    def remove(self, parent: int, phrase: int) -> None:
        """Remove a phrase, both as a node and as a branch of its parent."""
        self._nodes.pop(phrase, None)
        self._nodes.get(parent, {}).pop(phrase, None)

    def state_dict(self) -> list[Any]:
        """Return the counts, JSON-able and ordered."""
        return [[node, list(counts.items())] for node, counts in self._nodes.items()]

    def load_state_dict(self, state: Sequence[Any]) -> None:
        """Continue exactly from what :meth:`state_dict` returned."""
        self._nodes = {node: {int(o): float(c) for o, c in items} for node, items in state}

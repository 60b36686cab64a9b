"""Mixes distributions over the same items with weights that are learned from what came. Knows no items."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

_PATIENCE = 20.0
"""What the weights at the start count for, in observations."""


NEW = "new"
"""The way that says: something that no other way thinks of."""


class Blend:
    """A mixture of distributions: its probabilities are those of a distribution too.

    A way that says nothing (an empty distribution) leaves its weight to the others; that of `NEW` is the
    probability of items that none of them names. The weights are learned by the incremental EM algorithm
    (Neal and Hinton 1998): each moves towards its share of the probability of what came.

    Args:
        weights: of each way at the start; they are scaled to sum to 1.
        patience: what they count for, in observations.

    >>> blend = Blend({"a": 2, "b": 1, NEW: 1})
    >>> blend.mix({"a": {"x": 1.0}, "b": {"y": 1.0}})
    {'x': 0.5, 'y': 0.25}
    >>> blend.learn({"a": {"x": 1.0}, "b": {"y": 1.0}}, "y")
    >>> blend.weights["b"] > 0.25 > blend.weights[NEW]
    True
    """

    def __init__(self, weights: Mapping[str, float], patience: float = _PATIENCE) -> None:
        total = sum(weights.values())
        self.weights = {way: weight / total for way, weight in weights.items()}
        self._seen = patience

    def mix(self, said: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """Return the probability of each item that a way names. Pure."""
        speaking = self._speaking(said)
        total = sum(self.weights[way] for way in speaking)
        mixed: defaultdict[str, float] = defaultdict(float)
        for way in speaking:
            for item, p in said.get(way, {}).items():
                mixed[item] += self.weights[way] / total * p
        return dict(mixed)

    def learn(self, said: Mapping[str, Mapping[str, float]], came: str) -> None:
        """Learn the weights from an item that came; nothing if no way thought of it."""
        speaking = self._speaking(said)
        parts = {way: self.weights[way] * said.get(way, {}).get(came, 0.0) for way in speaking}
        if NEW in parts and not any(parts.values()):
            parts[NEW] = self.weights[NEW]
        total, share = sum(parts.values()), sum(self.weights[way] for way in speaking)
        if total <= 0.0:
            return
        self._seen += 1
        for way, part in parts.items():
            self.weights[way] += (share * part / total - self.weights[way]) / self._seen

    def _speaking(self, said: Mapping[str, Mapping[str, float]]) -> list[str]:
        return [way for way in self.weights if (way == NEW or said.get(way)) and self.weights[way] > 0]

"""What usually follows what: counts of the items of sessions, without any model.

An item is a tool's name, or a command. `Habits` predicts the next item of a session in several ways, each a
distribution over the items seen so far. Knows strings; neither traces nor networks.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

WAYS = ("session", "all", "session after", "all after", "recency")
"""How often an item came in this session, in all sessions; the same after its context; how recently."""


class Habits:
    """Counts of items, and of items after a context, by session and over all sessions."""

    def __init__(self) -> None:
        self._counts: defaultdict[tuple[str | None, str | None], Counter[str]] = defaultdict(Counter)
        self._recent: defaultdict[str, dict[str, None]] = defaultdict(dict)

    def add(self, session: str, item: str, after: str | None = None) -> None:
        """Count the next item of a session.

        Args:
            session: identity of the session.
            item: what came.
            after: its context, such as the item before; None if there is none.
        """
        for where in (session, None):
            self._counts[where, None][item] += 1
            if after is not None:
                self._counts[where, after][item] += 1
        recent = self._recent[session]
        recent.pop(item, None)
        recent[item] = None

    def predict(self, session: str, after: str | None = None) -> dict[str, dict[str, float]]:
        """Return for each of `WAYS` the probability of each item as the next one; {} where nothing is known.

        An item's probability is its share of the counts; by recency, half for the latest item, half of the
        rest for the one before, and so on.
        """
        recent = reversed(self._recent.get(session, {}))
        return {
            "session": self._shares(session, None),
            "all": self._shares(None, None),
            "session after": {} if after is None else self._shares(session, after),
            "all after": {} if after is None else self._shares(None, after),
            "recency": shares({item: 0.5**age for age, item in enumerate(recent)}),
        }

    def _shares(self, session: str | None, after: str | None) -> dict[str, float]:
        return shares(self._counts.get((session, after), {}))


def shares(counts: Mapping[str, float]) -> dict[str, float]:
    """Return each count as a share of their sum.

    >>> shares({"Read": 3, "Edit": 1})
    {'Read': 0.75, 'Edit': 0.25}
    """
    total = sum(counts.values())
    return {item: count / total for item, count in counts.items()} if total else {}

"""Sub-agents of early versions: they had no id, and stood in their parent's file between its own records.

Such a record says `isSidechain`. A sub-agent's first has no parent record, and each later one follows one of
its own, so that the chain tells who speaks, also where several sub-agents run at once.
"""

from typing import Any

_MOST = 32  # latest records by which the next is placed


class Sidechains:
    """Names the sub-agents of one file after their first record.

    Attributes:
        recent: The latest records as (uuid, sub-agent), newest first; replaced, never changed.

    >>> chains = Sidechains()
    >>> records = [("a", None), ("b", None), ("c", "a"), ("d", "b"), ("e", "c")]
    >>> [chains.subagent_of({"uuid": uuid, "parentUuid": parent}) for uuid, parent in records]
    ['sidechain-a', 'sidechain-b', 'sidechain-a', 'sidechain-b', 'sidechain-a']
    """

    def __init__(self) -> None:
        self.recent: tuple[tuple[str, str], ...] = ()

    def subagent_of(self, record: dict[str, Any]) -> str:
        """Name the sub-agent that a record is of; the same however often it is asked."""
        uuid, parent = record.get("uuid"), record.get("parentUuid")
        if not isinstance(uuid, str) or not uuid:
            return self.recent[0][1] if self.recent else "sidechain"
        known = dict(self.recent)
        if uuid in known:
            return known[uuid]
        subagent = ""
        if isinstance(parent, str) and parent:
            subagent = known.get(parent) or (self.recent[0][1] if self.recent else "")
        subagent = subagent or f"sidechain-{uuid[:8]}"
        self.recent = ((uuid, subagent), *self.recent[: _MOST - 1])
        return subagent

    def load_state_dict(self, recent: list[Any] | tuple[Any, ...]) -> None:
        """Go on where `recent` was this.

        Raises:
            ValueError: It was never that.
        """
        taken: list[tuple[str, str]] = []
        for one in recent:
            match one:
                case [str(uuid), str(subagent)]:
                    taken.append((uuid, subagent))
                case _:
                    raise ValueError("not a state of sub-agents")
        self.recent = tuple(taken[:_MOST])

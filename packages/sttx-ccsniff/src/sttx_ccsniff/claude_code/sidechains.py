"""Identifies the sub-agents of early versions, which have no id and share their parent's file.

Their records have `isSidechain`. A sub-agent's first record has no parent record, and each later record has
one of the sub-agent's own as its parent. So the chain of parents identifies the sub-agent, even if several
run at once.
"""

from typing import Any

_MOST = 32  # latest records that are searched for a parent


class Sidechains:
    """Names each sub-agent of one file by its first record.

    >>> chains = Sidechains()
    >>> records = [("a", None), ("b", None), ("c", "a"), ("d", "b"), ("e", "c")]
    >>> [chains.subagent_of({"uuid": uuid, "parentUuid": parent}) for uuid, parent in records]
    ['sidechain-a', 'sidechain-b', 'sidechain-a', 'sidechain-b', 'sidechain-a']
    """

    def __init__(self) -> None:
        self._recent: tuple[tuple[str, str], ...] = ()  # (uuid, sub-agent), newest first; never mutated

    def subagent_of(self, record: dict[str, Any]) -> str:
        """Return the sub-agent of a record; asking again returns the same."""
        uuid, parent = record.get("uuid"), record.get("parentUuid")
        if not isinstance(uuid, str) or not uuid:
            return self._recent[0][1] if self._recent else "sidechain"
        known = dict(self._recent)
        if uuid in known:
            return known[uuid]
        subagent = ""
        if isinstance(parent, str) and parent:
            subagent = known.get(parent) or (self._recent[0][1] if self._recent else "")
        subagent = subagent or f"sidechain-{uuid[:8]}"
        self._recent = ((uuid, subagent), *self._recent[: _MOST - 1])
        return subagent

    def state_dict(self) -> tuple[tuple[str, str], ...]:
        """Return the latest records as (uuid, sub-agent), newest first, JSON-able."""
        return self._recent

    def load_state_dict(self, state: list[Any] | tuple[Any, ...]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: The state is invalid.
        """
        recent: list[tuple[str, str]] = []
        for record in state:
            match record:
                case [str(uuid), str(subagent)]:
                    recent.append((uuid, subagent))
                case _:
                    raise ValueError("not a state of sub-agents")
        self._recent = tuple(recent[:_MOST])

"""What a source remembers across files: uuids already delivered, and the tools that calls named.

Both memories are bounded: two generations of at most `GENERATION` entries each, the older one forgotten when
the younger is full. So the last 131,072 are always known, and never more than 262,144: about 20 MB of uuids
(as 64-bit hashes: the chance that any two of them collide is under 1 in 10^8) and about 50 MB of tool calls.
"""

GENERATION = 2**17
"""Entries of one generation."""


class Seen:
    """The memory that every file of one source shares.

    >>> seen = Seen()
    >>> seen.first_time("a"), seen.first_time("b"), seen.first_time("a")
    (True, True, False)
    """

    def __init__(self, generation: int = GENERATION) -> None:
        self._generation = generation
        self._young: set[int] = set()
        self._old: set[int] = set()
        self._tools: dict[str, str] = {}
        self._old_tools: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def first_time(self, uuid: str) -> bool:
        """Remember a uuid; say whether it was unknown."""
        key = hash(uuid)
        if key in self._young or key in self._old:
            return False
        if len(self._young) >= self._generation:
            self._old, self._young = self._young, set()
        self._young.add(key)
        return True

    def remember_tool(self, call: str, name: str) -> None:
        """Remember which tool the call with this id is of."""
        if len(self._tools) >= self._generation:
            self._old_tools, self._tools = self._tools, {}
        self._tools[call] = name

    def tool_of(self, call: str) -> str | None:
        """Name the tool of a call; None if the call is not known."""
        name = self._tools.get(call)
        return self._old_tools.get(call) if name is None else name

"""What a source remembers across files: uuids that it has read, and the tool of each call.

Both memories are bounded. They have two generations of entries; when the younger one is full, the older one
is dropped. So the last 131,072 uuids are always known, and at most 262,144, in 4 MB. A uuid is stored as a
64-bit hash: the probability that any two of them collide is below 1e-8. Of tool calls the last 8,192 are
always known.

A memory keeps a journal of what it adds, so that the consumer's copy can follow as traces are taken.
"""

import base64
import secrets
import sys
from array import array
from hashlib import blake2b
from typing import Any, NamedTuple

from sttx_core.saved_state import State, converted

GENERATION = 2**17
"""Uuids per generation."""

CALLS = 2**13
"""Tool calls per generation."""

_UUID_LENGTH = 36
_MASK = 2**64 - 1
_FREE = array("Q", [0]) * 2**10


class Remembered(NamedTuple):
    """What a memory added: hashes of uuids, and calls with their tools, in order."""

    uuids: list[int]
    calls: list[tuple[str, str]]


_Calls = list[tuple[str, str]]


class _Saved(State):
    """What `Seen.state_dict` returns: the older generation, then the younger."""

    uuids: tuple[str, str]
    calls: tuple[_Calls, _Calls]


class Seen:
    """The memory that all files of one source share.

    >>> seen = Seen()
    >>> seen.first_time("a"), seen.first_time("b"), seen.first_time("a")
    (True, True, False)
    """

    def __init__(self, generation: int = GENERATION, calls: int = CALLS) -> None:
        self._generation = generation
        self._most_calls = calls
        self._young = _Hashes(generation)
        self._old = _Hashes(generation)
        self._tools: dict[str, str] = {}
        self._old_tools: dict[str, str] = {}
        self._journal = Remembered([], [])

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def first_time(self, uuid: str) -> bool:
        """Remember a uuid; return whether it was unknown."""
        key = _key(uuid)
        if key in self._old or not self._add(key):
            return False
        self._journal.uuids.append(key)
        return True

    def knows(self, uuid: str) -> bool:
        """Return whether a uuid is remembered, without remembering it."""
        key = _key(uuid)
        return key in self._old or key in self._young

    def remember_tool(self, call: str, name: str) -> None:
        """Remember the tool of the call with this id."""
        self._add_tool(call, name)
        self._journal.calls.append((call, name))

    def tool_of(self, call: str) -> str | None:
        """Return the tool of a call; None if the call is unknown."""
        name = self._tools.get(call)
        return self._old_tools.get(call) if name is None else name

    def take_journal(self) -> Remembered | None:
        """Return what was added since the last call, or None if nothing was."""
        journal = self._journal
        if not journal.uuids and not journal.calls:
            return None
        self._journal = Remembered([], [])
        return journal

    def follow(self, journal: Remembered) -> None:
        """Add what another memory added, from its journal."""
        for key in journal.uuids:
            self._add(key)
        for call, name in journal.calls:
            self._add_tool(call, name)

    def state_dict(self) -> dict[str, Any]:
        """Return the whole memory, JSON-able; uuids are base64 of little-endian 64-bit hashes."""
        return {
            "uuids": [self._old.packed(), self._young.packed()],
            "calls": [list(self._old_tools.items()), list(self._tools.items())],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a memory that `state_dict` returned.

        Raises:
            ValueError: The state is invalid.
        """
        saved = converted(_Saved, state)
        if max(map(len, saved.calls)) > self._most_calls:
            raise ValueError("more calls than a generation holds")
        self._old, self._young = (_unpacked(text, self._generation) for text in saved.uuids)
        self._old_tools, self._tools = map(dict, saved.calls)

    def _add(self, key: int) -> bool:
        """Add a hash to the young generation, which becomes the old one when full; return if it was new."""
        if not self._young.add(key):
            return False
        if len(self._young) >= self._generation:
            self._old, self._young = self._young, self._old
            self._young.clear()
        return True

    def _add_tool(self, call: str, name: str) -> None:
        if len(self._tools) >= self._most_calls:
            self._old_tools, self._tools = self._tools, {}
        self._tools[call] = name


def _key(uuid: str) -> int:
    """Return 64 bits of a uuid: both halves of a UUID combined, or a hash of any other text.

    One half alone is not enough: in version 1 it can be the same for many UUIDs.
    """
    if len(uuid) == _UUID_LENGTH:
        try:
            bits = int(uuid.replace("-", ""), 16)
            return (bits ^ bits >> 64) & _MASK
        except ValueError:
            pass
    return int.from_bytes(blake2b(uuid.encode(errors="replace"), digest_size=8).digest())


class _Hashes:
    """A set of 64-bit hashes in a table of fixed size, at most half full: no Python object per hash."""

    def __init__(self, most: int) -> None:
        self._mask = (1 << max(most * 2 - 1, 1).bit_length()) - 1
        self._table = array("Q", [0]) * (self._mask + 1)  # 0: free
        self._spread = secrets.randbits(64) | 1  # random, so that no file can aim at one slot
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: int) -> bool:
        table, mask = self._table, self._mask
        key = key or 1
        at = (key * self._spread >> 60) & mask
        while there := table[at]:
            if there == key:
                return True
            at = (at + 1) & mask
        return False

    def add(self, key: int) -> bool:
        """Add a hash; return whether it was new. The table must have room."""
        table, mask = self._table, self._mask
        key = key or 1
        at = (key * self._spread >> 60) & mask
        while there := table[at]:
            if there == key:
                return False
            at = (at + 1) & mask
        table[at] = key
        self._count += 1
        return True

    def clear(self) -> None:
        """Remove all hashes, in place: a new table would need memory before the old one is released."""
        for at in range(0, len(self._table), len(_FREE)):
            end = min(at + len(_FREE), len(self._table))
            self._table[at:end] = _FREE[: end - at]
        self._count = 0

    def packed(self) -> str:
        """Return the sorted hashes as base64 of little-endian 64-bit integers."""
        keys = array("Q", sorted(filter(None, self._table)))
        if sys.byteorder == "big":
            keys.byteswap()
        return base64.b64encode(keys.tobytes()).decode()


def _unpacked(text: str, most: int) -> _Hashes:
    keys = array("Q")
    keys.frombytes(base64.b64decode(text, validate=True))
    if sys.byteorder == "big":
        keys.byteswap()
    if len(keys) > most:
        raise ValueError("more uuids than a generation holds")
    hashes = _Hashes(most)
    for key in keys:
        hashes.add(key)
    return hashes

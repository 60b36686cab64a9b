"""The replay buffer: keeps the most surprising windows and draws them in proportion to their surprise.

Two trees over the slots make every operation O(log n): a tree of sums to draw by surprise, and a tree of
winners to find the least surprising item. Both follow from the slots, so a saved state has only the slots and
the random state. This file does not know what a window is for or how surprise is measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta, structs

from sttx_core.errors import UsageError
from sttx_core.saved_state import Count, Positive, State, checked, damaged

_LARGEST = 1e300
"""Sums of surprises must stay finite."""

_WHAT = "replay buffer"
_ARRAYS = {
    "tokens": np.int32,
    "offsets": np.int64,
    "surprise": np.float64,
    "generation": np.int64,
    "order": np.int64,
}
_Digits = Annotated[str, Meta(pattern=r"\A[0-9]{1,39}\Z")]
_Bits32 = Annotated[int, Meta(ge=0, lt=2**32)]


class _Random128(State):
    state: _Digits
    inc: _Digits


class _SavedRandom(State):
    """The state of numpy's generator, its numbers of 128 bits as text."""

    bit_generator: Literal["PCG64"]
    state: _Random128
    has_uint32: _Bits32
    uinteger: _Bits32

    def state_of_numpy(self) -> dict[str, Any]:
        """Return the state as numpy takes it."""
        inner = {"state": int(self.state.state), "inc": int(self.state.inc)}
        return structs.asdict(self) | {"state": inner}


class ReplayState(State):
    """What `ReplayBuffer.state_dict` returns, without its arrays."""

    capacity: Positive
    draws: Count
    adds: Count
    random: _SavedRandom


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """One drawn item, read-only; `slot` and `generation` identify it for `refresh`."""

    slot: int
    generation: int
    item: np.ndarray
    surprise: float


class ReplayBuffer:
    """At most `capacity` items with their surprise. The same seed and calls give the same draws.

    Args:
        capacity: Most items that it holds.
        seed: Seed of its own random generator.

    Attributes:
        draws: Number of items drawn so far.
    """

    def __init__(self, capacity: int = 1000, seed: int = 0):
        if capacity < 1:
            raise UsageError(f"the replay capacity is {capacity!r}: it must be 1 or more")
        self.capacity = capacity
        self.draws = 0
        self._adds = 0
        self._random = np.random.Generator(np.random.PCG64(seed))
        self._clear()

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: np.ndarray, surprise: float) -> None:
        """Add an item (1-D, int32, not empty); a full buffer drops the least surprising item.

        The new item may be the one that is dropped. Among equals the oldest is dropped.

        Raises:
            ValueError: The item is of another type, or the surprise is negative or not finite.
        """
        kept = _checked_item(item)
        surprise = _checked_surprise(surprise)
        order, self._adds = self._adds, self._adds + 1
        slot = len(self._items)
        if slot < self.capacity:
            self._items.append(kept)
        else:
            slot = int(self._winners[1])
            if surprise < self._sums[self._leaves + slot]:
                return
            self._items[slot] = kept
            self._generations[slot] += 1
        self._orders[slot] = order
        self._set_surprise(slot, surprise)

    def draw(self, n: int) -> list[Drawn]:
        """Draw n items with replacement, each with a probability proportional to its surprise.

        If every surprise is 0, all items are equally probable. An empty buffer gives an empty list.
        """
        if n < 0:
            raise ValueError(f"cannot draw {n!r} items: give 0 or more")
        if not self._items or n == 0:
            return []
        self.draws += n
        total = self._sums[1]
        if total > 0:
            slots = self._descend(self._random.random(n) * total)
        else:
            slots = self._random.integers(len(self._items), size=n)
        return [self._drawn(slot) for slot in slots.tolist()]

    def refresh(self, slot: int, generation: int, surprise: float) -> bool:
        """Set the surprise of a drawn item; return False if another item has taken its slot.

        Raises:
            ValueError: The surprise is negative or not finite.
        """
        surprise = _checked_surprise(surprise)
        if not 0 <= slot < len(self._items) or self._generations[slot] != generation:
            return False
        self._set_surprise(slot, surprise)
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides what comes next.

        Returns:
            `arrays`, numpy arrays by name: `tokens` has the items end to end, item i from `offsets[i]` to
            `offsets[i + 1]`; `surprise`, `generation` and `order` have one value for each slot. `meta` is the
            rest, JSON-able.
        """
        size = len(self._items)
        lengths = [len(item) for item in self._items]
        arrays = {
            "tokens": np.concatenate([np.zeros(0, np.int32), *self._items]),
            "offsets": np.cumsum([0, *lengths], dtype=np.int64),
            "surprise": self._sums[self._leaves : self._leaves + size].copy(),
            "generation": self._generations[:size].copy(),
            "order": self._orders[:size].copy(),
        }
        meta = {
            "capacity": self.capacity,
            "draws": self.draws,
            "adds": self._adds,
            "random": _random_to_json(self._random.bit_generator.state),
        }
        return {"arrays": arrays, "meta": meta}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue exactly from what `state_dict` returned. A bad state is refused and changes nothing.

        Raises:
            CheckpointError: The state is damaged, or belongs to a buffer with another capacity.
        """
        meta = checked(ReplayState, state.get("meta"), _WHAT)
        try:
            if meta.capacity != self.capacity:
                raise ValueError(f"it has capacity {meta.capacity!r}, this buffer {self.capacity}")
            items, surprises, generations, orders = _checked_arrays(
                state.get("arrays", {}), self.capacity, meta.adds
            )
            self._random.bit_generator.state = meta.random.state_of_numpy()
        except (ValueError, OverflowError) as error:
            raise damaged(_WHAT, str(error)) from error
        self._clear()
        self.draws, self._adds = meta.draws, meta.adds
        self._items = items
        self._generations[: len(items)] = generations
        self._orders[: len(items)] = orders
        for slot, surprise in enumerate(surprises.tolist()):
            self._set_surprise(slot, surprise)

    def _clear(self) -> None:
        """Remove all items. Node 1 is the root of both trees; slot s is leaf `_leaves + s`."""
        self._leaves = 1 << max(0, self.capacity - 1).bit_length()
        self._items: list[np.ndarray] = []
        self._generations = np.zeros(self.capacity, np.int64)
        self._orders = np.zeros(self.capacity, np.int64)
        self._sums = np.zeros(2 * self._leaves, np.float64)
        self._winners = np.full(2 * self._leaves, -1, np.int64)

    def _set_surprise(self, slot: int, surprise: float) -> None:
        node = self._leaves + slot
        self._sums[node] = surprise
        self._winners[node] = slot
        while node > 1:
            node //= 2
            left, right = 2 * node, 2 * node + 1
            self._sums[node] = self._sums[left] + self._sums[right]
            self._winners[node] = self._least(int(self._winners[left]), int(self._winners[right]))

    def _least(self, one: int, other: int) -> int:
        """Return the slot to drop first: the less surprising, then the older; -1 is an empty leaf."""
        if one < 0 or other < 0:
            return max(one, other)
        return min(one, other, key=lambda slot: (self._sums[self._leaves + slot], self._orders[slot]))

    def _descend(self, targets: np.ndarray) -> np.ndarray:
        """Return the slot at each target, a point on the line of all surprises laid end to end."""
        nodes = np.ones(len(targets), np.int64)
        while nodes[0] < self._leaves:
            left = self._sums[2 * nodes]
            to_right = (targets >= left) & (self._sums[2 * nodes + 1] > 0)  # rounding must not reach a 0
            targets = np.where(to_right, targets - left, targets)
            nodes = 2 * nodes + to_right
        return nodes - self._leaves

    def _drawn(self, slot: int) -> Drawn:
        surprise = float(self._sums[self._leaves + slot])
        return Drawn(slot, int(self._generations[slot]), self._items[slot], surprise)


def _checked_item(item: np.ndarray) -> np.ndarray:
    if not isinstance(item, np.ndarray) or item.dtype != np.int32 or item.ndim != 1 or not item.size:
        given = f"{item.dtype} {item.shape}" if isinstance(item, np.ndarray) else type(item).__name__
        raise ValueError(f"an item to replay must be a 1-D int32 array that is not empty, not {given}")
    kept = item.copy()
    kept.flags.writeable = False
    return kept


def _checked_surprise(surprise: float) -> float:
    surprise = float(surprise)
    if not 0 <= surprise <= _LARGEST:
        raise ValueError(f"surprise {surprise!r} is not a finite number of 0 or more")
    return surprise


def _checked_arrays(
    arrays: Mapping[str, np.ndarray], capacity: int, adds: int
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """Return items, surprises, generations and orders of saved arrays; `ValueError` if they are damaged."""
    for name, dtype in _ARRAYS.items():
        found = arrays.get(name)
        if found is None or found.dtype != dtype or found.ndim != 1:
            raise ValueError(f"its {name} are not one row of {dtype.__name__}")
    offsets, tokens, surprises = arrays["offsets"], arrays["tokens"], arrays["surprise"]
    generations, orders = arrays["generation"], arrays["order"]
    size = len(surprises)
    if size > capacity or {len(offsets) - 1, len(generations), len(orders)} != {size}:
        raise ValueError(f"its arrays disagree about the number of items, or hold more than {capacity}")
    if offsets[0] != 0 or offsets[-1] != len(tokens) or bool((np.diff(offsets) <= 0).any()):
        raise ValueError("its offsets do not rise from the first of its tokens to the last")
    if size and not (orders.min() >= 0 and orders.max() < adds and len(np.unique(orders)) == size):
        raise ValueError("its items were not added one after the other")
    if size and generations.min() < 0:
        raise ValueError("an item has a generation below 0")
    for surprise in surprises.tolist():
        _checked_surprise(surprise)
    items = [_checked_item(tokens[start:end]) for start, end in zip(offsets, offsets[1:], strict=False)]
    return items, surprises, generations, orders


def _random_to_json(state: Mapping[str, Any]) -> dict[str, Any]:
    """Write the 128-bit numbers as text, because not every JSON library can hold them."""
    inner = {name: str(value) for name, value in state["state"].items()}
    return {**state, "state": inner}

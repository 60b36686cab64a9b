"""The replay buffer: windows that surprised, drawn again in proportion to how much they did.

Two trees over the slots make every operation O(log n): one of sums, to draw by surprise, and one of winners,
to find the least surprising. Both follow from the slots alone, so a saved state is the slots and the random
state.
This file does not know what a window is for or how surprise was measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sttx_core.errors import CheckpointError, UsageError

_LARGEST = 1e300
"""Sums of surprises must stay finite."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """One draw: `slot` and `generation` name the item for `refresh`; `item` is read-only."""

    slot: int
    generation: int
    item: np.ndarray
    surprise: float


class ReplayBuffer:
    """At most `capacity` items with their surprise. Deterministic: same seed and calls, same draws.

    Args:
        capacity: How many items it holds.
        seed: Of its own random generator, which nothing else advances.

    Attributes:
        draws: How many items were ever drawn.
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
        """Keep an item (1-D, int32, not empty); a full buffer gives up the least surprising of all.

        That may be the new one. Among equals the oldest goes.

        Raises:
            ValueError: The item is of another kind, or the surprise is negative, infinite or no number.
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
        """Draw n items with replacement, each with a chance in proportion to its surprise.

        If nothing surprises (all are 0) every item has the same chance. An empty buffer gives an empty list.
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
        """Give a drawn item its new surprise; False if its slot was given to another item since.

        Raises:
            ValueError: The surprise is negative, infinite or no number.
        """
        surprise = _checked_surprise(surprise)
        if not 0 <= slot < len(self._items) or self._generations[slot] != generation:
            return False
        self._set_surprise(slot, surprise)
        return True

    def state_dict(self) -> dict[str, Any]:
        """Give all that a later run needs to go on as if it had never stopped.

        Returns:
            `arrays`, a dict of numpy arrays (the items end to end in `tokens`, item i from `offsets[i]` to
            `offsets[i + 1]`; of each slot its `surprise`, `generation` and `order`), and `meta`, a dict that
            JSON can hold.
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
        """Become the buffer that `state_dict` was asked of; a bad state is refused and changes nothing.

        Raises:
            CheckpointError: The state is damaged or of a buffer with another capacity.
        """
        try:
            arrays, meta = state["arrays"], state["meta"]
            if meta["capacity"] != self.capacity:
                raise ValueError(f"it has capacity {meta['capacity']!r}, this buffer {self.capacity}")
            items, surprises, generations, orders = _checked_arrays(arrays, self.capacity)
            random_state = _random_from_json(meta["random"])
            draws, adds = int(meta["draws"]), int(meta["adds"])
            self._random.bit_generator.state = random_state
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            why = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
            raise CheckpointError(f"the saved replay buffer does not fit: {why}") from error
        self._clear()
        self.draws, self._adds = draws, adds
        self._items = items
        self._generations[: len(items)] = generations
        self._orders[: len(items)] = orders
        for slot, surprise in enumerate(surprises.tolist()):
            self._set_surprise(slot, surprise)

    def _clear(self) -> None:
        """Forget all items. Node 1 is the root of both trees, slot s is leaf `_leaves + s`."""
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
        """The slot to give up before the other: less surprising, then older; -1 is no slot."""
        if one < 0 or other < 0:
            return max(one, other)
        return min(one, other, key=lambda slot: (self._sums[self._leaves + slot], self._orders[slot]))

    def _descend(self, targets: np.ndarray) -> np.ndarray:
        """Find the slot under each point of the line on which all surprises lie end to end."""
        nodes = np.ones(len(targets), np.int64)
        while nodes[0] < self._leaves:
            left = self._sums[2 * nodes]
            to_right = (targets >= left) & (self._sums[2 * nodes + 1] > 0)  # rounding never leads to a zero
            targets = np.where(to_right, targets - left, targets)
            nodes = 2 * nodes + to_right
        return nodes - self._leaves

    def _drawn(self, slot: int) -> Drawn:
        surprise = float(self._sums[self._leaves + slot])
        return Drawn(slot, int(self._generations[slot]), self._items[slot], surprise)


def _checked_item(item: np.ndarray) -> np.ndarray:
    if not isinstance(item, np.ndarray) or item.dtype != np.int32 or item.ndim != 1 or not item.size:
        kind = f"{item.dtype} {item.shape}" if isinstance(item, np.ndarray) else type(item).__name__
        raise ValueError(f"an item to replay is a 1-D int32 array with something in it, not {kind}")
    kept = item.copy()
    kept.flags.writeable = False
    return kept


def _checked_surprise(surprise: float) -> float:
    surprise = float(surprise)
    if not 0 <= surprise <= _LARGEST:
        raise ValueError(f"surprise {surprise!r} is not a finite number of 0 or more")
    return surprise


def _checked_arrays(
    arrays: Mapping[str, np.ndarray], capacity: int
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """Take saved arrays apart; a `ValueError` says what is wrong with them."""
    offsets = np.asarray(arrays["offsets"], np.int64)
    tokens, surprises = np.asarray(arrays["tokens"]), np.asarray(arrays["surprise"], np.float64)
    generations, orders = np.asarray(arrays["generation"], np.int64), np.asarray(arrays["order"], np.int64)
    size = len(surprises)
    if size > capacity or {len(offsets) - 1, len(generations), len(orders)} != {size}:
        raise ValueError(f"its arrays disagree about the number of items, or hold more than {capacity}")
    if offsets[0] != 0 or offsets[-1] != len(tokens):
        raise ValueError("its offsets do not span its tokens")
    for surprise in surprises.tolist():
        _checked_surprise(surprise)
    items = [_checked_item(tokens[start:end]) for start, end in zip(offsets, offsets[1:], strict=False)]
    return items, surprises, generations, orders


def _random_to_json(state: Mapping[str, Any]) -> dict[str, Any]:
    """Write the 128-bit numbers as text: not every JSON program can hold them."""
    inner = {name: str(value) for name, value in state["state"].items()}
    return {**state, "state": inner}


def _random_from_json(state: Mapping[str, Any]) -> dict[str, Any]:
    return {**state, "state": {name: int(value) for name, value in state["state"].items()}}

r"""A layer of an attached memory in plain numpy: the definition beside which ports are tested.

`sttx_train.memory.core` explains the equations; the names here are those of its tables. One row, one token at
a time, float64. `golden` returns a recorded layer of a Transformers model, and `largest_differences` runs it
again and compares every number, also those that a port computes (docs/memory.md).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_LEAST_LENGTH = 1e-6
_RMS_EPSILON = 1e-6
_READ_EPSILON = 1.0
_DECAY = 0.6065306597
STATE = ("slots", "keys", "counts", "last")
"""What a layer remembers."""


@dataclass
class Layer:
    """A layer's memory; it begins empty.

    Attributes:
        adapter: its tensors by name.
        chunk: tokens of a slot; 0: a slot is opened only where `opens` says so.
        slots: S ``[N, r (value), r (key)]``.
        keys: z ``[N, r]``.
        counts: l ``[N]``.
        last: h' ``[D]``.
        opens: whether the next written token opens a slot.
    """

    adapter: Mapping[str, Array]
    chunk: int
    slots: Array
    keys: Array
    counts: NDArray[np.int64]
    last: Array
    opens: bool = False

    @classmethod
    def empty(cls, adapter: Mapping[str, Array], slots: int, chunk: int) -> Layer:
        """Return an empty memory of N slots."""
        rank, width = adapter["key"].shape
        return cls(
            adapter,
            chunk,
            np.zeros((slots, rank, rank)),
            np.zeros((slots, rank)),
            np.zeros(slots, np.int64),
            np.zeros(width),
        )

    def step(self, x: Array, *, write: bool) -> dict[str, Any]:
        """Read for a token, and then write it if it is written.

        Args:
            x: the input of ``q_proj`` ``[D]``.
            write: whether the token is written.

        Returns:
            Everything that is computed, by its name: h, q, slot (None if none is in use), o, y, delta_q and
            delta_o; of a token that is written also k, v, w, a and k_tilde.
        """
        h = x / np.sqrt(np.mean(x**2) + _RMS_EPSILON)
        slot = self._slot_to_write() if write else 0
        found = {"h": h} | self._read(h)
        return found | self._write(h, slot) if write else found

    def _read(self, h: Array) -> dict[str, Any]:
        query = _unit(self.adapter["query"] @ h)
        used = np.flatnonzero(self.counts)
        slot, out = None, np.zeros_like(query)
        if len(used):
            slot = int(max(used, key=lambda number: (query @ _unit(self.keys[number]), -number)))
            out = self.slots[slot] @ query
        read = out / np.sqrt(np.mean(out**2) + _READ_EPSILON)
        deltas = {name: self.adapter[name] @ read for name in ("delta_q", "delta_o")}
        return {"q": query, "slot": slot, "o": out, "y": read, **deltas}

    def _write(self, h: Array, slot: int) -> dict[str, Any]:
        weights = self.adapter
        key = _unit(weights["key"] @ (h + weights["shift"] * (self.last - h)))
        value = weights["value"] @ h
        decay = np.exp(-_DECAY * _sigmoid(weights["decay_bias"] + weights["decay"] @ h))
        rate = _sigmoid(weights["rate_bias"] + weights["rate"] @ h)
        added = key * (1 + weights["key_rate"] * (rate - 1))
        state = self.slots[slot]
        removed = np.outer(state @ key, key * rate)
        self.slots[slot] = state * decay[None, :] - removed + np.outer(value, added)
        self.keys[slot] += key
        self.counts[slot] += 1
        self.last = h
        return {"k": key, "v": value, "w": decay, "a": rate, "k_tilde": added}

    def _slot_to_write(self) -> int:
        """Return the open slot; open the next one first, if it is time, and make room for it."""
        used, capacity = int((self.counts > 0).sum()), len(self.counts)
        if not used:
            self.opens = False
            return 0
        full = bool(self.chunk) and self.counts[used - 1] >= self.chunk
        opening, self.opens = self.opens or full, False
        if opening and used == capacity > 1:
            self._merge()
            return used - 1
        return used if opening and used < capacity else used - 1

    def _merge(self) -> None:
        counts, means = self.counts.astype(float), self.keys / self.counts[:, None]
        weight = counts[:-1] * counts[1:] / (counts[:-1] + counts[1:])
        first = int(np.argmin(weight * np.sum((means[1:] - means[:-1]) ** 2, axis=1)))
        for values in (self.slots, self.keys, self.counts):
            values[first] += values[first + 1]
            values[first + 1 : -1] = values[first + 2 :]
            values[-1] = 0


def golden() -> dict[str, Any]:
    """Return the recorded layer: JSON with the keys that docs/memory.md lists."""
    return json.loads(resources.files("sttx_core.memory").joinpath("attached_golden.json").read_bytes())


def largest_differences(record: Mapping[str, Any]) -> dict[str, float]:
    """Compute every token of a record again; return the largest difference of each number, by its name.

    Args:
        record: as `golden` returns it.

    Raises:
        ValueError: a number is missing, or has another shape.
    """
    adapter = {name: np.array(values) for name, values in record["adapter"].items()}
    config, found = record["config"], dict[str, float]()
    layer = Layer.empty(adapter, config["slots"], config["chunk"])
    for token in record["tokens"]:
        computed = layer.step(np.array(token["x"]), write=token["written"])
        computed |= {name: getattr(layer, name) for name in STATE}
        for projection in ("q", "o"):
            base, delta = np.array(token[f"{projection}_proj"]), computed[f"delta_{projection}"]
            computed[f"{projection}_proj_with_delta"] = base + delta
        given = ("x", "written", "q_proj", "o_proj")
        if computed.keys() != token.keys() - set(given):
            raise ValueError(f"a token has {sorted(token)}, and {sorted({*computed, *given})} are compared")
        for name, value in computed.items():
            found[name] = max(found.get(name, 0.0), _difference(name, value, token[name]))
    return found


def _difference(name: str, value: Any, recorded: Any) -> float:
    if value is None or recorded is None:
        return 0.0 if value is recorded else np.inf
    array, other = np.array(value, float), np.array(recorded, float)
    if array.shape != other.shape:
        raise ValueError(f"{name} is {list(other.shape)}, not {list(array.shape)}")
    return float(np.abs(array - other).max())


def _unit(vector: Array) -> Array:
    return vector / max(float(np.linalg.norm(vector)), _LEAST_LENGTH)


def _sigmoid(values: Array) -> Array:
    return 1 / (1 + np.exp(-values))

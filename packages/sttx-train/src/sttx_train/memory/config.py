"""The config of a memory beside a Transformer. Loads no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from sttx_core.errors import UsageError

Cut = Literal["chunk", "block"]
MOST_RANK, MOST_SLOTS = 1024, 4096


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """How large a memory is, where it is attached, and when a new state begins.

    Attributes:
        rank: r, the width of keys and values; a state is r x r.
        slots: N, the most states of a layer. When all are in use, two adjacent ones are merged.
        cut: when a new state begins: after every `chunk` written tokens, or where `new_block` is called, as a
            session does at each message or sentence.
        chunk: tokens of a state with the cut ``chunk``.
        layers: numbers of the layers with a memory; None: all that have their own keys and values.
        write_reads: whether a token that is written also reads. Without, what is written depends on the base
            alone.
        seed: of the adapter's initial weights.
    """

    rank: int = 8
    slots: int = 8
    cut: Cut = "chunk"
    chunk: int = 64
    layers: tuple[int, ...] | None = None
    write_reads: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("rank", 1, MOST_RANK),
            ("slots", 1, MOST_SLOTS),
            ("chunk", 1, 2**31),
            ("seed", 0, 2**63 - 1),
        ):
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise UsageError(f"--{name} must be a whole number from {low} to {high}, not {value!r}")
        if self.cut not in get_args(Cut):
            raise UsageError(f"--cut must be one of {', '.join(get_args(Cut))}, not {self.cut!r}")
        if type(self.write_reads) is not bool:
            raise UsageError(f"--write-reads must be true or false, not {self.write_reads!r}")
        layers = self.layers
        if layers is not None and (
            not layers or list(layers) != sorted({layer for layer in layers if _is_layer(layer)})
        ):
            raise UsageError(f"--layers must be increasing numbers of layers, not {layers!r}")

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them.

        >>> MemoryConfig.from_dict(MemoryConfig(layers=(1, 3)).as_dict()).layers
        (1, 3)
        """
        return asdict(self) | {"layers": None if self.layers is None else list(self.layers)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> MemoryConfig:
        """Return the config with these fields.

        Raises:
            UsageError: a field is missing or unknown, or its value is not allowed.
        """
        if set(fields) != set(cls.__dataclass_fields__):
            raise UsageError(f"a memory has the fields {', '.join(cls.__dataclass_fields__)}, not these")
        layers = fields["layers"]
        if layers is not None and not isinstance(layers, list):
            raise UsageError(f"--layers must be a list, not {layers!r}")
        return cls(**{**fields, "layers": None if layers is None else tuple(layers)})

    def digest(self) -> str:
        """Return the SHA-256 of the fields."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()


def _is_layer(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 20

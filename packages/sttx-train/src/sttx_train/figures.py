"""The file of figures that every run leaves, and the numbers on its lines. Knows no trainer."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

METRICS = "metrics.jsonl"
"""Its name in the folder of a run: one JSON object a line, a line a step."""


def finite_numbers(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int | float]]:
    """Yield every number that a float can hold, by its flattened name; what else there is has none.

    >>> list(finite_numbers({"step": 4, "bpb": {"paid": 2.5, "frozen": None}, "lr": float("nan")}))
    [('step', 4), ('bpb.paid', 2.5)]
    """
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from finite_numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and abs(value) <= sys.float_info.max:
            yield f"{prefix}{name}", value

"""The metrics of a run: one JSON object a line, one line a step. Knows no trainer and no checkpoint."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sttx_core.errors import CheckpointError
from sttx_train.files import sync

METRICS = "metrics.jsonl"
"""Name of the file in a run folder."""


class MetricsFile:
    """A file of metrics that a run appends to.

    Every line is strict JSON: a number that is not finite is written as null.

    Args:
        path: the file; the first `append` makes it, with its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: Mapping[str, Any]) -> None:
        """Write the line of one step.

        Raises:
            OSError: the file cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(_with_nulls(row), allow_nan=False)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def sync(self) -> int:
        """Flush the file to the disk and return its size in bytes; 0 if there is none."""
        if not self.path.exists():
            return 0
        sync(self.path)
        return self.path.stat().st_size

    def cut_back(self, step: int, *, size: int | None = None) -> None:
        """Remove the lines after a step, and a last line that was cut short: those steps are done again.

        Args:
            step: the step of the checkpoint that the run resumes from; 0 for a new run.
            size: size of the file when that checkpoint was saved, which makes reading it unnecessary; None if
                the checkpoint does not say.

        Raises:
            CheckpointError: the file is shorter than that, or a line is not a run's metrics. The file is not
                changed.
        """
        length = self.path.stat().st_size if self.path.exists() else 0
        if size is not None and length < size:
            raise CheckpointError(
                f"{str(self.path)!r} is shorter than when the checkpoint was saved: restore it from a copy, "
                "or start again in another folder"
            )
        end = self._end_of(step) if size is None else size
        if end < length:
            os.truncate(self.path, end)
        if end and size is None:
            self._end_last_line()

    def check(self) -> None:
        """Refuse a file that is not a run's metrics; a missing one is accepted.

        Raises:
            CheckpointError: names the first line that is not a step's metrics.
            OSError: the file cannot be read.
        """
        self._end_of(0)

    def _end_of(self, step: int) -> int:
        """Return the offset after the last line of a step up to the given one; 0 if there is no file."""
        if not self.path.exists():
            return 0
        end, offset = None, 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                line_step = _step_of(line)
                if line_step is None and line.endswith(b"\n"):  # otherwise it is the last line, cut short
                    raise CheckpointError(
                        f"line {number} of {str(self.path)!r} is not a JSON object with its step, as in "
                        "metrics: move the file away, or give another folder for the run"
                    )
                if end is None and (line_step is None or line_step > step):
                    end = offset
                offset += len(line)
        return offset if end is None else end

    def _end_last_line(self) -> None:
        """Write the line end that a complete last line lacks."""
        with self.path.open("rb+") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")


def finite_numbers(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int | float]]:
    """Yield every number that a float can hold, by its flattened name; skip all other values.

    >>> list(finite_numbers({"step": 4, "bpb": {"paid": 2.5, "frozen": None}, "lr": float("nan")}))
    [('step', 4), ('bpb.paid', 2.5)]
    """
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from finite_numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and abs(value) <= sys.float_info.max:
            yield f"{prefix}{name}", value


def current_metric(name: str) -> str:
    """Return a metric's name today, given its name in the metrics of any version.

    >>> current_metric("held_out_bpb"), current_metric("loss")
    ('validation_bpb', 'loss')
    """
    return "validation" + name.removeprefix("held_out") if name.startswith("held_out") else name


def _step_of(line: bytes) -> int | None:
    """Return the step of a line, None if it has none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    step = row.get("step") if isinstance(row, dict) else None
    return step if type(step) is int else None


def _with_nulls(value: Any) -> Any:
    match value:
        case dict():
            return {name: _with_nulls(inner) for name, inner in value.items()}
        case float():
            return value if math.isfinite(value) else None
        case _:
            return value

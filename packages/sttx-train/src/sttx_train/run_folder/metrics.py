"""The metrics of a run: one JSON object a line, one line a step. Knows no trainer and no checkpoint."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from sttx_core.errors import CheckpointError
from sttx_core.foreign_files import open_regular, parse_json
from sttx_core.own_files import make_private, make_private_folder, open_own

METRICS = "metrics.jsonl"
"""Name of the file in a run folder."""

LONGEST_LINE = 1 << 20
"""Bytes; a longer line was not written by a run."""


_LARGEST_NUMBER = 1e300


class MetricsFile:
    """A file of metrics that a run appends to.

    Every line is strict JSON: a number that is not finite is written as null. The file is opened only if it
    is a regular file with this name alone, and only its owner may read it.

    Args:
        path: the file; the first `append` makes it, with its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: Mapping[str, Any]) -> None:
        """Write the line of one step.

        Raises:
            UsageError: the file is a link.
            OSError: the file cannot be written.
        """
        make_private_folder(self.path.parent)
        line = json.dumps(_with_nulls(row), allow_nan=False)
        with self._opened(os.O_WRONLY | os.O_APPEND | os.O_CREAT, "a") as file:
            file.write(line.encode() + b"\n")

    def touch(self) -> None:
        """Make an empty file if there is none."""
        self._opened(os.O_WRONLY | os.O_CREAT, "a").close()

    def sync(self) -> int:
        """Flush the file to the disk and return its size in bytes; 0 if there is none.

        Raises:
            UsageError: the file is a link.
            OSError: the file cannot be flushed.
        """
        try:
            opened = self._opened(os.O_RDWR, "r+")
        except FileNotFoundError:
            return 0
        with opened as file:
            os.fsync(file.fileno())
            return os.fstat(file.fileno()).st_size

    def cut_back(self, step: int, *, size: int | None = None) -> None:
        """Remove the lines after a step, and a last line that was cut short: those steps are done again.

        Args:
            step: the step of the checkpoint that the run resumes from; 0 for a new run.
            size: size of the file when that checkpoint was saved, which makes reading all of it unnecessary;
                None if the checkpoint does not say.

        Raises:
            CheckpointError: the file is shorter than that, a line is not a run's metrics, or the last line up
                to the size is of another step. The file is not changed.
            UsageError: the file is a link.
        """
        try:
            opened = self._opened(os.O_RDWR, "r+")
        except FileNotFoundError:
            if size:
                raise self._shorter() from None
            return
        with opened as file:
            length = os.fstat(file.fileno()).st_size
            if size is not None and length < size:
                raise self._shorter()
            end = self._end_of(file, step) if size is None else size
            if size:
                self._require_step(file, size, step)
            if end < length:
                os.ftruncate(file.fileno(), end)
            if end and size is None:
                _end_last_line(file)

    def check(self) -> None:
        """Refuse a file that is not a run's metrics; a missing one is accepted.

        Raises:
            CheckpointError: names the first line that is not a step's metrics.
            UsageError: the file is a link.
            OSError: the file cannot be read.
        """
        with suppress(FileNotFoundError), self._opened(os.O_RDWR, "r+") as file:
            self._end_of(file, 0)

    def _opened(self, flags: int, mode: str) -> IO[bytes]:
        handle = open_own(self.path, flags)
        make_private(handle)
        return os.fdopen(handle, f"{mode}b")

    def _end_of(self, file: IO[bytes], step: int) -> int:
        """Return the offset after the last line of a step up to the given one."""
        end, offset, number = None, 0, 0
        while line := file.readline(LONGEST_LINE):
            number += 1
            line_step = _step_of(line)
            # Otherwise it is the last line, cut short.
            if line_step is None and (line.endswith(b"\n") or len(line) == LONGEST_LINE):
                raise CheckpointError(
                    f"line {number} of {str(self.path)!r} is not a JSON object with its step, as in "
                    "metrics: move the file away, or give another folder for the run"
                )
            if end is None and (line_step is None or line_step > step):
                end = offset
            offset += len(line)
        return offset if end is None else end

    def _require_step(self, file: IO[bytes], size: int, step: int) -> None:
        """Refuse to cut the file inside a line, or where it ends with another step than the checkpoint's."""
        start = max(0, size - LONGEST_LINE)
        file.seek(start)
        line = file.read(size - start)
        if not line.endswith(b"\n") or _step_of(line[line.rfind(b"\n", 0, -1) + 1 :]) != step:
            raise CheckpointError(
                f"{str(self.path)!r} does not end with step {step} where the checkpoint says: restore it "
                "from a copy, or start again in another folder"
            )

    def _shorter(self) -> CheckpointError:
        return CheckpointError(
            f"{str(self.path)!r} is shorter than when the checkpoint was saved: restore it from a copy, "
            "or start again in another folder"
        )


def metric_lines(path: Path) -> Iterator[tuple[dict[str, Any] | None, bool]]:
    """Yield the object of each line of a file of metrics, None if it is not JSON; and whether the line ended.

    A line that is longer than any of a run is yielded in pieces, each of them None.

    Raises:
        OSError: the file cannot be read, or is not a regular file.
    """
    with open_regular(path) as file:
        while raw := file.readline(LONGEST_LINE):
            if raw.strip():
                yield _object_of(raw), raw.endswith(b"\n")


def _end_last_line(file: IO[bytes]) -> None:
    """Write the line end that a complete last line lacks."""
    file.seek(-1, os.SEEK_END)
    if file.read(1) != b"\n":
        file.write(b"\n")


def finite_numbers(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int | float]]:
    """Yield every number by its flattened name, up to 1e300, so that sums are finite; skip all other values.

    >>> list(finite_numbers({"step": 4, "bpb": {"paid": 2.5, "frozen": None}, "lr": float("nan")}))
    [('step', 4), ('bpb.paid', 2.5)]
    """
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from finite_numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and abs(value) <= _LARGEST_NUMBER:
            yield f"{prefix}{name}", value


def current_metric(name: str) -> str:
    """Return a metric's name today, given its name in the metrics of any version.

    >>> current_metric("held_out_bpb"), current_metric("loss")
    ('validation_bpb', 'loss')
    """
    return "validation" + name.removeprefix("held_out") if name.startswith("held_out") else name


def _object_of(line: bytes) -> dict[str, Any] | None:
    """Return the JSON object of a line, None if the line holds something else."""
    try:
        row = parse_json(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _step_of(line: bytes) -> int | None:
    """Return the step of a line, None if it has none."""
    step = (_object_of(line) or {}).get("step")
    return step if type(step) is int else None


def _with_nulls(value: Any) -> Any:
    match value:
        case dict():
            return {name: _with_nulls(inner) for name, inner in value.items()}
        case float():
            return value if math.isfinite(value) else None
        case _:
            return value

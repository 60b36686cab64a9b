"""A run's numbers as lines of JSON, and to TensorBoard or Weights & Biases where one of them is installed."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from sttx_core.errors import DataError, UsageError
from sttx_train.figures import METRICS as METRICS
from sttx_train.files import replacing_file

Also = Literal["tensorboard", "wandb"]


class Writer(Protocol):
    """Takes the numbers of each step."""

    def write(self, step: int, row: Mapping[str, Any]) -> None:
        """Take them; those that are None were not measured."""
        ...

    def close(self) -> None:
        """Write what waits."""
        ...


class JsonLines:
    """A file of one JSON object a step; what was measured and is no finite number is null.

    Args:
        path: the file; made with its folder at the first step.
        step: the last step that counts. Lines of later ones, which will be done again, are taken out.

    Raises:
        DataError: the file is there and holds something else; it stays as it is.
    """

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        drop_after(path, step)

    def write(self, step: int, row: Mapping[str, Any]) -> None:
        """Append a line."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        told = {name: _finite(value) for name, value in row.items() if value is not None}
        line = json.dumps({"step": step} | told, allow_nan=False)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def close(self) -> None:
        """Nothing waits: every line is written at once."""


class TensorBoard:
    """Event files that `tensorboard --logdir` shows."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, step: int, row: Mapping[str, Any]) -> None:
        """Add every number."""
        for name, value in row.items():
            if isinstance(value, (int, float)):
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what waits."""
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases; how it is reached is set in that library's own ways."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        wandb = importlib.import_module("wandb")
        self._run = wandb.init(project="sttx-pretrain", dir=str(folder), config=dict(config))

    def write(self, step: int, row: Mapping[str, Any]) -> None:
        """Log what was measured."""
        self._run.log({name: value for name, value in row.items() if value is not None}, step=step)

    def close(self) -> None:
        """End the run."""
        self._run.finish()


def drop_after(path: Path, step: int) -> None:
    """Take out the lines of steps that a run has not done, or will do again: it died after its checkpoint.

    Raises:
        DataError: a line is none of a run's metrics; the file stays as it is.
    """
    if not path.exists():
        return
    kept = []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        if (done := _step_of(line)) is not None:
            if done <= step:
                kept.append(line.rstrip(b"\r\n") + b"\n")
        elif line.endswith(b"\n"):  # else it is the last one, cut short
            raise DataError(
                f"line {number} of {str(path)!r} is not of a run's metrics, a JSON object with its step: "
                "move the file away, or name another folder for the run"
            )
    with replacing_file(path) as aside:
        aside.write_bytes(b"".join(kept))


def _step_of(line: bytes) -> int | None:
    """Return which step a line is of; None if it does not say."""
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return None
    step = told.get("step") if isinstance(told, dict) else None
    return step if type(step) is int else None


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def require_installed(also: Sequence[Also]) -> None:
    """Refuse to log to what is not installed.

    Raises:
        UsageError: the package of one is not there.
    """
    for name in also:
        if importlib.util.find_spec(name) is None:
            raise UsageError(f"--log {name} needs the package {name!r}, which is not installed: install it")

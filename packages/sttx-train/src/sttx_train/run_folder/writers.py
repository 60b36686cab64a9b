"""Where the numbers of each step go beside `metrics.jsonl`: TensorBoard, or Weights & Biases."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from sttx_core.errors import UsageError
from sttx_core.own_files import make_private_folder, refuse_unless_folder

ExtraWriter = Literal["tensorboard", "wandb"]


class Writer(Protocol):
    """Takes the numbers of each step."""

    def write(self, step: int, row: Mapping[str, Any]) -> None:
        """Write the numbers of one step."""
        ...

    def close(self) -> None:
        """Flush and close."""
        ...


class TensorBoard:
    """Writes event files that `tensorboard --logdir` shows."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, step: int, row: Mapping[str, Any]) -> None:
        """Write every number; skip all other values."""
        for name, value in row.items():
            if isinstance(value, (int, float)):
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases, which reads its own settings: login, host, proxy."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        wandb = importlib.import_module("wandb")
        self._run = wandb.init(project="sttx-pretrain", dir=str(folder), config=dict(config))

    def write(self, step: int, row: Mapping[str, Any]) -> None:
        """Log the row."""
        self._run.log(dict(row), step=step)

    def close(self) -> None:
        """End the run."""
        self._run.finish()


def open_writers(
    names: Sequence[ExtraWriter], folder: Path, *, step: int, config: Mapping[str, Any]
) -> list[Writer]:
    """Open writers in subfolders of a run folder.

    Args:
        names: which.
        folder: the run folder.
        step: the step that the run is at; TensorBoard drops what it has of later ones.
        config: the run's config, which Weights & Biases shows.
    """
    writers: list[Writer] = []
    for name in names:
        refuse_unless_folder(folder / name)
        make_private_folder(folder / name)
        match name:
            case "tensorboard":
                writers.append(TensorBoard(folder / name, step))
            case "wandb":
                writers.append(WeightsAndBiases(folder / name, config))
    return writers


def require_installed(names: Sequence[ExtraWriter]) -> None:
    """Refuse a writer whose package is not installed.

    Raises:
        UsageError: a package is missing.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UsageError(f"--log {name} needs the package {name!r}, which is not installed: install it")

"""Where the numbers of each step go beside `metrics.jsonl`: TensorBoard, or Weights & Biases.

These programs make files of their own, from threads and processes of their own. While they write, the umask
of this process, which theirs inherit, keeps everybody else out.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, Protocol

from sttx_core.errors import UsageError
from sttx_core.own_files import make_private_folder, refuse_unless_folder, tighten

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

    def __init__(self, folder: Path, config: Mapping[str, Any], project: str) -> None:
        wandb = importlib.import_module("wandb")
        self._run = wandb.init(project=project, dir=str(folder), config=dict(config))

    def write(self, step: int, row: Mapping[str, Any]) -> None:
        """Log the row."""
        self._run.log(dict(row), step=step)

    def close(self) -> None:
        """End the run."""
        self._run.finish()


@contextmanager
def open_writers(
    names: Sequence[ExtraWriter],
    folder: Path,
    *,
    step: int,
    config: Mapping[str, Any],
    project: str = "sttx-pretrain",
) -> Iterator[list[Writer]]:
    """Open writers in subfolders of a run folder, close them in the end, and let only the owner read them.

    Args:
        names: which.
        folder: the run folder.
        step: the step that the run is at; TensorBoard drops what it has of later ones.
        config: the run's config, which Weights & Biases shows.
        project: the project of Weights & Biases that the run belongs to.
    """
    with ExitStack() as stack:
        if names:
            stack.callback(os.umask, os.umask(0o077))
        writers: list[Writer] = []
        for name in names:
            refuse_unless_folder(folder / name)
            make_private_folder(folder / name)
            tighten(folder / name)
            _tighten_all(folder / name)
            stack.callback(_tighten_all, folder / name)  # also what set its own mode
            writer = _opened(name, folder / name, step, config, project)
            stack.callback(writer.close)
            writers.append(writer)
        yield writers


def _opened(name: ExtraWriter, folder: Path, step: int, config: Mapping[str, Any], project: str) -> Writer:
    match name:
        case "tensorboard":
            return TensorBoard(folder, step)
        case "wandb":
            return WeightsAndBiases(folder, config, project)


def _tighten_all(folder: Path) -> None:
    """Let nobody but the owner read a folder and what is in it; links and hard links stay."""
    for parent, folders, files in os.walk(folder):
        for path in (Path(parent, name) for name in (*folders, *files)):
            with suppress(FileNotFoundError):  # its program has removed it
                found = path.lstat()
                if stat.S_ISDIR(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink == 1):
                    tighten(path)


def require_installed(names: Sequence[ExtraWriter]) -> None:
    """Refuse a writer whose package is not installed.

    Raises:
        UsageError: a package is missing.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UsageError(f"--log {name} needs the package {name!r}, which is not installed: install it")

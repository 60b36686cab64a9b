"""One run folder: layout, saving and resuming. Knows neither models nor what a step is; loads no torch.

```
DIR/
├── step-…/, latest, .lock  the checkpoints, as `checkpoint.store` writes them
├── metrics.jsonl           one JSON object a step
├── best/                   the checkpoint with the lowest validation loss (pretraining)
└── tensorboard/, wandb/    what `--log` asks for
```
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sttx_core.errors import CheckpointError, UsageError
from sttx_core.os_errors import explain
from sttx_train.checkpoint.store import Checkpoint, CheckpointStore
from sttx_train.run_folder.metrics import METRICS, MetricsFile

if TYPE_CHECKING:
    from torch import Tensor

BEST = "best"
"""Subfolder for the checkpoint with the lowest validation loss."""

_COMMANDS = {"stream": "sttx train", "pretrain": "sttx pretrain"}


class RunFolder:
    """The folder of a run.

    Args:
        path: the folder; it need not exist yet.
        kind: what runs in it, ``stream`` or ``pretrain``; a folder of the other kind is not resumed.
        keep: number of checkpoints to keep.

    Attributes:
        checkpoints: the run's checkpoints.
        best: the best checkpoint so far.
        metrics: the run's metrics.
        checkpoint: the newest checkpoint that this object saved or resumed from; None before the first.
    """

    def __init__(self, path: Path, *, kind: str, keep: int) -> None:
        self.path, self.kind = Path(path), kind
        self.checkpoints = CheckpointStore(self.path, keep=keep)
        self.best = CheckpointStore(self.path / BEST, keep=1, run=self.checkpoints)
        self.metrics = MetricsFile(self.path / METRICS)
        self.checkpoint: Path | None = None
        self._started = False

    def expect(self, *, resume: bool) -> None:
        """Refuse, before anything is loaded, a folder that this run cannot use.

        Raises:
            UsageError: a new run would overwrite the run in the folder, there is no run to resume, or the
                folder cannot be written.
            CheckpointError: the folder cannot be read, or a new run finds a ``metrics.jsonl`` in it that is
                not a run's.
        """
        self.checkpoints.expect(run=resume)
        if resume:
            return
        try:
            self.metrics.check()
        except OSError as error:
            raise CheckpointError(
                f"cannot read {str(self.metrics.path)!r}: {explain(error, 'fix the cause')}, or give another "
                "folder for the run"
            ) from error

    def load(self) -> Checkpoint:
        """Return the newest checkpoint.

        Raises:
            UsageError: the folder holds a run of another kind.
            CheckpointError: there is no checkpoint, or it is damaged.
        """
        saved = self.checkpoints.load()
        kind = saved.manifest.get("kind")
        if kind != self.kind:
            raise UsageError(
                f"{str(self.path)!r} holds a run of {_COMMANDS.get(str(kind), repr(kind))!r}, not of "
                f"{_COMMANDS[self.kind]!r}: give another --checkpoint-dir"
            )
        return saved

    def resume_from(self, saved: Checkpoint) -> None:
        """Cut the metrics back to a checkpoint.

        Raises:
            CheckpointError: the metrics are shorter than when it was saved, or not a run's.
        """
        old = saved.documents.get("stream", {}).get("metrics_bytes")  # where `sttx train` kept it before
        self.metrics.cut_back(saved.step, size=saved.manifest.get("metrics_bytes", old))
        self.checkpoint, self._started = saved.path, True

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Write the metrics of one step.

        Raises:
            CheckpointError: they cannot be written; names the last saved step.
        """
        try:
            self._start()
            self.metrics.append(row)
        except OSError as error:
            raise self._not_written(error) from error

    def save(
        self,
        step: int,
        *,
        tensors: Mapping[str, Mapping[str, Tensor]],
        documents: Mapping[str, Any],
        manifest: Mapping[str, Any],
    ) -> Path:
        """Flush the metrics to the disk, write a checkpoint, and return its folder.

        Raises:
            CheckpointError: it cannot be written; the last checkpoint stays.
        """
        try:
            self._start()
            size = self.metrics.sync()
        except OSError as error:
            raise self._not_written(error) from error
        self.checkpoint = self.checkpoints.save(
            step,
            tensors=tensors,
            documents=documents,
            manifest={"kind": self.kind, "metrics_bytes": size, **manifest},
        )
        return self.checkpoint

    def _start(self) -> None:
        """Make the folder of a new run; remove the metrics of a run that died before its first checkpoint."""
        if not self._started:
            self.path.mkdir(parents=True, exist_ok=True)
            self.metrics.cut_back(0)
            self.metrics.path.touch()
            self._started = True

    def _not_written(self, error: OSError) -> CheckpointError:
        why = explain(error, "fix the cause")
        return CheckpointError(f"cannot write {str(self.metrics.path)!r}: {why}, {self.checkpoints.way_on()}")

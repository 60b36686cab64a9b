"""One run folder: layout, saving and resuming. Knows neither models nor what a step is; loads no torch.

```
DIR/
├── sttx-run.json           says that the folder is a run, and of which command
├── step-…/, latest, .lock  the checkpoints, as `checkpoint.store` writes them
├── metrics.jsonl           one JSON object a step
├── best/                   the checkpoint with the lowest validation loss (pretraining)
└── tensorboard/, wandb/    what `--log` asks for
```

A new run takes only a new or empty folder, and nothing is written through a link. Only the owner may enter
the folder. Earlier versions wrote no `sttx-run.json`; their runs are recognized by their checkpoints.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sttx_core.errors import CheckpointError, UsageError
from sttx_core.foreign_files import shown
from sttx_core.os_errors import explain
from sttx_core.own_files import (
    make_private_folder,
    refuse_unless_folder,
    refuse_unless_own,
    replacing_file,
    tighten,
)
from sttx_train.checkpoint.store import Checkpoint, CheckpointStore
from sttx_train.run_folder.metrics import METRICS, MetricsFile
from sttx_train.run_folder.saved import check_checkpoint, read_marker

if TYPE_CHECKING:
    from torch import Tensor

BEST = "best"
"""Subfolder for the checkpoint with the lowest validation loss."""

MARKER = "sttx-run.json"
"""The file by which a folder is known to be a run's."""

_UNFINISHED = (f".{MARKER}.", ".sttx-writable-")  # names of what a killed run leaves before it is marked
_COMMANDS = {"stream": "sttx train", "pretrain": "sttx pretrain", "tune": "sttx tune"}
_FILES, _FOLDERS = (MARKER, METRICS, "latest", ".lock"), (BEST, "tensorboard", "wandb")


class RunFolder:
    """The folder of a run.

    Args:
        path: the folder; it need not exist yet.
        kind: what runs in it, ``stream``, ``pretrain`` or ``tune``; a folder of another kind
            is not resumed.
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
            UsageError: the folder holds no run, or one of another kind; a new run would overwrite the run in
                it; nothing is there to resume; the folder is not writable, or one of its files is a link.
            CheckpointError: the folder cannot be read, or its ``metrics.jsonl`` is not a run's.
        """
        try:
            self._require_own()
        except OSError as error:
            why = explain(error, "fix the cause")
            raise CheckpointError(
                f"cannot read files in {str(self.path)!r}: {why}, or give another folder for the run"
            ) from error
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

    def _require_own(self) -> None:
        """Refuse a folder that is not empty and not a run's, and links in the place of what a run writes."""
        if not self.path.is_dir():
            return
        for name in _FILES:
            refuse_unless_own(self.path / name)
        for name in _FOLDERS:
            refuse_unless_folder(self.path / name)
        kind = read_marker(self.path / MARKER)
        if kind is not None:
            if kind != self.kind:
                raise self._of_another_kind(kind)
        elif not self.checkpoints.folders():
            names = sorted(path.name for path in self.path.iterdir() if not path.name.startswith(_UNFINISHED))
            if names:
                there = f"{str(self.path)!r} holds {shown(names[0])}"
                raise UsageError(f"{there} and no run of sttx: give a new or empty folder")

    def load(self) -> Checkpoint:
        """Return the newest checkpoint.

        Raises:
            UsageError: the folder holds a run of another kind.
            CheckpointError: there is no checkpoint, or it is damaged.
        """
        saved = self.checkpoints.load()
        kind = saved.manifest.get("kind")
        if kind != self.kind:
            raise self._of_another_kind(kind)
        check_checkpoint(saved)
        return saved

    def load_best(self) -> Checkpoint:
        """Return the best checkpoint.

        Raises:
            CheckpointError: there is none, or it is damaged.
        """
        refuse_unless_folder(self.best.directory)
        saved = self.best.load()
        check_checkpoint(saved)
        return saved

    def _of_another_kind(self, kind: object) -> UsageError:
        command = _COMMANDS.get(kind) if isinstance(kind, str) else None
        held = f"a run of {command!r}" if command else "a run of another program"
        return UsageError(
            f"{str(self.path)!r} holds {held}, not of {_COMMANDS[self.kind]!r}: give another --checkpoint-dir"
        )

    def resume_from(self, saved: Checkpoint) -> None:
        """Cut the metrics back to a checkpoint.

        Raises:
            CheckpointError: the metrics are shorter than when it was saved, not a run's, or not writable.
        """
        old = saved.documents.get("stream", {}).get("metrics_bytes")  # where `sttx train` kept it before
        with self._writing():
            self._require_own()
            tighten(self.path)
            self.metrics.cut_back(saved.step, size=saved.manifest.get("metrics_bytes", old))
            self._mark()
        self.checkpoint, self._started = saved.path, True

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Write the metrics of one step.

        Raises:
            CheckpointError: they cannot be written; names the last saved step.
        """
        with self._writing():
            self.start()
            self.metrics.append(row)

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
        with self._writing():
            self.start()
            size = self.metrics.sync()
        self.checkpoint = self.checkpoints.save(
            step,
            tensors=tensors,
            documents=documents,
            manifest={"kind": self.kind, "metrics_bytes": size, **manifest},
        )
        return self.checkpoint

    def save_best(
        self,
        step: int,
        *,
        tensors: Mapping[str, Mapping[str, Tensor]],
        documents: Mapping[str, Any],
        manifest: Mapping[str, Any],
    ) -> None:
        """Write the best checkpoint so far in place of the last one.

        Raises:
            CheckpointError: it cannot be written; the last one stays.
        """
        with self._writing():
            self.start()
        fields = {"kind": f"{self.kind}-best", **manifest}
        self.best.save(step, tensors=tensors, documents=documents, manifest=fields)

    def start(self) -> None:
        """Make the folder of a new run; remove the metrics of a run that died before its first checkpoint.

        Everything else that writes into the folder comes after this.
        """
        if not self._started:
            self._require_own()
            make_private_folder(self.path)
            tighten(self.path)
            self._mark()
            self.metrics.cut_back(0)
            self.metrics.touch()
            self._started = True

    def _mark(self) -> None:
        """Write the file that makes the folder a run's, unless it is there."""
        marker = self.path / MARKER
        if not marker.exists():
            with replacing_file(marker, private=True) as aside:
                aside.write_text(json.dumps({"sttx_run": 1, "kind": self.kind}) + "\n")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn an `OSError` of the block into a `CheckpointError` that names the last saved step."""
        try:
            yield
        except OSError as error:
            why = explain(error, "fix the cause")
            raise CheckpointError(
                f"cannot write {str(self.metrics.path)!r}: {why}, {self.checkpoints.way_on()}"
            ) from error

"""Opens a checkpoint by a name that a person gives: the folder of a run, or of one of its checkpoints."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sttx_core.errors import CheckpointError, UsageError
from sttx_core.foreign_files import shown
from sttx_core.os_errors import explain
from sttx_train.checkpoint.folder import FOLDER_NAME
from sttx_train.checkpoint.store import Checkpoint, CheckpointStore
from sttx_train.run_folder.folder import MARKER
from sttx_train.run_folder.saved import check_checkpoint, read_marker

_POINTER = "latest"

CursorCheck = Callable[[Any], None]
"""Raises `CheckpointError` unless it is given a cursor that the source of a run may have saved."""


def load_checkpoint(
    spec: str | os.PathLike[str], *, check_cursor: CursorCheck | None = None, tensors: bool = False
) -> Checkpoint:
    """Read and verify the latest checkpoint of a run's folder, or the given one; its tensors if asked."""
    path = Path(spec)
    if not path.exists():
        raise UsageError(f"no checkpoint at {str(spec)!r}: give the folder of a run or of one checkpoint")
    if FOLDER_NAME.fullmatch(path.resolve().name):
        checkpoint = CheckpointStore(path.parent).load(path, tensors=tensors)
    elif is_checkpoint(path):
        checkpoint = CheckpointStore(path).load(tensors=tensors)
        _require_marked(path, checkpoint)
    else:
        raise CheckpointError(
            f"no checkpoint in {str(spec)!r}: give the folder of a run or of one checkpoint"
        )
    check_checkpoint(checkpoint)
    if check_cursor is not None and checkpoint.manifest["kind"] == "stream":
        check_cursor(checkpoint.documents["source"]["cursor"])
    return checkpoint


def _require_marked(folder: Path, checkpoint: Checkpoint) -> None:
    """Refuse a run whose folder says that it is of another command than its checkpoint."""
    try:
        kind = read_marker(folder / MARKER)
    except OSError as error:
        why = explain(error, "fix the cause")
        raise CheckpointError(f"cannot read {str(folder / MARKER)!r}: {why}, or give a checkpoint") from error
    if kind is not None and kind != checkpoint.manifest.get("kind"):
        raise CheckpointError(
            f"{str(folder / MARKER)!r} says that the run is of {shown(kind)}, and its checkpoint is not: "
            "restore it from a copy"
        )


def is_checkpoint(path: Path) -> bool:
    """Return whether a path is the folder of a checkpoint or contains checkpoints."""
    if FOLDER_NAME.fullmatch(path.resolve().name) or os.path.lexists(path / _POINTER):
        return True
    return path.is_dir() and any(FOLDER_NAME.fullmatch(entry.name) for entry in path.iterdir())

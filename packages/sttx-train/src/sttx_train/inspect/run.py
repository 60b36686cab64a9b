"""What a folder or file is, read and verified: a run, one checkpoint of it, or any model file.

Everything told is JSON-able. Trains nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sttx_core.errors import CheckpointError, ModelError, UsageError
from sttx_train.checkpoint.folder import FOLDER_NAME
from sttx_train.checkpoint.store import Checkpoint, CheckpointStore
from sttx_train.figures import METRICS, finite_numbers
from sttx_train.inspect.model import inspect_model

_POINTER = "latest"


def inspect_path(spec: str | os.PathLike[str]) -> dict[str, Any]:
    """Tell what a run's folder, a checkpoint's folder or a model is; ``kind`` says which.

    Raises:
        CheckpointError: it is a checkpoint and damaged; says what to do.
        ModelError: it is no checkpoint, and nothing else that says what it is.
    """
    if _is_checkpoint(Path(spec)):
        return inspect_checkpoint(spec)
    try:
        return inspect_model(spec)
    except ModelError as error:
        if Path(spec).exists():
            raise
        raise ModelError(f"{error}; nor is a run or a checkpoint there") from error


def inspect_checkpoint(spec: str | os.PathLike[str]) -> dict[str, Any]:
    """Verify a checkpoint, the latest one of a run's folder or the one given, and tell what it holds.

    A checkpoint of `sttx train` tells its run's report; one of `sttx pretrain` its sizes, and what the run's
    metrics say up to its step, as far as they are there.
    """
    checkpoint = load_checkpoint(spec)
    manifest = checkpoint.manifest
    facts = {
        "kind": manifest.get("kind"),
        "step": checkpoint.step,
        "created": manifest["created"],
        "files": {name: entry["bytes"] for name, entry in manifest["files"].items()},
    }
    if manifest.get("kind") == "stream":
        stream = checkpoint.documents["stream"]
        facts |= checkpoint.documents["report"] | {
            "learning": manifest["learning"],
            "stream": manifest["stream_config"],
            "taken": stream["taken"],
            "torch": manifest["torch"],
        }
    else:
        facts |= _pretrain_facts(checkpoint)
    return facts | {"checkpoint": str(checkpoint.path)}


def _pretrain_facts(checkpoint: Checkpoint) -> dict[str, Any]:
    """Tell a pretraining run's sizes and figures: the last of each, and the best held out."""
    weights = checkpoint.tensors.get("model")
    facts: dict[str, Any] = {
        **{name: checkpoint.documents.get(name) for name in ("config", "model", "data", "progress")},
        "parameters": sum(weight.numel() for weight in weights.values()) if weights else None,
        "seconds": checkpoint.manifest.get("seconds"),
        "figures": {},
        "held_out": {},
    }
    measured = {"step": checkpoint.step, "held_out": checkpoint.documents.get("held_out")}
    for line in [*_metrics(checkpoint.path.parent / METRICS, checkpoint.step), measured]:
        for name, value in finite_numbers(line):
            facts["figures"][name] = value
            if name.startswith("held_out"):
                told = facts["held_out"].setdefault(name, {"best": value, "best_step": line["step"]})
                if value < told["best"]:
                    told |= {"best": value, "best_step": line["step"]}
                told["last"] = value
    return facts


def _metrics(path: Path, step: int) -> Iterator[dict[str, Any]]:
    """Yield the lines of a run's metrics up to a step; of one cut short, or of no run's, nothing is known."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for raw in file:
            try:
                line = json.loads(raw)
            except (ValueError, RecursionError):
                continue
            if isinstance(line, dict) and isinstance(line.get("step"), int) and line["step"] <= step:
                yield line


def merge_stats(spec: str | os.PathLike[str], *, top: int | None = None) -> dict[str, Any]:
    """Tell the phrases of a checkpoint of `sttx train`, those that saved most first.

    Args:
        spec: a run's folder or a checkpoint's.
        top: at most this many phrases; all when None.

    Returns:
        ``phrases``, each with ``text``, ``length`` in base tokens, ``uses`` and ``steps_saved``; ``totals``
        over the whole stream, evicted phrases included, as the run's report has them; ``shown``.
    """
    if top is not None and top < 1:
        raise UsageError(f"--top must be at least 1, not {top!r}")
    checkpoint = load_checkpoint(spec)
    if checkpoint.manifest.get("kind") != "stream":
        raise UsageError(f"{str(checkpoint.path)!r} is no checkpoint of `sttx train`: it has no phrases")
    rows, report = checkpoint.documents["phrase_list"], checkpoint.documents["report"]
    return {
        "checkpoint": str(checkpoint.path),
        "steps": report["steps"],
        "tokens": report["tokens"],
        "totals": report["phrases"],
        "shown": len(rows[:top]),
        "phrases": rows[:top],
    }


def load_checkpoint(spec: str | os.PathLike[str]) -> Checkpoint:
    """Read and verify the latest checkpoint of a run's folder, or the one whose folder is given."""
    path = Path(spec)
    if not path.exists():
        raise UsageError(f"no checkpoint at {str(spec)!r}: give the folder of a run or of one checkpoint")
    if FOLDER_NAME.fullmatch(path.resolve().name):
        return CheckpointStore(path.parent).load(path)
    if not _is_checkpoint(path):
        raise CheckpointError(
            f"no checkpoint in {str(spec)!r}: give the folder of a run or of one checkpoint"
        )
    return CheckpointStore(path).load()


def _is_checkpoint(path: Path) -> bool:
    """Whether a path is a checkpoint's folder, or one that holds checkpoints."""
    if FOLDER_NAME.fullmatch(path.resolve().name) or os.path.lexists(path / _POINTER):
        return True
    return path.is_dir() and any(FOLDER_NAME.fullmatch(entry.name) for entry in path.iterdir())

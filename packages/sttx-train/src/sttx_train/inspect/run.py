"""Reports what a path is: a run, one checkpoint of it, or a model. A checkpoint is verified.

Reports are JSON-able. Trains nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sttx_core.errors import UsageError
from sttx_train.checkpoint.folder import count_parameters
from sttx_train.checkpoint.store import Checkpoint
from sttx_train.run_folder import (
    METRICS,
    CursorCheck,
    current_metric,
    current_names,
    finite_numbers,
    is_checkpoint,
    load_checkpoint,
    metric_lines,
)


def inspect_path(spec: str | os.PathLike[str], *, check_cursor: CursorCheck | None = None) -> dict[str, Any]:
    """Return a report on a run, a checkpoint or a model; ``kind`` says which it is.

    Args:
        spec: a path, or a model as `inspect_model` takes it.
        check_cursor: also checks a run's cursor, which only its source knows.

    Raises:
        UsageError: there is nothing at the path.
        CheckpointError: it is a damaged checkpoint.
        ModelError: it is neither a checkpoint nor a model.
    """
    if is_checkpoint(Path(spec)):
        return inspect_checkpoint(spec, check_cursor=check_cursor)
    from sttx_train.inspect.model import inspect_model  # what a checkpoint does not need

    return inspect_model(spec)


def inspect_checkpoint(
    spec: str | os.PathLike[str], *, check_cursor: CursorCheck | None = None
) -> dict[str, Any]:
    """Verify a checkpoint and return a report on it: the given one, or the latest of a run's folder.

    For `sttx train` this is the run's report. For `sttx tune` it is its options and how far it is. For what a
    network learned in `sttx compress` it is how it learns. For `sttx pretrain` it is the model's sizes, and
    the run's metrics up to the checkpoint's step if there are any.
    """
    checkpoint = load_checkpoint(spec, check_cursor=check_cursor)
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
            "learning": current_names("learning", manifest["learning"]),
            "stream": manifest["stream_config"],
            "taken": stream["taken"],
            "torch": manifest["torch"],
        }
    elif manifest.get("kind") == "tune":
        facts |= _tune_facts(checkpoint)
    elif manifest.get("kind") == "coding":
        facts |= {
            "learning": manifest["learning"],
            "window": manifest["window"],
            "model": {"id": manifest["base_model"], "sha256": manifest["base_sha256"]},
            "torch": manifest["torch"],
        }
    else:
        facts |= _pretrain_facts(checkpoint)
    return facts | {"checkpoint": str(checkpoint.path)}


def _tune_facts(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return how far a tuning run is, with what it was made."""
    manifest = checkpoint.manifest
    return {
        "config": manifest["tune_config"],
        "progress": checkpoint.documents["progress"],
        "model": {"id": manifest["base_model"], "sha256": manifest["base_sha256"]},
        **{name: manifest[name] for name in ("device", "dtype", "kernel")},
    }


def _pretrain_facts(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return a pretraining run's sizes and metrics: the last value of each, and the best of validation."""
    weights, config = checkpoint.path / "model.safetensors", checkpoint.documents.get("config")
    facts: dict[str, Any] = {
        "config": current_names("config", config) if config is not None else None,
        **{name: checkpoint.documents.get(name) for name in ("model", "data", "progress")},
        "parameters": count_parameters(weights) if weights.is_file() else None,
        "seconds": checkpoint.manifest.get("seconds"),
        "metrics": {},
        "validation": {},
    }
    best = checkpoint.documents.get("validation", checkpoint.documents.get("held_out"))  # its old name
    measured = {"step": checkpoint.step, "validation": best}
    for line in [*_metrics(checkpoint.path.parent / METRICS, checkpoint.step), measured]:
        for name, value in finite_numbers(line):
            name = current_metric(name)
            facts["metrics"][name] = value
            if name.startswith("validation"):
                result = facts["validation"].setdefault(name, {"best": value, "best_step": line["step"]})
                if value < result["best"]:
                    result |= {"best": value, "best_step": line["step"]}
                result["last"] = value
    return facts


def _metrics(path: Path, step: int) -> Iterator[dict[str, Any]]:
    """Yield the lines of a run's metrics up to a step; damaged lines are skipped, as is a missing file."""
    if not path.is_file():
        return
    for line, _ in metric_lines(path):
        if line is not None and type(line.get("step")) is int and 0 <= line["step"] <= step:
            yield line


def merge_stats(
    spec: str | os.PathLike[str], *, top: int | None = None, check_cursor: CursorCheck | None = None
) -> dict[str, Any]:
    """Return the phrases of a checkpoint of `sttx train`, those that saved most steps first.

    Args:
        spec: the folder of a run or of a checkpoint.
        top: return at most this many phrases; all when None.
        check_cursor: also checks the run's cursor, which only its source knows.

    Returns:
        ``phrases``, each with ``text``, ``length`` in base tokens, ``uses`` and ``steps_saved``; ``totals``
        over the whole stream, evicted phrases included, as in the run's report; ``shown``, their number.
    """
    if top is not None and top < 1:
        raise UsageError(f"--top must be at least 1, not {top!r}")
    checkpoint = load_checkpoint(spec, check_cursor=check_cursor)
    if checkpoint.manifest.get("kind") != "stream":
        raise UsageError(f"{str(checkpoint.path)!r} is not a checkpoint of `sttx train`: it has no phrases")
    rows, report = checkpoint.documents["phrase_list"], checkpoint.documents["report"]
    return {
        "checkpoint": str(checkpoint.path),
        "steps": report["steps"],
        "tokens": report["tokens"],
        "totals": report["phrases"],
        "shown": len(rows[:top]),
        "phrases": rows[:top],
    }

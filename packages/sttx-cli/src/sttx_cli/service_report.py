"""What `sttx service status` says of a service's folder: the last step, what was paid, the disk used."""

import json
from pathlib import Path
from typing import Any

from sttx_cli.service_plan import ServicePlan

_TAIL = 65_536  # bytes of metrics in which the last row is


def service_report(plan: ServicePlan) -> dict[str, Any]:
    """Return the report.

    Returns:
        ``step`` and what was paid by then (``bpb``, ``bytes``), None before the first step; ``saved_step``,
        the one that a start would continue from; ``disk_bytes`` by folder; ``logs``, the folder of the logs.
    """
    from sttx_train import CheckpointStore

    last = _last_row(plan.run / "metrics.jsonl") or {}
    return {
        "folder": str(plan.folder),
        "step": last.get("step"),
        "saved_step": CheckpointStore(plan.run).last_step(),
        "bpb": last.get("bpb"),
        "bytes": last.get("bytes", 0),
        "disk_bytes": {part.name: _size(part) for part in (plan.run, plan.states, plan.logs)},
        "logs": str(plan.logs),
    }


def _last_row(path: Path) -> dict[str, Any] | None:
    """Return the last whole row of a file of metrics; None if there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL))
            lines = file.read().split(b"\n")[:-1]  # a row that is being written has no end yet
    except OSError:
        return None
    try:
        row = json.loads(lines[-1])
    except (IndexError, ValueError):
        return None
    return row if isinstance(row, dict) else None


def _size(folder: Path) -> int:
    """Return the bytes of all files in a folder; those that go away meanwhile do not count."""
    total = 0
    for path in folder.rglob("*"):
        try:
            found = path.stat(follow_symlinks=False)
        except OSError:
            continue
        total += found.st_size if path.is_file() else 0
    return total

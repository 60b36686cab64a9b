"""The folder of a run: its checkpoints, its metrics, and what a run that resumes must share with it."""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names

if TYPE_CHECKING:
    from sttx_train.run_folder.folder import BEST, MARKER, RunFolder
    from sttx_train.run_folder.identity import current_names, require_same_run
    from sttx_train.run_folder.metrics import (
        METRICS,
        MetricsFile,
        current_metric,
        finite_numbers,
        metric_lines,
    )
    from sttx_train.run_folder.opening import CursorCheck, is_checkpoint, load_checkpoint
    from sttx_train.run_folder.saved import check_checkpoint, read_marker
    from sttx_train.run_folder.writers import ExtraWriter, Writer, open_writers, require_installed

__all__ = [
    "BEST",
    "CursorCheck",
    "ExtraWriter",
    "MARKER",
    "METRICS",
    "MetricsFile",
    "RunFolder",
    "Writer",
    "check_checkpoint",
    "current_metric",
    "current_names",
    "finite_numbers",
    "is_checkpoint",
    "load_checkpoint",
    "metric_lines",
    "open_writers",
    "read_marker",
    "require_installed",
    "require_same_run",
]

__getattr__ = lazy_names(
    __name__,
    {
        "folder": ["BEST", "MARKER", "RunFolder"],
        "identity": ["current_names", "require_same_run"],
        "metrics": ["METRICS", "MetricsFile", "current_metric", "finite_numbers", "metric_lines"],
        "opening": ["CursorCheck", "is_checkpoint", "load_checkpoint"],
        "saved": ["check_checkpoint", "read_marker"],
        "writers": ["ExtraWriter", "Writer", "open_writers", "require_installed"],
    },
)

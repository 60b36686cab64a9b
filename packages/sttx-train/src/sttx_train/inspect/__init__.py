"""What a run, a checkpoint or a model file contains, read without loading its weights."""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names

if TYPE_CHECKING:
    from sttx_train.inspect.model import inspect_model, require_runs
    from sttx_train.inspect.run import inspect_path, merge_stats

__all__ = [
    "inspect_model",
    "inspect_path",
    "merge_stats",
    "require_runs",
]

__getattr__ = lazy_names(
    __name__,
    {
        "model": ["inspect_model", "require_runs"],
        "run": ["inspect_path", "merge_stats"],
    },
)

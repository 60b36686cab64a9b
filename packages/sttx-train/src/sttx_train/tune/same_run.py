"""What a tuning run that resumes must share with the saved run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sttx_train.checkpoint import Checkpoint
from sttx_train.run_folder import require_same_run


def require_same(saved: Checkpoint, now: Mapping[str, Any]) -> None:
    """Refuse to resume a run with other options than it was made with."""
    require_same_run(saved.path, _as_options(saved.manifest), _as_options(now))


def _as_options(manifest: Mapping[str, Any]) -> dict[str, Any]:
    options = {
        "a --model of SHA-256": manifest["base_sha256"],
        "a vocabulary of SHA-256": manifest["tokenizer_sha256"],
        "examples of SHA-256": manifest["data_sha256"],
        "validation examples of SHA-256": manifest["validation_sha256"],
        "a --state of SHA-256": manifest["start_sha256"],
        "--kernel": manifest["kernel"],
        "--device": manifest["device"],
        "--dtype": manifest["dtype"],
    }
    config = manifest["tune_config"]
    return options | {f"--{name.replace('_', '-')}": value for name, value in config.items()}

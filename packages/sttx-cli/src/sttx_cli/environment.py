"""The one place in the CLI that reads or sets environment variables.

| variable | meaning |
| --- | --- |
| `OMP_NUM_THREADS` | threads that PyTorch computes with; respected where `--threads` is not given |
| `OMP_WAIT_POLICY` | how idle threads wait; set to `PASSIVE` for this process if it is not set |
| `XDG_CONFIG_HOME` | where systemd finds a user's units; `~/.config` if it is not set |
| `XDG_DATA_HOME` | where a service keeps what it learns; `~/.local/share` if it is not set |

An installed service gets `PATH` and the variables of `SERVICE_VARIABLES` as they are when it is installed.
"""

import os
from pathlib import Path

SERVICE_VARIABLES = (
    "PATH",
    "CLAUDE_CONFIG_DIR",
    "CODEX_HOME",
    "CUDA_VISIBLE_DEVICES",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "OMP_NUM_THREADS",
    "OPENCODE_DB",
    "STTX_CACHE_DIR",
    "STTX_LOG_DIR",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
)
"""Variables that decide what a service reads, where it writes, and how it computes."""


def wait_passively() -> None:
    """Make the idle threads of this process sleep, unless `OMP_WAIT_POLICY` says otherwise.

    OpenMP reads the variable when PyTorch is loaded, so this has to be called before.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def wait_policy() -> str:
    """Return how idle threads wait, in lower case; empty if nobody has chosen."""
    return os.environ.get("OMP_WAIT_POLICY", "").lower()


def threads_are_set() -> bool:
    """Whether `OMP_NUM_THREADS` says how many threads to compute with."""
    return bool(os.environ.get("OMP_NUM_THREADS"))


def config_home() -> Path:
    """Return the folder of this user's configuration files."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")


def data_home() -> Path:
    """Return the folder of this user's data files."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")


def service_variables() -> dict[str, str]:
    """Return the variables that an installed service is to have."""
    return {name: value for name, value in sorted(os.environ.items()) if value and name in SERVICE_VARIABLES}

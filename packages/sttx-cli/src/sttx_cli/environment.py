"""The one place in the CLI that reads or sets environment variables.

| variable | meaning |
| --- | --- |
| `OMP_NUM_THREADS` | threads that PyTorch computes with; respected where `--threads` is not given |
| `OMP_WAIT_POLICY` | how idle threads wait; set to `PASSIVE` for this process if it is not set |
"""

import os


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

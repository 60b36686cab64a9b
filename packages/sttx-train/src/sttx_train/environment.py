"""The one place in train that reads the environment: the variables that `torchrun` sets for its processes.

| variable | meaning |
| --- | --- |
| `RANK`, `WORLD_SIZE` | set by `torchrun`: number of this process, and how many there are |
| `LOCAL_RANK` | set by `torchrun`: number of this process on its machine, and of its CUDA device |
"""

import os


def torchrun_launched() -> bool:
    """Return whether `torchrun` started this process."""
    return bool(os.environ.get("RANK")) and bool(os.environ.get("WORLD_SIZE"))


def process_count() -> int:
    """Return how many processes there are: one, unless `torchrun` started more."""
    return int(os.environ.get("WORLD_SIZE") or 1) if torchrun_launched() else 1


def local_rank() -> int:
    """Return the number of this process on its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK") or 0)


def is_first_process() -> bool:
    """Return whether this process prints and saves: it is alone, or the first of several."""
    return (os.environ.get("RANK") or "0") == "0"

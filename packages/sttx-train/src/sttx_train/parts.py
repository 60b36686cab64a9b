"""Divides compiled work over threads that are kept. Knows nothing of the work."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any


def parts_of(count: int, workers: int) -> list[tuple[int, int]]:
    """Return the first number of each worker's part, and the one after its last; at most ``count`` parts.

    >>> parts_of(5, 2)
    [(0, 2), (2, 5)]
    """
    workers = max(1, min(workers, count))
    return list(pairwise(count * part // workers for part in range(workers + 1)))


def run_parts(work: Callable[..., object], calls: Sequence[tuple[Any, ...]]) -> None:
    """Call ``work`` with each of the arguments: first call in this thread, the others beside it."""
    own, *others = calls
    started = [_pool(os.getpid(), len(others)).submit(work, *call) for call in others]
    work(*own)
    for one in started:
        one.result()


@cache
def _pool(process: int, workers: int) -> ThreadPoolExecutor:
    """Return threads that are kept, since starting them takes as long as reading a token; a fork has none."""
    return ThreadPoolExecutor(workers, "sttx-part")

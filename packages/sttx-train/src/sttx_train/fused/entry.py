"""The function that Python calls, compiled once and then read from disk until a source file changes.

It closes over a digest of all sources, which numba compares (`sttx_core.experts.kept`).
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from sttx_core.experts import arithmetic
from sttx_core.experts.kept import compiled_once, digest_of, is_kept
from sttx_train.fused.layers import read_rows


@cache
def entry_point() -> Callable[..., None]:
    """Return `layers.read_rows`; it is compiled, or read from disk, when it is first called."""
    here = Path(__file__).parent
    files = [here / f"{name}.py" for name in ("arithmetic", "entry", "lanes", "layers", "products")]
    return _closed_over(digest_of(*files, arithmetic.__file__))


def step_is_compiled() -> bool:
    """Return whether the step has nothing to compile when it is first called."""
    return is_kept(entry_point())


def _closed_over(sources: int) -> Callable[..., None]:
    @compiled_once
    def read(weights, sizes, x, old, new, logits, first, last):
        if sources:
            read_rows(weights, sizes, x, old, new, logits, first, last)

    return read

"""The functions that Python calls, compiled once and then read from disk until any source file changes.

Compiling takes many seconds. Numba keeps a compiled function while the function's own file is unchanged, even
if a function that it calls has changed. So the entry points close over a digest of all sources, which numba
compares.
"""

from collections.abc import Callable
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from numba import njit

from sttx_core.experts.reading import price_every, read_tokens, sum_up


class EntryPoints(NamedTuple):
    """Compiled functions: `read_tokens`, `price_every` and `sum_up` of `reading`."""

    read: Callable[..., None]
    price_all: Callable[..., None]
    accumulate: Callable[..., None]


@cache
def entry_points() -> EntryPoints:
    """Return the functions; they are compiled, or read from disk, when they are first called."""
    sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return _closed_over(int.from_bytes(blake2b(sources, digest_size=7).digest()) | 1)


def _closed_over(sources: int) -> EntryPoints:
    @njit(cache=True, nogil=True)
    def read(memory, place, vocabulary, mass, beside, ids, rates, seen, work, bits):
        if sources:
            read_tokens(memory, place, vocabulary, mass, beside, ids, rates, seen, work, bits)

    @njit(cache=True, nogil=True)
    def price_all(memory, place, vocabulary, mass, beside, seen, work, bits):
        if sources:
            price_every(memory, place, vocabulary, mass, beside, seen, work, bits)

    @njit(cache=True, nogil=True)
    def accumulate(probabilities, order, mass):
        if sources:
            sum_up(probabilities, order, mass)

    return EntryPoints(read, price_all, accumulate)

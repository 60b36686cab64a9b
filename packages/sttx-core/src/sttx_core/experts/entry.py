"""The functions that Python calls, compiled once and then read from disk until any source file changes.

Compiling takes many seconds. Numba keeps a compiled function while the function's own file is unchanged, even
if a function that it calls has changed. So the entry points close over a digest of all sources, which numba
compares.
"""

from hashlib import blake2b
from pathlib import Path

from numba import njit

from sttx_core.experts.reading import price_every, read_tokens, sum_up


def _digest_of_sources() -> int:
    data = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return int.from_bytes(blake2b(data, digest_size=7).digest()) | 1


def _entry_points(sources: int):
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

    return read, price_all, accumulate


read, price_all, accumulate = _entry_points(_digest_of_sources())

"""The functions that Python calls, compiled once and then read from disk until any source file changes.

Compiling takes many seconds. The entry points close over a digest of all sources, which numba compares
(`kept`).
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from sttx_core.experts.alone import code_alone
from sttx_core.experts.coders import RANS, range_encode, rans_encode, start_decoding
from sttx_core.experts.coding import code_tokens, find_inputs
from sttx_core.experts.kept import compiled_once, digest_of
from sttx_core.experts.opening import open_nodes, prepare, walk_down
from sttx_core.experts.reading import follow_tokens, read_tokens


class EntryPoints(NamedTuple):
    """Compiled functions: of `reading`, `opening`, `coding`, `alone` and `coders`."""

    read: Callable[..., None]
    follow: Callable[..., None]
    open: Callable[..., Any]
    walk: Callable[..., Any]
    inputs: Callable[..., None]
    code: Callable[..., None]
    start: Callable[..., None]
    encode: Callable[..., Any]
    code_alone: Callable[..., None]


@cache
def entry_points() -> EntryPoints:
    """Return the functions; they are compiled, or read from disk, when they are first called."""
    digest = digest_of(*sorted(Path(__file__).parent.glob("*.py")))
    return EntryPoints(*_reading(digest), *_opening(digest), *_coding(digest), code_alone=_alone(digest))


def _reading(sources: int) -> tuple[Callable[..., None], ...]:
    @compiled_once
    def read(memory, place, vocabulary, says, beside, ids, rates, seen, work, bits, slopes):
        if sources:
            read_tokens(memory, place, vocabulary, says, beside, ids, rates, seen, work, bits, slopes)

    @compiled_once
    def follow(memory, place, vocabulary, ids, seen):
        if sources:
            follow_tokens(memory, place, vocabulary, ids, seen)

    return read, follow


def _opening(sources: int) -> tuple[Callable[..., Any], ...]:
    @compiled_once
    def open_parts(
        memory, place, vocabulary, says, beside, seen, work, kept, needed, least, opened, first, count, bits
    ):
        if not sources:
            return 0
        prepare(memory, place, vocabulary, says, beside, seen, work)
        size, two = vocabulary.rank.size, beside.shape[0] > 0
        return open_nodes(memory, seen, two, size, kept, needed, least, opened, work, first, count, bits)

    @compiled_once
    def walk(memory, place, vocabulary, says, beside, seen, work, kept, excluded, uniform, opened):
        if not sources:
            return 0
        prepare(memory, place, vocabulary, says, beside, seen, work)
        size, two = vocabulary.rank.size, beside.shape[0] > 0
        return walk_down(memory, seen, two, size, kept, excluded, uniform, opened, work)

    return open_parts, walk


def _coding(sources: int) -> tuple[Callable[..., Any], ...]:
    @compiled_once
    def inputs(says, order, work, found):
        if sources:
            find_inputs(says, order, work, found)

    @compiled_once
    def code(memory, places, vocabulary, found, says, beside, ids, rates, seen, work, mode, coder):
        if sources:
            code_tokens(memory, places, vocabulary, found, says, beside, ids, rates, seen, work, mode, coder)

    @compiled_once
    def start(data, state):
        if sources:
            start_decoding(data, state)

    @compiled_once
    def encode(noted, data, mode):
        if mode == RANS:
            return rans_encode(noted, data) if sources else 0
        return range_encode(noted, data) if sources else 0

    return inputs, code, start, encode


def _alone(sources: int) -> Callable[..., None]:
    @compiled_once
    def alone(vocabulary, logits, ids, work, mode, coder):
        if sources:
            code_alone(vocabulary, logits, ids, work, mode, coder)

    return alone

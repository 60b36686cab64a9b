"""What every dynamic tokenizer must keep: exact inverses, causality, bounds and exact resume."""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from sttx_core.checks.require import require
from sttx_core.errors import SttxError

_BASE = 40
_SMALL = {"pair_window": 64, "threshold": 3, "capacity": 12, "max_length": 6}


class PhraseTable(Protocol):
    """A dynamic tokenizer; `stats` has merges, promotions, evictions and steps_saved."""

    stats: Any

    def __len__(self) -> int: ...

    def merge(self, ids: Sequence[int]) -> list[int]:
        """Replace runs of base ids by live phrases; pure."""
        ...

    def expand(self, phrases: Sequence[int]) -> list[int]:
        """Undo `merge` exactly; pure."""
        ...

    def observe(self, merged: Sequence[int]) -> None:
        """Learn from a merged window."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides what comes next, JSON-able."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly from a state."""
        ...


def check_dynamic_tokenizer(factory: Callable[..., PhraseTable]) -> None:
    """Raise an `AssertionError` that says what a dynamic tokenizer breaks.

    Args:
        factory: Called as `factory(base_vocab, pair_window=…, threshold=…, capacity=…, max_length=…)`.
    """
    _check_promotion(factory)
    _check_window(factory)
    _check_eviction(factory)
    for change in ({}, {"capacity": 1}, {"threshold": 1}, {"capacity": 256, "max_length": 3}):
        _check_stream(factory, {**_SMALL, **change})
    _check_stream(factory, {})
    _check_determinism(factory)
    _check_resume(factory)
    _check_bounded_state(factory)


def _windows(count: int, seed: int = 0) -> list[list[int]]:
    """Return windows of a stream of repeated motifs, which change over time, and noise."""
    draw = random.Random(seed)
    windows = []
    for number in range(count):
        change = random.Random(seed + number // 10)
        motifs = [[change.randrange(_BASE) for _ in range(change.randrange(2, 9))] for _ in range(6)]
        window: list[int] = []
        while len(window) < 60:
            window += draw.choice(motifs) if draw.random() < 0.8 else [draw.randrange(_BASE)]
        windows.append(window[: draw.randrange(60)])
    return [[], [3], *windows]


def _plain(state: dict[str, Any]) -> str:
    return json.dumps(state, sort_keys=True)


def _learn(table: PhraseTable, ids: Sequence[int]) -> None:
    table.observe(table.merge(ids))


def _check_promotion(factory: Callable[..., PhraseTable]) -> None:
    table = factory(_BASE, pair_window=512, threshold=3, capacity=256, max_length=16)
    require(len(table) == 0, f"a new table has {len(table)} phrases")
    require(table.merge([1, 2, 1, 2]) == [1, 2, 1, 2], "a table without phrases merged something")
    _learn(table, [1, 2, 5, 1, 2, 6])
    require(len(table) == 0, "a pair seen twice became a phrase, at a threshold of 3")
    _learn(table, [1, 2, 7])
    require(len(table) == 1, f"a pair seen three times made {len(table)} phrases")
    merged = table.merge([9, 1, 2, 9])
    require(len(merged) == 3 and _BASE <= merged[1] < _BASE + 256, f"9 1 2 9 with the phrase 1 2 is {merged}")
    require((merged[0], merged[2]) == (9, 9), f"base ids around a phrase changed: {merged}")


def _check_window(factory: Callable[..., PhraseTable]) -> None:
    table = factory(_BASE, pair_window=4, threshold=2, capacity=8, max_length=4)
    for start in range(10, 34, 6):
        _learn(table, [1, 2, *range(start, start + 6)])
    require(table.merge([1, 2]) == [1, 2], "a pair that occurs only once in any window of 4 was promoted")


def _check_eviction(factory: Callable[..., PhraseTable]) -> None:
    """With room for two phrases, the one that was used last is kept and the other is evicted."""
    table = factory(_BASE, pair_window=64, threshold=2, capacity=2, max_length=2)
    for first in (1, 3):
        _learn(table, [first, first + 1, 10 + first, first, first + 1, 20 + first])
    require(len(table) == 2, f"two pairs seen twice made {len(table)} phrases")
    _learn(table, [1, 2])
    _learn(table, [5, 6, 15, 5, 6, 25])
    live = [pair for pair in ([1, 2], [3, 4], [5, 6]) if len(table.merge(pair)) == 1]
    require(live == [[1, 2], [5, 6]], f"3 4 was used least recently; live are {live}, not 1 2 and 5 6")
    require(table.stats.evictions == 1, f"one phrase was evicted, but evictions is {table.stats.evictions}")


def _check_stream(factory: Callable[..., PhraseTable], options: dict[str, int]) -> None:
    """Follow a stream as encoder and as decoder, and check every window."""
    table, decoder = factory(_BASE, **options), factory(_BASE, **options)
    capacity, longest = options.get("capacity", 256), options.get("max_length", 16)
    saved = merges = 0
    for ids in _windows(60):
        before = _plain(table.state_dict())
        merged = table.merge(ids)
        expanded = table.expand(merged)
        noise = random.Random(len(ids)).choices(range(_BASE), k=50)
        back = table.expand(table.merge(noise))
        require(_plain(table.state_dict()) == before, "merge or expand changed the table")
        require(expanded == ids, f"expand(merge(x)) is not x: {ids} came back as {expanded}")
        require(back == noise, f"expand(merge(x)) is not x: {noise} came back as {back}")
        require(
            _decoded(decoder, merged) == ids,
            "a decoder that saw only the earlier windows cannot expand this one",
        )
        phrases = [one for one in merged if not 0 <= one < _BASE]
        _check_phrases(table, phrases, capacity, longest)
        table.observe(merged)
        decoder.observe(merged)
        saved += len(ids) - len(merged)
        merges += len(phrases)
        _check_counts(table, capacity, saved, merges)
    require(saved > 0, f"nothing was merged in a stream that repeats itself, with {options}")


def _decoded(decoder: PhraseTable, merged: list[int]) -> list[int] | None:
    try:
        return decoder.expand(merged)
    except SttxError:
        return None


def _check_phrases(table: PhraseTable, phrases: list[int], capacity: int, longest: int) -> None:
    for phrase in set(phrases):
        require(
            _BASE <= phrase < _BASE + capacity,
            f"phrase id {phrase} is not in {_BASE} to {_BASE + capacity - 1}",
        )
        tokens = table.expand([phrase])
        require(2 <= len(tokens) <= longest, f"phrase {phrase} has {len(tokens)} tokens, not 2 to {longest}")
        for end in range(1, len(tokens) + 1):
            require(
                len(table.merge(tokens[:end])) == 1,
                f"{tokens} is a phrase, but its prefix {tokens[:end]} is not",
            )


def _check_counts(table: PhraseTable, capacity: int, saved: int, merges: int) -> None:
    stats = table.stats
    require(len(table) <= capacity, f"{len(table)} phrases are live, but the capacity is {capacity}")
    live = stats.promotions - stats.evictions
    require(live == len(table), f"promotions minus evictions is {live}, but {len(table)} phrases are live")
    require(stats.steps_saved == saved, f"{saved} steps were saved, but steps_saved is {stats.steps_saved}")
    require(stats.merges == merges, f"{merges} phrases were merged, but merges is {stats.merges}")


def _check_determinism(factory: Callable[..., PhraseTable]) -> None:
    one, other = factory(_BASE, **_SMALL), factory(_BASE, **_SMALL)
    for ids in _windows(30):
        require(one.merge(ids) == other.merge(ids), "two tables that saw the same windows merge differently")
        _learn(one, ids)
        _learn(other, ids)
    require(
        _plain(one.state_dict()) == _plain(other.state_dict()),
        "two tables that saw the same windows have different states",
    )


def _check_resume(factory: Callable[..., PhraseTable]) -> None:
    windows = _windows(50)
    for stop in (0, 7, 30):
        whole = factory(_BASE, **_SMALL)
        for ids in windows[:stop]:
            _learn(whole, ids)
        text = json.dumps(whole.state_dict())
        resumed = factory(_BASE, **_SMALL)
        for ids in _windows(5, seed=99):
            _learn(resumed, ids)
        resumed.load_state_dict(json.loads(text))
        require(len(resumed) == len(whole), f"loaded after {stop} windows, it has another number of phrases")
        for ids in windows[stop:]:
            require(
                resumed.merge(ids) == whole.merge(ids), f"loaded after {stop} windows, it merges differently"
            )
            _learn(whole, ids)
            _learn(resumed, ids)
        require(
            _plain(resumed.state_dict()) == _plain(whole.state_dict()),
            f"loaded after {stop} windows, it ends in another state",
        )


def _check_bounded_state(factory: Callable[..., PhraseTable]) -> None:
    table = factory(_BASE, **_SMALL)
    sizes = []
    for number, ids in enumerate(_windows(600)):
        _learn(table, ids)
        if number % 200 == 199:
            sizes.append(len(_plain(table.state_dict())))
    require(max(sizes) < 1.5 * sizes[0], f"the state grows with the stream: {sizes} bytes every 200 windows")

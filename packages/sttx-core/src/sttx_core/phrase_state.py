"""The saved state of a phrase table: its schema, and what must hold between its parts. Changes no table."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from sttx_core.phrase_counts import STOP
from sttx_core.phrases import PhraseConfig
from sttx_core.saved_state import Amount, Count, Positive, State, checked, damaged

_WHAT = "phrase table"
_MOST_NODES = 10_000_000  # of all paths together; a table of 512 phrases of 16 tokens has 8192

Row = tuple[Count, Count, Count, Count, Count]
"""Slot, generation, parent, token and uses of a phrase."""

Option = Annotated[int, Meta(ge=STOP, le=2**53)]


class SavedConfig(State):
    """The sizes of the table; earlier versions called ``pair_window`` ``window``."""

    threshold: Positive
    capacity: Positive
    max_length: Annotated[int, Meta(ge=2, le=2**53)]
    pair_window: Positive | UnsetType = UNSET
    window: Positive | UnsetType = UNSET


class SavedStats(State):
    """The counts since the start of the stream."""

    merges: Count
    promotions: Count
    evictions: Count
    steps_saved: Count


class PhraseTableState(State):
    """What `DynamicTokenizer.state_dict` returns."""

    base_vocab: Positive
    config: SavedConfig
    stats: SavedStats
    phrases: list[Row]
    children: list[tuple[Count, Annotated[list[Count], Meta(min_length=1)]]]
    generations: list[Count]
    free: list[Count]
    pairs: list[tuple[Count, Count, Annotated[list[Count], Meta(min_length=1)]]]
    previous: tuple[Count, Count] | None
    counts: list[tuple[Count, list[tuple[Option, Amount]]]]


def checked_table(state: Any) -> tuple[PhraseTableState, PhraseConfig]:
    """Return a saved table and its config.

    Raises:
        CheckpointError: its parts have other types or ranges, or contradict each other.
    """
    table = checked(PhraseTableState, state, _WHAT)
    saved = table.config
    windows = [size for size in (saved.pair_window, saved.window) if size is not UNSET]
    if len(windows) != 1:
        raise damaged(_WHAT, "its config has no `pair_window`")
    config = PhraseConfig(
        pair_window=windows[0],
        threshold=saved.threshold,
        capacity=saved.capacity,
        max_length=saved.max_length,
    )
    _check(table, config)
    return table, config


def _check(table: PhraseTableState, config: PhraseConfig) -> None:
    base, capacity = table.base_vocab, config.capacity
    slots = [row[0] for row in table.phrases] + table.free
    if len(table.generations) != capacity or sorted(slots) != list(range(len(table.generations))):
        raise damaged(
            _WHAT, f"its phrases and free slots are not the {capacity} slots of the table, each once"
        )
    rows = {base + row[0]: row for row in table.phrases}
    for slot, generation, parent, token, _ in table.phrases:
        if generation != table.generations[slot]:
            raise damaged(_WHAT, f"the phrase in slot {slot} has another generation than its slot")
        if token >= base or not (parent < base or parent in rows):
            raise damaged(_WHAT, f"the phrase in slot {slot} continues no phrase, or with no base token")
    _require_once(((row[2], row[3]) for row in table.phrases), "two phrases have the same tokens")
    _check_lengths(rows, base, config.max_length)
    _check_children(table, rows)
    _check_counts(table, base + capacity, config)


def _check_lengths(rows: Mapping[int, Row], base: int, longest: int) -> None:
    nodes = 0
    for node in rows:
        length = 1
        while node >= base:
            node, length = rows[node][2], length + 1
            if length > min(longest, len(rows) + 1):
                raise damaged(_WHAT, f"a phrase has more than {longest} tokens, or continues itself")
        nodes += length
        if nodes > _MOST_NODES:
            raise damaged(_WHAT, "its phrases are too long")


def _check_children(table: PhraseTableState, rows: Mapping[int, Row]) -> None:
    listed = [(parent, node) for parent, nodes in table.children for node in nodes]
    _require_once((parent for parent, _ in table.children), "a phrase has two lists of children")
    if Counter(listed) != Counter((row[2], node) for node, row in rows.items()):
        raise damaged(_WHAT, "its lists of children are not those of its phrases")


def _check_counts(table: PhraseTableState, end: int, config: PhraseConfig) -> None:
    """Check what refers to phrases that may be gone by now: the pairs, the last phrase, the counts."""
    base, longest = table.base_vocab, config.max_length
    if len(table.pairs) > config.pair_window:
        raise damaged(_WHAT, f"it remembers more than {config.pair_window} pairs")
    for node, _, tokens in table.pairs:
        if node >= end or len(tokens) > longest or max(tokens) >= base:
            raise damaged(_WHAT, "it remembers a pair that is not of its phrases")
    if table.previous is not None and table.previous[0] >= end:
        raise damaged(_WHAT, "its last phrase is not of the table")
    _require_once((node for node, _ in table.counts), "a phrase is counted twice")
    for node, items in table.counts:
        _require_once((option for option, _ in items), "an option is counted twice")
        if node >= end or any(option != STOP and not base <= option < end for option, _ in items):
            raise damaged(_WHAT, "it counts phrases that it cannot hold")


def _require_once(values: Iterable[Any], reason: str) -> None:
    listed = list(values)
    if len(set(listed)) != len(listed):
        raise damaged(_WHAT, reason)

"""Forged states of the phrase table and of pairs are refused in one sentence."""

import copy
import json
import random

import pytest

from sttx_core.errors import CheckpointError, SttxError
from sttx_core.pairs import PairMaker
from sttx_core.phrases import DynamicTokenizer
from sttx_core.saved_state import Count, Number, State, checked
from sttx_core.traces import Meta, UserMessage

BASE = 30


class Size(State):
    rows: Count
    rate: Number = 0.0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"rows": True}, r"expected `int`, got `bool` at `\$.rows`"),
        ({"rows": 1.0}, r"expected `int`, got `float`"),
        ({"rows": "1"}, r"expected `int`, got `str`"),
        ({"rows": -1}, r"expected `int` >= 0"),
        ({"rows": 10**400}, r"expected `int` <= |out of range"),
        ({"rows": 1, "rate": float("nan")}, r"expected `float` >="),
        ({"rows": 1, "rate": float("inf")}, r"expected `float` <="),
        ({"rows": 1, "more": 2}, r"unknown field `more`"),
        ({}, r"missing required field `rows`"),
        ([], r"expected `object`, got `array`"),
        (None, r"expected `object`, got `null`"),
    ],
    ids=str,
)
def test_exact_types_keys_and_ranges(value, message):
    with pytest.raises(CheckpointError, match=f"^the saved size does not fit: .*{message}.*; restore the"):
        checked(Size, value, "size")


@pytest.mark.parametrize("name", ["x" * 10_000, "\x1b[2J" * 1000, "a\nb", "\u202e", "\x9b31m"])
def test_a_foreign_name_is_cut_and_made_harmless(name):
    with pytest.raises(CheckpointError) as caught:
        checked(Size, {"rows": 1, name: 2}, "size")
    assert len(str(caught.value)) < 1200 and str(caught.value).isprintable()


@pytest.fixture(scope="module")
def state():
    """The state of a table with live, nested and evicted phrases."""
    table = DynamicTokenizer(BASE, threshold=2, capacity=12, pair_window=40)
    dice = random.Random(4)
    for _ in range(60):
        start = dice.randrange(6)
        table.observe(table.merge([start, start + 1, start + 2, start + 3, dice.randrange(BASE)] * 2))
    saved = json.loads(json.dumps(table.state_dict()))
    assert saved["stats"]["evictions"] and saved["pairs"] and any(row[2] >= BASE for row in saved["phrases"])
    return saved


def loaded(state):
    table = DynamicTokenizer(BASE, threshold=2, capacity=12, pair_window=40)
    table.load_state_dict(state)
    return table


def deep(state):
    state["phrases"] = [[slot, 1, BASE + slot - 1 if slot else 0, 1, 0] for slot in range(12)]
    state["config"]["max_length"] = 3
    state["free"], state["generations"] = [], [1] * 12
    return state


def ring(state):
    state["phrases"] = [[slot, 1, BASE + (slot + 1) % 12, 1, 0] for slot in range(12)]
    state["free"], state["generations"] = [], [1] * 12
    return state


def damage(*way_and_value):
    """Return a function that puts a value at a place of the state; a function changes the old value."""
    *way, key, value = way_and_value

    def apply(state):
        inner = state
        for step in way:
            inner = inner[step]
        inner[key] = value(inner[key]) if callable(value) else value
        return state

    return apply


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (damage("phrases", lambda rows: [*rows, rows[0]]), "are not the 12 slots of the table, each once"),
        (damage("phrases", lambda rows: rows[1:]), "are not the 12 slots"),
        (damage("phrases", 0, 0, 10**9), "are not the 12 slots"),
        (damage("free", lambda slots: [*slots, 0]), "are not the 12 slots"),
        (damage("generations", lambda counts: counts[1:]), "are not the 12 slots"),
        (damage("config", "capacity", 10**12), "slots of the table"),
        (damage("phrases", 0, 1, 10**6), "another generation than its slot"),
        (damage("phrases", 0, 3, BASE), "continues no phrase, or with no base token"),
        (damage("phrases", 0, 2, BASE + 10**6), "continues no phrase"),
        (damage("phrases", 0, lambda row: [*row[:4], -1]), "expected `int` >= 0"),
        (damage("phrases", 0, lambda row: row[:4]), "of length 5"),
        (deep, "more than 3 tokens, or continues itself"),
        (ring, "has more than 16 tokens, or continues itself|has the same tokens|lists of children"),
        (damage("children", lambda lists: lists[1:]), "its lists of children are not those of its phrases"),
        (damage("children", lambda lists: [*lists, lists[0]]), "two lists of children"),
        (damage("children", lambda lists: [*lists, [BASE + 10**6, []]]), "length >= 1"),
        (damage("pairs", 0, 0, 10**6), "a pair that is not of its phrases"),
        (damage("pairs", 0, 2, [BASE]), "a pair that is not of its phrases"),
        (damage("pairs", 0, 2, []), "length >= 1"),
        (damage("pairs", lambda pairs: pairs * 50), "remembers more than 40 pairs"),
        (damage("previous", [10**6, 0]), "its last phrase is not of the table"),
        (damage("previous", [1]), "of length 2"),
        (damage("counts", lambda counts: [*counts, counts[0]]), "a phrase is counted twice"),
        (damage("counts", 0, 1, 0, 1, float("inf")), "expected `float`"),
        (damage("counts", 0, 1, 0, 1, -1.0), "expected `float` >= 0"),
        (damage("counts", 0, 1, lambda items: [*items, items[0]]), "an option is counted twice"),
        (damage("counts", 0, 1, 0, 0, 5), "counts phrases that it cannot hold"),
        (damage("counts", 0, 0, 10**6), "counts phrases that it cannot hold"),
        (damage("stats", "merges", None), "expected `int`, got `null`"),
        (damage("config", "threshold", 0), "expected `int` >= 1"),
        (damage("config", lambda config: {**config, "window": 3}), "its config has no `pair_window`"),
        (lambda state: {**state, "more": 1}, "unknown field `more`"),
    ],
)
def test_a_forged_table_is_refused_and_changes_nothing(state, apply, message):
    table = loaded(state)
    with pytest.raises(SttxError, match=message):
        table.load_state_dict(apply(copy.deepcopy(state)))
    assert json.loads(json.dumps(table.state_dict())) == state


def test_two_phrases_of_the_same_tokens_are_refused(state):
    forged = copy.deepcopy(state)
    first, second = forged["phrases"][:2]
    second[2:4] = first[2:4]
    with pytest.raises(CheckpointError, match="two phrases have the same tokens"):
        loaded(forged)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([["a", "x"], ["a", "y"]], "a document has two prompts"),
        ([["a", "x"], ["b", "y"], ["c", "z"]], "more than 2"),
        ([["a", "x" * 11]], "a prompt has more than 10 characters"),
        ([["a", 7]], "expected `str`, got `int`"),
        ([["a"]], "of length 2"),
        ("a", "expected `array`, got `str`"),
    ],
    ids=str,
)
def test_forged_prompts_are_refused(prompts, message):
    maker = PairMaker(documents=2, longest=10)
    maker.pair(UserMessage(meta=Meta(session="s"), text="hello"))
    before = maker.state_dict()
    with pytest.raises(CheckpointError, match=message):
        maker.load_state_dict({"prompts": prompts})
    assert maker.state_dict() == before

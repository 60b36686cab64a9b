"""Carried states: bounded, the least recently used one is evicted, and an evicted document starts fresh."""

from collections import OrderedDict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sttx_train.online.carried import Carried, CarriedStates
from sttx_train.rwkv7 import RecurrentState, RWKV7Config

SIZES = RWKV7Config(vocab_size=9, hidden_size=8, num_layers=1, head_size=4)


def carried(mark):
    state = RecurrentState.zeros(SIZES)
    return Carried(state=state, context=(mark,), frozen=state)


def test_an_unknown_document_is_fresh_and_asking_changes_nothing():
    states = CarriedStates(2, eot_id=7)
    entry = states.get("a")
    assert (entry.state, entry.context, entry.frozen) == (None, (7,), None)
    assert len(states) == 0 and states.evictions == 0


def test_get_returns_what_was_put():
    states = CarriedStates(2, eot_id=0)
    entry = carried(5)
    states.put("a", entry)
    assert states.get("a") is entry
    states.put("a", later := carried(6))
    assert states.get("a") is later and len(states) == 1


def test_the_least_recently_put_document_is_evicted_and_counted():
    states = CarriedStates(2, eot_id=0)
    for mark, name in enumerate("abac"):
        states.put(name, carried(mark))
    assert list(states.entries) == ["a", "c"] and states.evictions == 1
    assert states.get("b").state is None, "it starts fresh when it returns"


@pytest.mark.parametrize("capacity", [1, 3])
def test_memory_is_bounded_by_the_capacity(capacity):
    states = CarriedStates(capacity, eot_id=0)
    for number in range(40):
        states.put(str(number), carried(number))
    assert len(states) == capacity and states.evictions == 40 - capacity
    assert sum(entry.state.nbytes for entry in states.entries.values()) == capacity * carried(0).state.nbytes


@given(st.lists(st.sampled_from("abcdef"), max_size=40), st.integers(1, 4))
def test_it_agrees_with_the_definition_of_an_lru(names, capacity):
    states, plain, evicted = CarriedStates(capacity, eot_id=0), OrderedDict(), 0
    for mark, name in enumerate(names):
        states.put(name, Carried(None, (mark,)))
        plain.pop(name, None)
        plain[name] = mark
        if len(plain) > capacity:
            del plain[next(iter(plain))]
            evicted += 1
    assert {name: entry.context[0] for name, entry in states.entries.items()} == plain
    assert list(states.entries) == list(plain) and states.evictions == evicted


def test_another_document_does_not_change_a_carried_state():
    states = CarriedStates(2, eot_id=0)
    states.put("a", carried(1))
    before = states.get("a").state.clone()
    states.put("b", carried(2))
    assert torch.equal(states.get("a").state.wkv, before.wkv)


def test_loaded_it_continues_exactly_and_shares_nothing():
    states = CarriedStates(3, eot_id=0)
    for mark, name in enumerate("abcda"):
        states.put(name, Carried(carried(mark).state, (mark, 1), carried(mark).state if mark % 2 else None))
    states.put("fresh", Carried(None, (9,)))
    loaded = CarriedStates(3, eot_id=0)
    loaded.put("other", carried(5))
    loaded.load_state_dict(states.state_dict())
    assert list(loaded.entries) == list(states.entries) and loaded.evictions == states.evictions == 3
    for name, entry in states.entries.items():
        same = loaded.get(name)
        assert same.context == entry.context
        for state, expected in ((same.state, entry.state), (same.frozen, entry.frozen)):
            assert (state is None) == (expected is None)
            if state is not None:
                assert torch.equal(state.wkv, expected.wkv)
                assert state.wkv.data_ptr() != expected.wkv.data_ptr()

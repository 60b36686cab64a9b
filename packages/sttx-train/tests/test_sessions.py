"""Carried states: bounded, the least recently used one goes first, and what returns starts afresh."""

from collections import OrderedDict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sttx_train.online.sessions import Carried, Sessions
from sttx_train.rwkv7 import RecurrentState, RWKV7Config

SIZES = RWKV7Config(vocab_size=9, hidden_size=8, num_layers=1, head_size=4)


def carried(mark):
    state = RecurrentState.zeros(SIZES)
    return Carried(state=state, context=(mark,), frozen=state)


def test_an_unknown_document_is_fresh_and_asking_changes_nothing():
    sessions = Sessions(2, start=7)
    entry = sessions.get("a")
    assert (entry.state, entry.context, entry.frozen) == (None, (7,), None)
    assert len(sessions) == 0 and sessions.evictions == 0


def test_what_was_put_comes_back():
    sessions = Sessions(2, start=0)
    entry = carried(5)
    sessions.put("a", entry)
    assert sessions.get("a") is entry
    sessions.put("a", later := carried(6))
    assert sessions.get("a") is later and len(sessions) == 1


def test_the_least_recently_put_is_forgotten_and_counted():
    sessions = Sessions(2, start=0)
    for mark, name in enumerate("abac"):
        sessions.put(name, carried(mark))
    assert list(sessions.entries) == ["a", "c"] and sessions.evictions == 1
    assert sessions.get("b").state is None, "it starts afresh when it returns"


@pytest.mark.parametrize("capacity", [1, 3])
def test_memory_does_not_grow_with_the_documents(capacity):
    sessions = Sessions(capacity, start=0)
    for number in range(40):
        sessions.put(str(number), carried(number))
    assert len(sessions) == capacity and sessions.evictions == 40 - capacity
    assert (
        sum(entry.state.nbytes for entry in sessions.entries.values()) == capacity * carried(0).state.nbytes
    )


@given(st.lists(st.sampled_from("abcdef"), max_size=40), st.integers(1, 4))
def test_it_is_the_plain_definition_of_an_lru(names, capacity):
    sessions, plain, evicted = Sessions(capacity, start=0), OrderedDict(), 0
    for mark, name in enumerate(names):
        sessions.put(name, Carried(None, (mark,)))
        plain.pop(name, None)
        plain[name] = mark
        if len(plain) > capacity:
            del plain[next(iter(plain))]
            evicted += 1
    assert {name: entry.context[0] for name, entry in sessions.entries.items()} == plain
    assert list(sessions.entries) == list(plain) and sessions.evictions == evicted


def test_a_window_of_another_document_leaves_a_carried_state_alone():
    sessions = Sessions(2, start=0)
    sessions.put("a", carried(1))
    before = sessions.get("a").state.clone()
    sessions.put("b", carried(2))
    assert torch.equal(sessions.get("a").state.wkv, before.wkv)

"""The replay buffer: conformance, a slow twin, exact states, and damaged states that are refused."""

import json
import math
import random

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sttx_core.checks import check_replay
from sttx_core.errors import CheckpointError, UsageError
from sttx_core.replay import ReplayBuffer


def item(*values):
    return np.array(values, np.int32)


def kept(buffer):
    """Return the first token and the surprise of each item, from the saved state."""
    arrays = buffer.state_dict()["arrays"]
    return [
        (int(arrays["tokens"][start]), float(surprise))
        for start, surprise in zip(arrays["offsets"][:-1], arrays["surprise"], strict=True)
    ]


def test_conformance():
    check_replay(ReplayBuffer)


class Uniform(ReplayBuffer):
    def _descend(self, targets):
        return self._random.integers(len(self), size=len(targets))


class EvictsTheOldest(ReplayBuffer):
    def _least(self, one, other):
        present = [slot for slot in (one, other) if slot >= 0]
        return min(present, key=lambda slot: self._orders[slot]) if present else -1


class Unbounded(ReplayBuffer):
    def __init__(self, capacity=1000, seed=0):
        super().__init__(capacity * 2, seed)


class Refreshes(ReplayBuffer):
    def refresh(self, slot, generation, surprise):
        return super().refresh(slot, int(self._generations[slot]) if slot < len(self) else 0, surprise)


class ForgetsItsRandomState(ReplayBuffer):
    def load_state_dict(self, state):
        super().load_state_dict(state)
        self._random = np.random.Generator(np.random.PCG64(0))


class ForgetsItsAge(ReplayBuffer):
    def load_state_dict(self, state):
        super().load_state_dict(state)
        self._generations[:] = 0


class Trusting(ReplayBuffer):
    def add(self, item, surprise):
        super().add(item, abs(surprise) if math.isfinite(surprise) else 1.0)


class Unseeded(ReplayBuffer):
    def __init__(self, capacity=1000, seed=0):
        super().__init__(capacity, random.randrange(2**60))


class SharesItsState(ReplayBuffer):
    def state_dict(self):
        state = super().state_dict()
        state["arrays"]["surprise"] = self._sums[self._leaves : self._leaves + len(self)]
        return state


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (Uniform, "although others have more|of the surprise got"),
        (EvictsTheOldest, "most surprising"),
        (Unbounded, "make a length of 6"),
        (Refreshes, "reused slot"),
        (ForgetsItsRandomState, "it draws differently"),
        (ForgetsItsAge, "it draws differently"),
        (Trusting, "add accepted the surprise nan"),
        (Unseeded, "same seed"),
        (SharesItsState, "changed when its buffer did"),
    ],
)
def test_the_check_catches_a_broken_buffer(broken, complaint):
    with pytest.raises(AssertionError, match=complaint):
        check_replay(broken)


def test_among_equals_the_oldest_is_dropped():
    buffer = ReplayBuffer(3)
    for value in range(8):
        buffer.add(item(value), 1.0)
    assert sorted(kept(buffer)) == [(5, 1.0), (6, 1.0), (7, 1.0)]


def test_the_new_item_is_dropped_if_it_surprises_least():
    buffer = ReplayBuffer(2)
    for value, surprise in enumerate([3.0, 2.0, 1.0]):
        buffer.add(item(value), surprise)
    assert kept(buffer) == [(0, 3.0), (1, 2.0)]
    assert buffer.draw(1)[0].generation == 0


def test_capacity_of_one():
    buffer = ReplayBuffer(1)
    buffer.add(item(1), 1.0)
    buffer.add(item(2), 2.0)
    buffer.add(item(3), 0.5)
    assert kept(buffer) == [(2, 2.0)]
    assert [one.generation for one in buffer.draw(2)] == [1, 1]


class SlowTwin:
    """The definition: a list with linear search."""

    def __init__(self, capacity):
        self.capacity, self.slots, self.clock = capacity, [], 0

    def add(self, value, surprise):
        entry = [surprise, self.clock, value, 0]
        self.clock += 1
        if len(self.slots) < self.capacity:
            self.slots.append(entry)
            return
        least = min(range(self.capacity), key=lambda slot: self.slots[slot][:2])
        if surprise >= self.slots[least][0]:
            entry[3] = self.slots[least][3] + 1
            self.slots[least] = entry

    def refresh(self, slot, generation, surprise):
        if slot >= len(self.slots) or self.slots[slot][3] != generation:
            return False
        self.slots[slot][0] = surprise
        return True


surprises = st.sampled_from([0.0, 0.5, 1.0, 1.0, 2.0]) | st.floats(0, 50)
adding = st.tuples(st.just("add"), st.integers(0, 999), surprises)
refreshing = st.tuples(st.just("refresh"), st.integers(0, 8), st.integers(0, 3), surprises)


@settings(max_examples=60)
@given(st.integers(1, 9), st.lists(adding | refreshing, max_size=60))
def test_it_agrees_with_its_slow_twin(capacity, steps):
    buffer, twin = ReplayBuffer(capacity), SlowTwin(capacity)
    for step in steps:
        if step[0] == "add":
            buffer.add(item(step[1]), step[2])
            twin.add(step[1], step[2])
        else:
            assert buffer.refresh(*step[1:]) == twin.refresh(*step[1:])
    assert kept(buffer) == [(value, surprise) for surprise, _, value, _ in twin.slots]
    assert np.isclose(buffer._sums[1], math.fsum(surprise for surprise, *_ in twin.slots))
    if twin.slots:
        for one in buffer.draw(5):
            surprise, _, value, generation = twin.slots[one.slot]
            assert (one.surprise, one.item[0], one.generation) == (surprise, value, generation)


def test_sums_do_not_drift():
    buffer = ReplayBuffer(50)
    draw = random.Random(0)
    for value in range(3000):
        buffer.add(item(value), 10 ** draw.uniform(-12, 12))
    again = ReplayBuffer(50)
    again.load_state_dict(buffer.state_dict())
    assert np.array_equal(buffer._sums, again._sums)
    assert np.array_equal(buffer._winners, again._winners)


def test_work_for_each_operation_grows_logarithmically():
    def least_calls(capacity):
        calls = 0

        class Counting(ReplayBuffer):
            def _least(self, one, other):
                nonlocal calls
                calls += 1
                return super()._least(one, other)

        buffer = Counting(capacity)
        for value in range(capacity):
            buffer.add(item(value), float(value))
        calls = 0
        buffer.add(item(0), 1e6)
        return calls

    assert [least_calls(capacity) for capacity in (16, 256, 4096)] == [4, 8, 12]


def test_drawing_does_not_advance_other_generators():
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    buffer = ReplayBuffer(4, seed=1)
    buffer.add(item(1), 1.0)
    buffer.draw(10)
    assert np.random.random() == expected


def test_items_are_read_only_copies():
    source = item(1, 2, 3)
    buffer = ReplayBuffer(4)
    buffer.add(source, 1.0)
    source[0] = 99
    drawn = buffer.draw(1)[0]
    assert drawn.item.tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="read-only"):
        drawn.item[0] = 5


@pytest.mark.parametrize("bad", [[1, 2], item(), np.array([[1]], np.int32), np.array([1]), np.array([1.0])])
def test_items_of_another_type_are_refused(bad):
    with pytest.raises(ValueError, match="1-D int32"):
        ReplayBuffer().add(bad, 1.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -0.001, 1e301])
def test_invalid_surprises_are_refused(bad):
    buffer = ReplayBuffer()
    with pytest.raises(ValueError, match="surprise"):
        buffer.add(item(1), bad)
    assert len(buffer) == 0


def test_invalid_arguments_are_refused():
    with pytest.raises(UsageError, match="capacity is 0"):
        ReplayBuffer(0)
    with pytest.raises(ValueError, match="cannot draw -1"):
        ReplayBuffer().draw(-1)


def test_the_largest_surprises_still_draw():
    buffer = ReplayBuffer(1000)
    for value in range(1000):
        buffer.add(item(value), 1e300)
    assert len({one.slot for one in buffer.draw(100)}) > 50


def test_draws_stay_proportional_after_many_operations():
    buffer = ReplayBuffer(20, seed=9)
    draw = random.Random(4)
    for value in range(400):
        buffer.add(item(value), draw.expovariate(1))
        for one in buffer.draw(2):
            buffer.refresh(one.slot, one.generation, draw.expovariate(1))
    weights = buffer.state_dict()["arrays"]["surprise"]
    n = 50_000
    times = np.bincount([one.slot for one in buffer.draw(n)], minlength=20)
    expected = weights / weights.sum() * n
    chi_square = float(((times - expected) ** 2 / expected).sum())
    assert chi_square < 50  # 19 degrees of freedom: exceeded once in ten thousand


def test_one_large_surprise_among_zeros():
    buffer = ReplayBuffer(1000)
    for value in range(1000):
        buffer.add(item(value), 1.0 if value == 613 else 0.0)
    assert {int(one.item[0]) for one in buffer.draw(300)} == {613}


def test_tiny_surprises_among_huge_ones_never_select_an_empty_slot():
    buffer = ReplayBuffer(7, seed=2)
    for value, surprise in enumerate([1e300, 5e-324, 1e-300, 0.0, 1e300]):
        buffer.add(item(value), surprise)
    assert {one.slot for one in buffer.draw(2000)} == {0, 4}


@pytest.mark.parametrize("split", [1, 2, 5])
def test_many_draws_at_once_equal_draws_one_by_one(split):
    whole, pieces = filled(), filled()
    at_once = [one.slot for one in whole.draw(10)]
    assert [one.slot for _ in range(10 // split) for one in pieces.draw(split)] == at_once
    assert whole.draws == pieces.draws == 15


def filled(size=6):
    buffer = ReplayBuffer(8, seed=3)
    for value in range(size):
        buffer.add(item(*range(value, 2 * value + 1)), 1.0 + value)
    buffer.draw(5)
    return buffer


def test_the_state_is_flat_arrays_and_json():
    state = filled().state_dict()
    assert {name: array.dtype.name for name, array in state["arrays"].items()} == {
        "tokens": "int32",
        "offsets": "int64",
        "surprise": "float64",
        "generation": "int64",
        "order": "int64",
    }
    assert orjson.loads(orjson.dumps(state["meta"])) == json.loads(json.dumps(state["meta"])) == state["meta"]
    assert state["meta"]["draws"] == 5


@pytest.mark.parametrize("size", [0, 1, 6, 20])
def test_a_loaded_state_is_saved_unchanged(size):
    state = filled(size).state_dict()
    again = ReplayBuffer(8)
    again.load_state_dict(state)
    back = again.state_dict()
    assert back["meta"] == state["meta"]
    assert all(np.array_equal(back["arrays"][name], array) for name, array in state["arrays"].items())


def damage(part, name, value):
    def apply(state):
        state[part][name] = value(state[part][name]) if callable(value) else value

    return apply


@pytest.mark.parametrize(
    ("apply", "complaint"),
    [
        (lambda state: state.pop("meta"), "expected `object`, got `null`"),
        (lambda state: state["arrays"].pop("order"), "its order are not one row of int64"),
        (
            lambda state: state["meta"]["random"].pop("state"),
            "missing required field `state` at `\\$.random`",
        ),
        (damage("meta", "capacity", 9), "capacity 9, this buffer 8"),
        (damage("meta", "random", lambda random: {**random, "bit_generator": "MT19937"}), "PCG64|MT19937"),
        (damage("meta", "draws", "many"), "expected `int`, got `str` at `\\$.draws`"),
        (damage("arrays", "generation", lambda array: array[:-1]), "disagree"),
        (damage("arrays", "offsets", lambda array: array[:-1]), "disagree"),
        (damage("arrays", "offsets", lambda array: array + 1), "offsets do not rise from the first"),
        (damage("arrays", "offsets", lambda array: array * 0), "offsets do not rise from the first"),
        (
            damage("arrays", "tokens", lambda array: array.astype(np.int64)),
            "its tokens are not one row of int32",
        ),
        (damage("arrays", "tokens", lambda array: array[:-1]), "offsets do not rise from the first"),
        (damage("arrays", "surprise", lambda array: array * np.nan), "surprise nan"),
        (damage("arrays", "surprise", lambda array: -array), "surprise -1.0"),
        (damage("arrays", "surprise", lambda array: array.astype(np.float32)), "not one row of float64"),
        (damage("arrays", "generation", lambda array: array - 99), "a generation below 0"),
        (damage("arrays", "order", lambda array: array * 0), "were not added one after the other"),
        (damage("arrays", "order", lambda array: array + 10**9), "were not added one after the other"),
        (damage("arrays", "offsets", lambda array: array.reshape(1, -1)), "its offsets are not one row"),
        (damage("arrays", "offsets", lambda array: array[[0, 2, 1, *range(3, len(array))]]), "do not rise"),
        (damage("meta", "draws", -1), "expected `int` >= 0"),
        (damage("meta", "adds", 1e3), "expected `int`, got `float`"),
        (damage("meta", "more", 1), "unknown field `more`"),
        (damage("meta", "random", lambda random: {**random, "uinteger": 2**40}), "uinteger"),
    ],
)
def test_a_damaged_state_is_refused_and_changes_nothing(apply, complaint):
    state = filled().state_dict()
    apply(state)
    buffer = filled(3)
    before = buffer.state_dict()
    with pytest.raises(CheckpointError, match=complaint):
        buffer.load_state_dict(state)
    after = buffer.state_dict()
    assert after["meta"] == before["meta"]
    assert all(np.array_equal(after["arrays"][name], array) for name, array in before["arrays"].items())

"""The counts behind the output factor: smoothed, decaying, and drafts that do not change the original."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sttx_core.phrase_counts import COUNT_LIMIT, SMOOTHING, STOP, ChoiceCounts


def shares(counts, node, *options):
    """The options' smoothed counts."""
    return [math.exp(value) for value in counts.log_prior(node, options)]


def test_an_unseen_node_has_only_the_smoothing():
    assert shares(ChoiceCounts(), 7, STOP, 12) == pytest.approx([SMOOTHING, SMOOTHING])


def test_a_choice_counts_at_its_own_node():
    counts = ChoiceCounts()
    for node, option in [(1, STOP), (1, STOP), (1, 9), (2, 9)]:
        counts.add(node, option)
    assert shares(counts, 1, STOP, 9) == pytest.approx([2 + SMOOTHING, 1 + SMOOTHING])
    assert shares(counts, 2, STOP, 9) == pytest.approx([SMOOTHING, 1 + SMOOTHING])


def test_counts_are_halved_when_their_sum_exceeds_the_limit():
    counts = ChoiceCounts()
    for _ in range(int(COUNT_LIMIT) - 1):
        counts.add(1, STOP)
    counts.add(1, 9)
    assert shares(counts, 1, STOP, 9) == pytest.approx([COUNT_LIMIT - 1 + SMOOTHING, 1 + SMOOTHING])
    counts.add(1, 9)
    assert shares(counts, 1, STOP, 9) == pytest.approx([(COUNT_LIMIT - 1) / 2 + SMOOTHING, 1 + SMOOTHING])


def test_old_choices_decay():
    counts = ChoiceCounts()
    for _ in range(10_000):
        counts.add(1, STOP)
    for _ in range(int(COUNT_LIMIT)):
        counts.add(1, 9)
    stop, go = shares(counts, 1, STOP, 9)
    assert go > stop


def test_a_new_branch_takes_over_the_stops_that_led_to_it():
    counts = ChoiceCounts()
    for _ in range(5):
        counts.add(1, STOP)
    counts.add_branch(1, 9, 3.0)
    assert shares(counts, 1, STOP, 9) == pytest.approx([2 + SMOOTHING, 3 + SMOOTHING])
    counts.add_branch(1, 10, 3.0)
    assert shares(counts, 1, STOP, 9, 10) == pytest.approx([SMOOTHING, 3 + SMOOTHING, 3 + SMOOTHING])


def test_a_removed_phrase_is_removed_as_a_node_and_as_a_branch():
    counts = ChoiceCounts()
    for node, option in [(1, 9), (9, STOP), (9, 10), (1, STOP)]:
        counts.add(node, option)
    counts.remove(1, 9)
    assert shares(counts, 1, STOP, 9) == pytest.approx([1 + SMOOTHING, SMOOTHING])
    assert shares(counts, 9, STOP, 10) == pytest.approx([SMOOTHING, SMOOTHING])
    counts.remove(3, 4)  # never counted


choices = st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 3)), max_size=400)


@given(choices, choices)
def test_a_draft_continues_its_original_and_does_not_change_it(before, after):
    counts, straight = ChoiceCounts(), ChoiceCounts()
    for node, option in before:
        counts.add(node, option)
        straight.add(node, option)
    kept = counts.state_dict()
    draft = counts.draft()
    for node, option in after:
        draft.add(node, option)
        straight.add(node, option)
    assert counts.state_dict() == kept
    for node in range(5):
        assert draft.log_prior(node, range(-1, 4)) == straight.log_prior(node, range(-1, 4))


@given(choices)
def test_no_sum_exceeds_the_limit_and_loading_is_exact(before):
    counts = ChoiceCounts()
    for node, option in before:
        counts.add(node, option, 40.0)
        assert all(sum(count for _, count in items) <= COUNT_LIMIT for _, items in counts.state_dict())
    loaded = ChoiceCounts()
    loaded.load_state_dict(counts.state_dict())
    assert loaded.state_dict() == counts.state_dict()

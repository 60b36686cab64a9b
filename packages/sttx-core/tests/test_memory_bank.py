"""Decisions of a bank of states: where parts end, what counts as early, and which project makes room."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sttx_core.memory.bank import EARLY, LONGEST, MEMORY, SHORTEST, Part, makes_room, share


def part(windows, bits=1.0, size=1, before=0):
    result = Part(before=before)
    for _ in range(windows):
        result.add(bits, size)
    return result


def test_a_part_ends_before_a_surprising_window():
    assert part(SHORTEST).ends_before(1.6, 1)
    assert not part(SHORTEST).ends_before(1.59, 1)
    assert not part(SHORTEST - 1).ends_before(100.0, 1), "it is too short"


def test_prices_are_compared_by_the_byte():
    assert not part(SHORTEST).ends_before(16.0, 11)
    assert part(SHORTEST, bits=3.0, size=30).ends_before(1.7, 10)


def test_windows_that_are_not_paid_for_end_no_part():
    assert not part(SHORTEST).ends_before(0.0, 0)
    assert not part(SHORTEST, bits=0.0, size=0).ends_before(5.0, 1)


def test_asking_changes_nothing():
    one, other = part(5), part(5)
    one.ends_before(9.0, 1)
    assert one == other


def test_the_next_part_counts_from_where_this_one_ends():
    following = part(6, before=10).next()
    assert following == Part(before=16)


@pytest.mark.parametrize(("before", "windows"), [(EARLY, 0), (EARLY - 1, 1), (0, EARLY)])
def test_late_windows_are_not_early(before, windows):
    assert not part(windows, before=before).is_early


def test_a_part_is_full_at_its_greatest_length():
    assert not part(LONGEST - 1).is_full
    assert part(LONGEST).is_full


def test_shares_make_a_mean_and_then_one_of_the_latest():
    mean = 0.0
    for count, value in enumerate([3.0, 5.0, 10.0], 1):
        mean += share(count) * (value - mean)
    assert mean == pytest.approx(6.0)
    assert share(MEMORY) == share(10 * MEMORY) == 1 / MEMORY


@given(st.lists(st.sampled_from("abcd"), min_size=2, unique=True))
def test_the_least_recently_used_project_makes_room_but_not_the_newest(projects):
    assert makes_room(projects, projects[-1]) == projects[0]
    assert makes_room(projects, projects[0]) == projects[1]

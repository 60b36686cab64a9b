"""The memory of uuids and tool calls is bounded, and JSON restores it exactly."""

import json
import uuid

import pytest

from sttx_ccsniff.seen import Seen


@pytest.mark.parametrize(
    "make",
    [
        uuid.uuid4,
        uuid.uuid1,  # of one machine: they differ only in the time, in their first half
        lambda: f"{uuid.uuid4()}"[:24] + "000000000001",  # a random first half and a constant second half
        lambda: f"prompt after {uuid.uuid4()}",
    ],
)
def test_similar_uuids_do_not_collide(make):
    seen = Seen()
    made = [str(make()) for _ in range(5000)]
    assert len(set(made)) == 5000
    assert all(seen.first_time(one) for one in made)
    assert not any(seen.first_time(one) for one in made)


def test_a_copy_follows_by_the_journal_and_through_json():
    first, second = Seen(generation=50, calls=5), Seen(generation=50, calls=5)
    for number in range(333):
        first.first_time(f"u{number}")
        first.remember_tool(f"c{number}", "Bash")
        if number % 7 == 0:
            second.follow(first.take_journal())
        if number % 50 == 0:
            again = Seen(generation=50, calls=5)
            again.load_state_dict(json.loads(json.dumps(second.state_dict())))
            second = again
    second.follow(first.take_journal())
    assert first.take_journal() is None
    assert second.state_dict() == first.state_dict()


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"uuids": ["", ""], "calls": [[]]},
        {"uuids": ["AAA", ""], "calls": [[], []]},
        {"uuids": ["AAAA", ""], "calls": [[], []]},
        {"uuids": [None, ""], "calls": [[], []]},
        {"uuids": ["A" * 512, ""], "calls": [[], []]},
    ],
)
def test_a_damaged_state_is_refused(state):
    with pytest.raises(ValueError, match=r".*"):
        Seen(generation=10).load_state_dict(state)

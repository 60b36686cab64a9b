"""The recorded layer of an attached memory, computed again by the reader in numpy."""

import copy
from itertools import pairwise

import numpy as np
import pytest

from sttx_core.memory.attached import golden, largest_differences

GIVEN = {"x", "written", "q_proj", "o_proj"}
COMPARED = {
    *("h", "q", "slot", "o", "y", "delta_q", "delta_o", "k", "v", "w", "a", "k_tilde"),
    *("slots", "keys", "counts", "last", "q_proj_with_delta", "o_proj_with_delta"),
}


@pytest.fixture
def record():
    return golden()


def test_every_number_is_computed_again(record):
    found = largest_differences(record)
    assert found.keys() == COMPARED
    assert max(found.values()) < 1e-5


def test_the_record_shows_every_case(record):
    tokens = record["tokens"]
    assert {token["written"] for token in tokens} == {True, False}
    assert {token["slot"] for token in tokens} == {None, 0, 1, 2}
    counts = [token["counts"] for token in tokens]
    assert [2, 2, 2] in counts and len({tuple(one) for one in counts if 4 in one or 6 in one}) > 1  # merged
    for name in ("delta_q", "delta_o", "y"):
        assert np.abs([token[name] for token in tokens[2:]]).max() > 0.1


def test_reads_and_merges_choose_clearly(record):
    """Rounding on another machine must not change which slot is read, nor which two are merged."""
    margins = []
    for before, token in pairwise(record["tokens"]):
        query, keys, counts = (np.array(one) for one in (token["q"], before["keys"], before["counts"]))
        used = counts > 0
        if token["written"] and min(counts) >= record["config"]["chunk"]:
            means = np.sum(np.diff(keys / counts[:, None], axis=0) ** 2, axis=1)
            rises = counts[:-1] * counts[1:] / (counts[:-1] + counts[1:]) * means
            margins.append(abs(rises[0] - rises[1]))
        elif sum(used) > 1:
            scores = np.sort(keys[used] @ query / np.linalg.norm(keys[used], axis=1))
            margins.append(scores[-1] - scores[-2])
    assert len(margins) == 9 and min(margins) > 0.01


@pytest.mark.parametrize("name", sorted(COMPARED - {"slot", "counts"} | GIVEN - {"written"}))
def test_a_wrong_number_is_found(record, name):
    changed = copy.deepcopy(record)
    token = changed["tokens"][6]
    values = np.array(token[name])
    values.flat[-1] += 1e-3
    token[name] = values.tolist()
    assert max(largest_differences(changed).values()) > 1e-5


def test_a_wrong_count_slot_or_name_is_found(record):
    for name, value in (("slot", None), ("slot", 0), ("counts", [9, 9, 9]), ("written", False)):
        changed = copy.deepcopy(record)
        changed["tokens"][6][name] = value
        if name == "written":
            with pytest.raises(ValueError, match="are compared"):
                largest_differences(changed)
        else:
            assert largest_differences(changed)[name] > 0.5
    changed = copy.deepcopy(record)
    changed["tokens"][0]["y"].append(0.0)
    with pytest.raises(ValueError, match="y is"):
        largest_differences(changed)


@pytest.mark.parametrize("name", sorted(golden()["adapter"]))
def test_every_tensor_of_the_adapter_matters(record, name):
    values = np.array(record["adapter"][name])
    record["adapter"][name] = (values + 0.01).tolist()
    assert max(largest_differences(record).values()) > 1e-5

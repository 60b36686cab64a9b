"""`check_block_policy` passes every policy of ours, and names the rule that a broken one breaks."""

import numpy as np
import pytest

from sttx_core.checks import check_block_policy
from sttx_core.errors import UsageError
from sttx_core.memory import adaptive, fixed, optimal, ward


@pytest.mark.parametrize("policy", [adaptive, fixed, optimal, ward])
def test_our_policies_pass(policy):
    check_block_policy(policy)


def late(contributions, capacity):
    return fixed(contributions, capacity) + 1


def too_many(contributions, capacity):
    return np.arange(len(contributions)) if capacity > 0 else fixed(contributions, capacity)


def repeated(contributions, capacity):
    starts = fixed(contributions, capacity)
    return np.concatenate([starts[:1], starts[:-1]])


def beyond(contributions, capacity):
    starts = fixed(contributions, capacity)
    return starts if len(starts) < 2 else np.append(starts[:-1], len(contributions))


def as_list(contributions, capacity):
    return fixed(contributions, capacity).tolist()


def in_units(contributions, capacity):
    return fixed(contributions, capacity if contributions.products[0, 0] > 100 else 1)


def changing(contributions, capacity):
    contributions.products[0, 0] += 1
    return fixed(contributions, capacity)


def without_refusal(contributions, capacity):
    return fixed(contributions, max(capacity, 1))


class Forgetful:
    """Cuts otherwise at the second call."""

    def __init__(self):
        self.calls = 0

    def __call__(self, contributions, capacity):
        self.calls += 1
        return fixed(contributions, 1 if self.calls % 2 and capacity > 0 else capacity)


class Shared:
    """Hands out the array that it keeps."""

    def __init__(self):
        self.kept = {}

    def __call__(self, contributions, capacity):
        key = (len(contributions), capacity)
        return self.kept.setdefault(key, fixed(contributions, capacity))


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (late, "must start at 0"),
        (too_many, "there are 31 blocks"),
        (repeated, "starts must increase"),
        (beyond, "behind the last"),
        (as_list, "one array of integers"),
        (in_units, "a stream 1024 times as large"),
        (changing, "changed what it was given"),
        (without_refusal, "a capacity of 0 must be a UsageError"),
        (Forgetful(), "the second call"),
        (Shared(), "writing into a result"),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__) if callable(value) else "",
)
def test_a_broken_rule_is_named(policy, message):
    with pytest.raises(AssertionError, match=message):
        check_block_policy(policy)


def test_an_unrelated_error_is_not_a_refusal():
    def broken(contributions, capacity):
        if capacity < 1:
            raise ZeroDivisionError
        return fixed(contributions, capacity)

    with pytest.raises(ZeroDivisionError):
        check_block_policy(broken)
    with pytest.raises(UsageError):
        fixed(None, 0)

"""The next token, computed in part: parts and walks agree with all probabilities, and little is computed."""

import numpy as np
import pytest

pytest.importorskip("numba", reason="needs sttx-core[experts]")

from sttx_core.experts import Experts, ExpertsConfig

SMALL = ExpertsConfig(slot_bits=14, history_bits=12, index_bits=12)
SIZES = [2, 3, 300, 512]


def experts_of(size, seed=0):
    """Return experts that have read a text, the place after it, and what a network says next."""
    dice = np.random.default_rng(seed)
    experts = Experts([b"", *(bytes(dice.integers(97, 101, 5).tolist()) for _ in range(size - 1))], SMALL)
    ids, logits = np.tile(dice.integers(0, size, 30), 4), dice.standard_normal((121, size)) * 2
    says = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    document = experts.document()
    experts.read(document, says[:120], ids)
    return experts, document, says[120]


def counts(mask, order):
    return np.concatenate([[0], np.cumsum(mask[order])])


@pytest.mark.parametrize("size", SIZES)
def test_parts_are_all_tokens_once_and_exact(size):
    experts, document, says = experts_of(size)
    every = np.exp(experts.log_probs(document, says))
    dice = np.random.default_rng(1)
    for least in (2.0, 0.1, 1e-3, 0.0):
        kept, needed = dice.random(size) < 0.8, dice.random(size) < 0.02
        following = experts.next_token(document, says)
        parts = following.parts(least, counts(kept, following.order), counts(needed, following.order))
        assert parts.first[0] == 0 and np.array_equal(parts.first[1:], np.cumsum(parts.size)[:-1])
        for first, width, count, log_prob in zip(*parts, strict=True):
            ids = experts.order[first : first + width]
            assert count == kept[ids].sum() and np.exp(log_prob) == pytest.approx(every[ids].sum(), rel=1e-9)
            if width == 1:
                assert log_prob == np.log(every[ids[0]]) or np.isclose(log_prob, np.log(every[ids[0]]), 1e-13)
            else:
                assert not needed[ids].any() and (np.exp(log_prob) < least or not count)


@pytest.mark.parametrize("size", SIZES)
def test_a_walk_ends_where_the_sum_passes_the_number(size):
    experts, document, says = experts_of(size)
    dice = np.random.default_rng(3)
    for kept in (np.ones(size, bool), np.arange(size) != 1, dice.random(size) < 0.9):
        every = np.exp(experts.log_probs(document, says))
        kept[every.argmax()] = True
        row = np.where(kept, every, 0)[experts.order]
        sums, excluded = np.cumsum(row), np.flatnonzero(~kept[experts.order])
        for uniform in [0.0, *dice.random(40), np.nextafter(1.0, 0.0)]:
            token = experts.next_token(document, says).walk(uniform, counts(kept, experts.order), excluded)
            at = min(np.searchsorted(sums, uniform * sums[-1], side="right"), np.flatnonzero(row)[-1])
            assert token == experts.order[at]


def test_a_walk_refuses_what_rounding_would_decide():
    experts, document, says = experts_of(300)
    order = experts.order
    every = np.exp(experts.log_probs(document, says))
    kept = np.arange(300) == every.argmin()
    walk = experts.next_token(document, says).walk(0.5, counts(kept, order), np.flatnonzero(~kept[order]))
    assert walk is None


def test_asking_changes_nothing_and_what_is_known_is_not_computed_again():
    experts, _, says = experts_of(512)
    document = experts.document()
    before, place = experts.state_dict(), document.state_dict()
    following, none = experts.next_token(document, says), np.zeros(513, np.int64)
    every = np.arange(513)
    known = []
    for least in (0.2, 1e-4, 0.2, 0.0):
        following.parts(least, every, none)
        known.append(int((following._opened >= 0).sum()))
    assert 0 < known[0] < known[1] == known[2] < known[3] == 1023
    for name, array in (experts.state_dict() | document.state_dict()).items():
        assert np.array_equal(array, (before | place)[name])

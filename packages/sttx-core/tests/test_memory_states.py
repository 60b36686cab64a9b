"""Reads from states beside the states themselves, made token by token; routing; other uses of the bytes."""

import numpy as np
import pytest

from sttx_core.errors import UsageError
from sttx_core.memory import (
    DELTA,
    LINEAR,
    RWKV7,
    StateUpdate,
    block_reads,
    coefficients,
    cosine,
    largest_read,
    nearest_centroid,
)
from sttx_core.memory.draws import TorchDraws
from sttx_core.memory.log_linear import LogLinearState, attend, levels
from sttx_core.memory.routing import home_blocks, read_scores
from sttx_core.memory.same_bytes import (
    KEPT,
    PAIR_BYTES,
    STATE_BYTES,
    cache_scores,
    state_surprises,
    wide_features,
    wide_scores,
)
from sttx_core.memory.sequences import draw_recall, stack

UPDATES = {
    "linear": LINEAR,
    "decayed": LINEAR.with_decay(0.9),
    "rwkv7": RWKV7,
    "delta": DELTA,
    "odd": StateUpdate(decay=0.7, removal=0.4, gain=2.0, unit=True),
}


def slow_state(keys, values, update):
    state = np.zeros((values.shape[1], keys.shape[1]))
    for key, value in zip(keys, values, strict=True):
        direction = key / (np.linalg.norm(key) + 1e-8) if update.unit else key
        state = (
            update.decay * state
            - update.removal * np.outer(state @ direction, direction)
            + update.gain * np.outer(value, key)
        )
    return state


@pytest.fixture
def batch():
    return stack([draw_recall(TorchDraws(seed), 4, 6) for seed in (3, 4)])


@pytest.mark.parametrize("name", UPDATES)
def test_reads_are_those_of_the_states(batch, name):
    update, starts = UPDATES[name], [np.array([0, 5, 6, 20]), np.array([0])]
    weights = coefficients(batch.keys, batch.queries, starts, update, batch.lengths)
    for index, (length, first) in enumerate(zip(batch.lengths, starts, strict=True)):
        keys, values = batch.keys[index, :length], batch.values[index, :length]
        reads = block_reads(weights[index, :, :length], values, first)
        for block, (begin, end) in enumerate(zip(first, [*first[1:], length], strict=True)):
            state = slow_state(keys[begin:end], values[begin:end], update)
            assert reads[:, block] == pytest.approx(batch.queries[index] @ state.T, abs=1e-12)


def test_padding_changes_nothing(batch):
    alone = stack([draw_recall(TorchDraws(3), 4, 6)])
    starts = np.array([0, 5, 9])
    together = coefficients(batch.keys, batch.queries, [starts, starts], RWKV7, batch.lengths)
    single = coefficients(alone.keys, alone.queries, [starts], RWKV7)
    assert together[0, :, : alone.lengths[0]] == pytest.approx(single[0])


@pytest.mark.parametrize(("name", "value"), [("decay", 1.1), ("removal", -0.1), ("gain", 0.0)])
def test_updates_that_grow_without_bound_are_refused(name, value):
    with pytest.raises(UsageError, match=name):
        StateUpdate(**{name: value})


def test_routing():
    reads = np.array([[[1.0, 0.0], [0.0, 3.0], [2.0, 0.0]]])
    assert largest_read(reads).tolist() == [1]
    keys = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 5.0], [0.0, 4.0]])
    queries = np.array([[0.0, 1.0], [2.0, 0.1]])
    assert nearest_centroid(keys, np.array([0, 2]), queries).tolist() == [1, 0]
    assert home_blocks(np.array([0, 3, 7]), np.array([0, 2, 3, 9])).tolist() == [0, 0, 1, 2]


def test_every_routing_is_the_same_for_one_block(batch):
    whole = [np.array([0])] * 2
    oracle, norm, centroid = read_scores(
        batch, whole, RWKV7, routings=("oracle", "norm", "centroid")
    ).values()
    assert (oracle == norm).all() and (oracle == centroid).all()


def test_a_needle_alone_in_its_block_is_read_exactly(batch):
    starts = [np.sort(np.concatenate([row, row + 1])) for row in batch.needles]
    scores = read_scores(batch, starts, RWKV7, routings=("oracle", "centroid"))
    assert scores["oracle"] == pytest.approx(1.0)
    assert scores["centroid"] == pytest.approx(1.0)


def test_cosine():
    assert cosine(np.array([[2.0, 0.0]]), np.array([[1.0, 1.0]])) == pytest.approx([0.5**0.5])
    assert cosine(np.zeros((1, 2)), np.ones((1, 2))) == 0


def test_surprise_is_what_the_state_did_not_expect(batch):
    found = state_surprises(batch, RWKV7)
    keys, values = batch.keys[0], batch.values[0]
    for token in (0, 1, 7, 15):
        expected = slow_state(keys[:token], values[:token], RWKV7) @ (
            keys[token] / (np.linalg.norm(keys[token]) + 1e-8)
        )
        assert found[0, token] == pytest.approx(np.linalg.norm(values[token] - expected))


@pytest.mark.parametrize("kept", KEPT)
def test_a_cache_that_holds_every_pair_answers_exactly(batch, kept):
    states = 2 + batch.keys.shape[1] * PAIR_BYTES // STATE_BYTES
    assert cache_scores(batch, RWKV7, states, kept) == pytest.approx(1.0)


def test_a_cache_without_room_is_the_state_alone(batch):
    alone = read_scores(batch, [np.array([0])] * 2, RWKV7)["oracle"]
    assert cache_scores(batch, RWKV7, 1, "surprising") == pytest.approx(alone)


def test_which_pairs_a_small_cache_keeps_matters():
    long = stack([draw_recall(TorchDraws(seed), 6, 12) for seed in range(4)])
    surprising, latest = (
        cache_scores(long, RWKV7, 2, kept).mean(axis=0) for kept in ("surprising", "latest")
    )
    assert latest[-1] == pytest.approx(1.0)  # the last needle is among the last 15 pairs
    assert surprising.mean() > latest.mean() + 0.1


def test_wide_features_keep_padding_and_length(batch):
    features = wide_features(batch.keys, 16, 2.0)
    assert features.shape == (*batch.keys.shape[:2], 512)
    assert (features[1, batch.lengths[1] :] == 0).all() or (features[0, batch.lengths[0] :] == 0).all()
    squares = (features**2).sum(axis=-1)[0, : batch.lengths[0]]
    assert squares == pytest.approx(1.0, abs=0.2)


def test_a_wide_state_recalls_more_than_one_state(batch):
    alone = read_scores(batch, [np.array([0])] * 2, RWKV7)["oracle"]
    assert wide_scores(batch, RWKV7, 8, 2.0).mean() > alone.mean() + 0.05


# --- log-linear attention


@pytest.mark.parametrize("tokens", [1, 2, 5, 32, 37])
def test_log_linear_attention_is_the_same_token_by_token(tokens):
    draws = np.random.default_rng(tokens)
    queries, keys = draws.standard_normal((2, tokens, 2, 4))
    values = draws.standard_normal((tokens, 2, 3))
    decays = draws.uniform(0.8, 1.0, (tokens, 2))
    weights = draws.uniform(0.0, 1.0, (tokens, 2, levels(tokens)))
    whole = attend(queries, keys, values, decays, weights)
    state = LogLinearState(2, 4, 3, levels(tokens))
    steps = [state.step(*token) for token in zip(queries, keys, values, decays, weights, strict=True)]
    assert whole == pytest.approx(np.stack(steps))


def test_with_equal_weights_it_is_linear_attention():
    draws = np.random.default_rng(0)
    queries, keys, values = draws.standard_normal((3, 9, 1, 4))
    whole = attend(queries, keys, values, np.ones((9, 1)), np.ones((9, 1, levels(9))))
    products = np.tril(queries[:, 0] @ keys[:, 0].T)
    assert whole[:, 0] == pytest.approx(products @ values[:, 0])

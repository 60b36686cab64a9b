"""Block policies beside their slow definitions: sums of vectors, loops over all merges, all ways to cut."""

import itertools

import numpy as np
import pytest

from sttx_core.errors import UsageError
from sttx_core.memory import Contributions, adaptive, bound, fixed, optimal, oracle, shifted, surprises, ward
from sttx_core.memory.blocks import merge_calm


def stream(seed, lengths, width=8, noise=0.1):
    draws = np.random.default_rng(seed)
    themes = np.repeat(draws.standard_normal((len(lengths), width)), lengths, axis=0)
    return themes + noise * draws.standard_normal(themes.shape)


def slow_surprises(vectors, threshold):
    """Algorithm 1 as it is written: the open block is the sum of its vectors."""

    def scaled(x):
        return x / np.sqrt((x * x).mean() + 1e-6)

    starts, distances, total = [0], [0.0], vectors[0].copy()
    for token, vector in enumerate(vectors[1:], 1):
        old = scaled(total)
        distances.append(np.linalg.norm(scaled(vector) - old) / (np.linalg.norm(old) + 1e-6))
        if distances[-1] >= threshold:
            starts.append(token)
            total = vector.copy()
        else:
            total += vector
    return starts, distances


def slow_bound(vectors, starts):
    blocks = np.split(vectors, starts[1:])
    return sum(np.sqrt(len(one)) * np.sqrt(((one - one.mean(0)) ** 2).sum()) for one in blocks)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threshold", [0.2, 0.6, 1.2])
def test_surprises_are_those_of_the_definition(seed, threshold):
    vectors = stream(seed, [4, 1, 7, 2, 5], noise=0.3)
    starts, distances = surprises(Contributions.of_vectors(vectors), threshold)
    slow_starts, slow_distances = slow_surprises(vectors, threshold)
    assert starts.tolist() == slow_starts
    assert distances == pytest.approx(slow_distances, abs=1e-9)


def test_pairs_are_their_outer_products():
    keys, values = stream(1, [3, 4], 5), stream(2, [3, 4], 6)
    outer = (keys[:, :, None] * values[:, None, :]).reshape(len(keys), -1)
    pairs, vectors = Contributions.of_pairs(keys, values), Contributions.of_vectors(outer)
    assert pairs.width == vectors.width == 30
    assert pairs.products == pytest.approx(vectors.products)


def test_merging_takes_the_calmest_pair_and_the_leftmost_of_equals():
    starts, distances = np.array([0, 2, 4, 6]), np.array([0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    # mean distances of the pairs are 0.75, 1 and 1; then 5/6 and 1; the next one merges the left pair
    assert merge_calm(starts, distances, 3).tolist() == [0, 4, 6]
    assert merge_calm(starts, distances, 2).tolist() == [0, 6]
    level = np.ones(8)
    assert merge_calm(starts, level, 3).tolist() == [0, 4, 6]
    assert starts.tolist() == [0, 2, 4, 6]


def test_adaptive_blocks_are_the_themes_while_there_is_capacity():
    lengths = [5, 9, 3, 8]
    tokens = Contributions.of_vectors(stream(3, lengths, 32, 0.02))
    assert adaptive(tokens, 4).tolist() == [0, 5, 14, 17]
    assert adaptive(tokens, 9).tolist() == [0, 5, 14, 17]
    assert len(adaptive(tokens, 3)) == 3


def test_fixed_blocks():
    tokens = Contributions.of_vectors(stream(0, [10]))
    assert fixed(tokens, 3).tolist() == [0, 3, 6]
    assert fixed(tokens, 1).tolist() == [0]
    assert fixed(tokens, 25).tolist() == list(range(10))


def test_the_oracle_holds_each_needle_alone():
    assert oracle(9, [0, 4, 8]).tolist() == [0, 1, 4, 5, 8]
    assert oracle(6, [2, 3]).tolist() == [0, 2, 3, 4]


def test_shifted_starts_stay_inside_and_apart():
    assert shifted(np.array([0, 3, 6, 9]), [1, 0, -2], 12).tolist() == [0, 4, 6, 7]
    assert shifted(np.array([0, 1, 2]), [-2, -2], 9).tolist() == [0, 1, 2]
    assert shifted(np.array([0, 7, 8]), [2, 2], 9).tolist() == [0, 7, 8]


def test_the_bound_is_the_definition():
    vectors = stream(5, [4, 7, 2], 8, 0.5)
    tokens = Contributions.of_vectors(vectors)
    for starts in ([0], [0, 4], [0, 4, 11], [0, 1, 2, 9]):
        assert bound(tokens, np.array(starts)) == pytest.approx(slow_bound(vectors, starts))


def test_ward_takes_the_merge_that_raises_the_bound_least():
    vectors = stream(6, [3, 4, 2, 3], 6, 0.6)
    tokens = Contributions.of_vectors(vectors)
    starts = list(range(len(vectors)))
    while len(starts) > 1:
        starts = min(
            (starts[:i] + starts[i + 1 :] for i in range(1, len(starts))),
            key=lambda s: slow_bound(vectors, s),
        )
        assert ward(tokens, len(starts)).tolist() == starts


@pytest.mark.parametrize("seed", range(3))
def test_no_way_to_cut_is_better_than_the_optimum(seed):
    vectors = stream(seed, [2, 3, 1, 4], 6, 0.7)
    tokens = Contributions.of_vectors(vectors)
    for capacity in (1, 2, 3, 5):
        inner = itertools.combinations(range(1, len(vectors)), capacity - 1)
        least = min(slow_bound(vectors, [0, *cuts]) for cuts in inner)
        starts = optimal(tokens, capacity)
        assert len(starts) == capacity
        assert slow_bound(vectors, starts) == pytest.approx(least)
        assert bound(tokens, ward(tokens, capacity)) >= least - 1e-9


@pytest.mark.parametrize(
    ("products", "width", "message"),
    [
        (np.zeros((2, 3)), 4, "square"),
        (np.zeros((0, 0)), 4, "not empty"),
        (np.full((2, 2), np.nan), 4, "finite"),
        (np.eye(2), 0, "width must be at least 1"),
    ],
)
def test_contributions_that_cannot_be_are_refused(products, width, message):
    with pytest.raises(UsageError, match=message):
        Contributions(products=products, width=width)

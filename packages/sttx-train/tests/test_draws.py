"""Compiled draws against their slow definitions: samplers on whole rows, and numpy's generator."""

import numpy as np
import pytest

from sttx_core.errors import ModelError
from sttx_train.generate import Sampler, SamplingConfig, samplers
from sttx_train.generate.uniform import uniform, words

CONFIGS = [
    SamplingConfig(),
    SamplingConfig(temperature=0.8, top_p=0.95),
    SamplingConfig(temperature=3.0, top_p=0.99),
    SamplingConfig(temperature=1e-300, top_p=0.5),
    SamplingConfig(temperature=1e300),
    SamplingConfig(temperature=0),
    SamplingConfig(temperature=0, presence_penalty=2.0),
    SamplingConfig(top_k=1),
    SamplingConfig(top_k=7, temperature=1.4),
    SamplingConfig(top_k=10**9, top_p=0.7),
    SamplingConfig(top_k=40, top_p=0.9, min_p=0.02, temperature=0.7),
    SamplingConfig(min_p=0.1),
    SamplingConfig(min_p=1.0, top_p=0.9),
    SamplingConfig(top_p=1e-9),
    SamplingConfig(top_p=0.8, typical_p=0.9),
    SamplingConfig(top_p=0.9, repetition_penalty=1.3, presence_penalty=0.4, logit_bias=((0, 2.0),)),
]


def slow(sampler, order, row, allowed, stream):
    """Draw by the definition: the distribution of all tokens, summed in the order of the ids."""
    dice = np.random.default_rng([sampler.config.seed, stream, sampler.generated])
    distribution = sampler.distribution(row, allowed)
    if sampler.config.temperature == 0:
        return distribution.argmax()
    return order[samplers.draw(distribution[order], dice.random())]


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
@pytest.mark.parametrize("size", [1, 2, 40, 777])
def test_a_draw_is_that_of_the_definition(config, size):
    dice = np.random.default_rng(size)
    order = dice.permutation(size)
    never = dice.random(size) < 0.1
    never[order[0]] = False
    for stream in range(60):
        row = samplers.normalized(dice.normal(0, dice.choice([0.01, 1, 4, 30]), size))
        if stream % 2:  # ties, and tokens without a probability
            row = np.round(row, 1)
            row[dice.permutation(size)[: size // 4]] = -np.inf
            row[order[0]] = 0.0
        allowed = None if stream % 3 else dice.random(size) < 0.5
        if allowed is not None:
            allowed[order[0]] = True
        sampler = Sampler(config, never, stream=stream, order=order)
        for _ in range(5):
            token = sampler.choose(row, allowed)
            assert token == slow(sampler, order, row, allowed, stream)
            sampler.add(token)


def test_without_an_order_it_is_that_of_the_ids():
    row = samplers.normalized(np.random.default_rng(0).normal(0, 2, 50))
    for stream in range(50):
        sampler = Sampler(SamplingConfig(top_p=0.9), np.zeros(50, bool), stream=stream)
        assert sampler.choose(row) == slow(sampler, np.arange(50), row, None, stream)


def test_a_row_that_is_not_finite_is_refused():
    sampler = Sampler(SamplingConfig(top_p=0.9), np.zeros(9, bool))
    for value in (np.nan, -np.inf):
        with pytest.raises(ModelError, match="not finite: the weights are damaged"):
            sampler.choose(np.full(9, value))


def test_the_random_number_is_that_of_numpys_generator():
    dice = np.random.default_rng(1)
    seeds = [0, 1, 2**32 - 1, 2**32, 2**64 + 5, 7**80, *dice.integers(0, 2**62, 200).tolist()]
    for seed in seeds:
        stream, at = (int(number >> dice.integers(0, 31)) for number in dice.integers(0, 2**32, 2))
        assert uniform(words(seed, stream), at) == np.random.default_rng([seed, stream, at]).random()
    assert words().tolist() == [] and uniform(words(), 3) == np.random.default_rng([3]).random()

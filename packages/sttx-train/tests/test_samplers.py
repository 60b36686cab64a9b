"""Each sampler against a slow definition over a dict of probabilities, and the order in which they apply."""

import math

import numpy as np
import pytest

from sttx_core.errors import UsageError
from sttx_train.generate import Sampler, SamplingConfig, samplers

SIZE = 40


def draw_row(seed):
    """Draw a row of log-probabilities with ties, and with excluded tokens."""
    dice = np.random.default_rng(seed)
    logits = np.round(dice.normal(0, 2, SIZE), 1)
    logits[dice.integers(0, SIZE, 5)] = -np.inf
    return samplers.normalized(logits)


def as_dict(row):
    return {token: math.exp(value) for token, value in enumerate(row) if value > -math.inf}


def divided(weights):
    total = sum(weights.values())
    return {token: weight / total for token, weight in weights.items()}


def cut(ranked, p):
    """Return the tokens up to the one at which the sum reaches p."""
    kept, total = {}, 0.0
    for token, probability in ranked:
        kept[token] = probability
        total += probability
        if total >= p:
            break
    return divided(kept)


def likeliest(row):
    return sorted(as_dict(row).items(), key=lambda pair: (-pair[1], pair[0]))


def slow_typical(row, p):
    every = as_dict(row)
    entropy = sum(-q * math.log(q) for q in every.values())
    return cut(sorted(every.items(), key=lambda pair: (abs(-math.log(pair[1]) - entropy), pair[0])), p)


def slow_min_p(row, p):
    every = as_dict(row)
    return divided({token: q for token, q in every.items() if q >= p * max(every.values())})


SLOW = {
    "apply_temperature": lambda row, t: divided({token: q ** (1 / t) for token, q in as_dict(row).items()}),
    "keep_top_k": lambda row, k: divided(dict(likeliest(row)[:k])),
    "keep_top_p": lambda row, p: cut(likeliest(row), p),
    "keep_min_p": slow_min_p,
    "keep_typical": slow_typical,
    "add_bias": lambda row, bias: divided(
        {token: q * math.exp(dict(bias).get(token, 0)) for token, q in as_dict(row).items()}
    ),
}


def assert_same(row, expected):
    found = as_dict(row)
    assert found.keys() == expected.keys()
    for token, probability in expected.items():
        assert found[token] == pytest.approx(probability, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("apply_temperature", (0.3, 1.0, 2.5)),
        ("keep_top_k", (1, 3, 17, SIZE, 99)),
        ("keep_top_p", (1e-9, 0.31, 0.87, 0.999)),
        ("keep_min_p", (0.0, 0.051, 0.7, 1.0)),
        ("keep_typical", (1e-9, 0.31, 0.87)),
        ("add_bias", (((3, 2.0), (7, -100.0)), ((0, 50.0),))),
    ],
)
def test_a_sampler_does_what_its_definition_says(name, values, seed):
    row = draw_row(seed)
    before = row.copy()
    for value in values:
        assert_same(getattr(samplers, name)(row, value), SLOW[name](row, value))
    assert np.array_equal(row, before), "samplers are pure"


@pytest.mark.parametrize("seed", range(3))
def test_penalties_do_what_their_definitions_say(seed):
    row = draw_row(seed)
    text = np.random.default_rng(seed).integers(0, SIZE, 12).tolist()
    seen = np.isin(np.arange(SIZE), text)
    repeated = divided({t: q**1.3 if t in text else q for t, q in as_dict(row).items()})
    assert_same(samplers.penalize_repetition(row, seen, 1.3), repeated)
    counts = np.bincount(text, minlength=SIZE).astype(float)
    weights = {t: q * math.exp(-0.4 * (t in text) - 0.2 * text.count(t)) for t, q in as_dict(row).items()}
    found = samplers.penalize_counts(row, seen, counts, presence=0.4, frequency=0.2)
    assert_same(found, divided(weights))


def test_counts_decay_as_in_rwkv():
    """The definition is ChatRWKV's loop: all counts decay, then the new token gets one."""
    config = SamplingConfig(presence_penalty=0.4, frequency_penalty=0.3, penalty_decay=0.9)
    sampler, row, occurrence = Sampler(config, np.zeros(SIZE, bool)), draw_row(1), {}
    for token in [3, 5, 3, 3, 8, 5]:
        for known in occurrence:
            occurrence[known] *= 0.9
        occurrence[token] = 1 + occurrence.get(token, 0)
        sampler.add(token)
    weights = {
        t: q * math.exp(-(0.4 + 0.3 * occurrence[t]) if t in occurrence else 0)
        for t, q in as_dict(row).items()
    }
    assert_same(sampler.distribution(row), divided(weights))


def test_they_apply_in_the_documented_order():
    config = SamplingConfig(
        repetition_penalty=1.2,
        presence_penalty=0.5,
        frequency_penalty=0.25,
        logit_bias=((4, 1.5),),
        temperature=0.8,
        top_k=20,
        top_p=0.9,
        min_p=0.02,
        typical_p=0.8,
    )
    sampler, row = Sampler(config, np.zeros(SIZE, bool)), draw_row(2)
    for token in (1, 2, 2):
        sampler.add(token)
    seen = np.isin(np.arange(SIZE), [1, 2])
    counts = np.bincount([1, 2, 2], minlength=SIZE)
    expected = samplers.penalize_repetition(row, seen, 1.2)
    expected = samplers.penalize_counts(expected, seen, counts, presence=0.5, frequency=0.25)
    expected = samplers.add_bias(expected, ((4, 1.5),))
    for name, value in (("apply_temperature", 0.8), ("keep_top_k", 20), ("keep_top_p", 0.9)):
        expected = getattr(samplers, name)(expected, value)
    expected = samplers.keep_typical(samplers.keep_min_p(expected, 0.02), 0.8)
    assert np.array_equal(sampler.distribution(row), expected)


def test_by_default_the_probabilities_are_unchanged():
    row = draw_row(0)
    found = Sampler(SamplingConfig(), np.zeros(SIZE, bool)).distribution(row)
    assert np.allclose(np.exp(found), np.exp(row), rtol=1e-12)


def test_draws_follow_the_probabilities_and_the_seed():
    row = samplers.normalized(np.log([0.5, 0.3, 0.0001, 0.1999]))
    sampler = Sampler(SamplingConfig(seed=3), np.zeros(4, bool))
    drawn = []
    for _ in range(4000):
        assert sampler.choose(row) == sampler.choose(row), "choosing is pure"
        drawn.append(sampler.choose(row))
        sampler.add(drawn[-1])
    assert np.bincount(drawn, minlength=4) / 4000 == pytest.approx(np.exp(row), abs=0.03)
    streams = [Sampler(SamplingConfig(seed=3), np.zeros(4, bool), stream=n) for n in range(30)]
    assert {one.choose(row) for one in streams} > {0}, "each text has random numbers of its own"


def test_zero_temperature_takes_the_likeliest_and_the_first_of_equals():
    row = np.log([0.2, 0.3, 0.3, 0.2])
    assert Sampler(SamplingConfig(temperature=0), np.zeros(4, bool)).choose(row) == 1
    biased = Sampler(SamplingConfig(temperature=0, logit_bias=((3, 5.0),)), np.zeros(4, bool))
    assert biased.choose(row) == 3
    assert Sampler(SamplingConfig(temperature=1e-300), np.zeros(3, bool)).choose(np.log([0.2, 0.5, 0.3])) == 1


def test_some_tokens_are_never_chosen():
    never = np.array([True, False, True, False])
    sampler = Sampler(SamplingConfig(logit_bias=((0, 100.0),)), never)
    assert np.exp(sampler.distribution(np.log(np.full(4, 0.25)))) == pytest.approx([0, 0.5, 0, 0.5])
    with pytest.raises(UsageError, match="no token that can be generated"):
        Sampler(SamplingConfig(), np.ones(4, bool))
    with pytest.raises(UsageError, match=r"--logit-bias names token 4, but the vocabulary ends at 3"):
        Sampler(SamplingConfig(logit_bias=((4, 1.0),)), never)


def test_a_draw_never_returns_an_excluded_token():
    row = samplers.normalized(np.array([0.0, -1.0, -np.inf, -np.inf]))
    assert samplers.draw(row, np.nextafter(1.0, 0.0)) == 1


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("temperature", -0.1, "--temperature must be 0 or more, not -0.1"),
        ("temperature", math.nan, "--temperature must be 0 or more, not nan"),
        ("top_k", -1, "--top-k must be at least 0, not -1"),
        ("top_p", 0.0, "--top-p must be above 0, at most 1, not 0.0"),
        ("top_p", 1.5, "--top-p must be above 0, at most 1"),
        ("repetition_penalty", 1e308, "--repetition-penalty must be above 0, at most 1000, not 1e+308"),
        ("min_p", 1.1, "--min-p must be 0 or more, at most 1"),
        ("typical_p", 0.0, "--typical-p must be above 0"),
        ("repetition_penalty", 0.0, "--repetition-penalty must be above 0"),
        ("presence_penalty", -1e9, "--presence-penalty must be -1000 or more, at most 1000"),
        ("presence_penalty", math.inf, "--presence-penalty must be -1000 or more, at most 1000"),
        ("frequency_penalty", math.nan, "--frequency-penalty must be -1000 or more, at most 1000"),
        ("penalty_decay", 1.01, "--penalty-decay must be 0 or more, at most 1"),
        ("seed", -1, "--seed must be at least 0"),
        ("logit_bias", ((1, 1.0), (1, 2.0)), "--logit-bias must name each id once"),
        ("logit_bias", ((-1, 1.0),), "--logit-bias must name each id once, from 0 on"),
        ("logit_bias", ((1, math.inf),), "--logit-bias must add a finite number, not inf"),
    ],
)
def test_a_wrong_value_is_refused_by_its_option(option, value, message):
    with pytest.raises(UsageError) as refused:
        SamplingConfig(**{option: value})
    assert str(refused.value).startswith(message)

"""The 110 rows of the original, the random numbers and sums behind them, and the report of a run."""

import json
import re

import numpy as np
import pytest

from sttx_core.errors import UsageError
from sttx_core.memory import Contributions, ReproduceConfig, bound, fixed, render, reproduce
from sttx_core.memory.draws import TorchDraws
from sttx_core.memory.experiment import group_means, original_verdicts, smoke_difference
from sttx_core.memory.float32_sums import normalized, sum_all, sum_rows
from sttx_core.memory.intervals import estimate
from sttx_core.memory.sequences import draw_recall, draw_segments
from sttx_core.memory.study import StudyConfig, make_setting, tuned_decays
from sttx_core.memory.trials import (
    TOLERANCE,
    expected_trials,
    float32_bound,
    largest_difference,
    run_trials,
)


@pytest.fixture(scope="module")
def trials():
    return run_trials(range(5))


def test_all_110_rows_are_reproduced(trials):
    expected = expected_trials()
    assert len(expected) == len(trials) == 110
    for trial, row in zip(trials, expected, strict=True):
        assert list(trial) == list(row)
        assert trial == {
            name: pytest.approx(value, abs=TOLERANCE) if isinstance(value, float) else value
            for name, value in row.items()
        }
    assert largest_difference(trials, expected) <= TOLERANCE


def test_a_changed_row_is_noticed(trials):
    expected = expected_trials()
    changed = [dict(row) for row in expected]
    changed[40]["linear_state"] += 0.01
    assert largest_difference(trials, changed) == pytest.approx(0.01, abs=TOLERANCE)
    assert largest_difference(trials, expected[:-1]) <= TOLERANCE  # further trials are not compared
    assert largest_difference(trials[:-1], expected) == np.inf
    undefined = [row | {"linear_state": np.nan} if "linear_state" in row else row for row in trials]
    assert largest_difference(undefined, expected) == np.inf
    changed[40] = dict(expected[40]) | {"seed": 99}
    assert largest_difference(trials, changed) == np.inf
    changed[40] = dict(reversed(expected[40].items()))
    assert largest_difference(trials, changed) == np.inf


def test_what_the_original_concludes_holds_and_can_fail(trials):
    assert set(original_verdicts(trials).values()) == {True}
    worse = [dict(trial) for trial in trials]
    worse[0]["bound_dla"] = 1000.0
    assert list(original_verdicts(worse).values()) == [False, True, True, True, True]


def test_the_bound_in_float32_is_the_bound():
    vectors = draw_segments(TorchDraws(7), 10, 16)
    tokens = Contributions.of_vectors(vectors.astype(np.float64))
    starts = fixed(tokens, 6)
    assert float32_bound(vectors, starts) == pytest.approx(bound(tokens, starts), rel=1e-6)


def test_the_smoke_test_of_log_linear_attention():
    assert smoke_difference() < 1e-12


# --- the numbers of torch


@pytest.mark.parametrize("seed", [0, 1, 643, 2**32 - 1])
def test_draws_are_those_of_torch(seed):
    torch = pytest.importorskip("torch")
    generator, draws = torch.Generator().manual_seed(seed), TorchDraws(seed)
    for count in (1, 3, 150, 1):
        expected = torch.stack([torch.randn(32, generator=generator) for _ in range(count)])
        assert draws.normal(count) == pytest.approx(expected.numpy(), abs=1e-6)
        assert draws.integer(-2, 2) == int(torch.randint(-2, 3, (1,), generator=generator))


@pytest.mark.parametrize("rows", [1, 2, 7, 15, 16, 17, 64, 255, 256, 300])
def test_sums_are_those_of_torch(rows):
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(rows).standard_normal((rows, 32)).astype(np.float32)
    tensor = torch.from_numpy(values)
    assert sum_rows(values) == pytest.approx(tensor.sum(0).numpy(), rel=1e-5, abs=1e-5)
    assert sum_all(values) == pytest.approx(float(tensor.sum()), rel=1e-5, abs=1e-4)
    assert normalized(values)[0] == pytest.approx((tensor[0] / tensor[0].norm()).numpy(), abs=1e-7)


def test_normal_numbers_are_normal():
    numbers = TorchDraws(11).normal(2000)
    assert numbers.dtype == np.float32
    assert abs(numbers.mean()) < 0.02 and numbers.std() == pytest.approx(1.0, abs=0.02)
    assert np.abs(numbers).max() > 3.5


def test_a_sequence_is_its_seed():
    one, same, other = (draw_recall(TorchDraws(seed), 5, 6) for seed in (3, 3, 4))
    assert np.array_equal(one.keys, same.keys) and np.array_equal(one.values, same.values)
    assert not np.array_equal(one.keys[0], other.keys[0])
    assert one.needles[0] == 0 and (np.diff(one.needles) >= 5).all() and (np.diff(one.needles) <= 9).all()
    assert np.linalg.norm(one.keys, axis=1) == pytest.approx(1.0, abs=1e-6)
    theme = one.keys[one.needles[1] + 1 : one.needles[2]]
    assert (theme @ theme.T).min() > 0.9
    assert abs(theme @ one.keys[one.needles[1]]).max() < 0.9


# --- many seeds


def test_intervals_cover_the_mean_as_often_as_they_say():
    draws = np.random.default_rng(0)
    samples = [estimate(draws.standard_normal(5)) for _ in range(2000)]
    covered = np.mean([one["low"] <= 0 <= one["high"] for one in samples])
    assert covered == pytest.approx(0.95, abs=0.02)


def test_means_are_over_the_seeds_of_a_setting(trials):
    groups = group_means(trials)
    assert [len({group["metric"] for group in groups}), len(groups)] == [3, 4 + 3 + 15]
    values = [trial["bound_dla"] for trial in trials[:5]]
    assert groups[0]["means"]["bound_dla"]["mean"] == pytest.approx(np.mean(values))


def test_decays_are_chosen_for_every_policy_state_and_routing():
    decays = tuned_decays(make_setting(4, 5, 3, [1, 2]))
    assert len(decays) == 6 * 2 * 3
    assert decays["single", "rwkv7", "oracle"] == 1.0  # nothing to gain from forgetting
    assert set(decays.values()) <= {0.9, 0.95, 0.98, 0.99, 1.0}


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (ReproduceConfig, {"seeds": 4}, "seeds must be at least 5"),
        (StudyConfig, {"seeds": 1}, "seeds must be at least 2"),
        (StudyConfig, {"tuning_seeds": 0}, "tuning_seeds must be at least 1"),
    ],
)
def test_too_few_seeds_are_refused(config, options, message):
    with pytest.raises(UsageError, match=message):
        config(**options)


def test_a_run_on_the_seeds_of_the_original():
    steps = []
    result = reproduce(progress=steps.append)
    assert (result.summary["reproduced"], result.summary["seeds"], result.summary["study"]) == (True, 5, None)
    assert len(result.trials) == 110 and steps == [1]
    assert json.loads(json.dumps(result.summary, allow_nan=False)) == result.summary
    report = render(result.summary, plot="picture.svg")
    assert "**Reproduced.** 110 rows" in report and "](picture.svg)" in report
    assert "## What the original leaves out" not in report
    failed = render(result.summary | {"reproduced": False, "largest_difference": None})
    assert "**Not reproduced.** 110 rows of the original were computed again: names or order differ" in failed


def test_a_run_on_more_seeds_has_every_table():
    config, steps = ReproduceConfig(seeds=6), []
    result = reproduce(config, steps.append)
    assert sum(steps) == config.steps
    assert len(result.trials) == 6 * 22 and result.summary["reproduced"]
    study = result.summary["study"]
    assert {name: len(rows) > 0 for name, rows in study.items()} == dict.fromkeys(
        ("bounds", "reads", "noise", "budgets", "differences"), True
    )
    optimum = {
        (row["segments"], row["K"]): row["bound"]["mean"]
        for row in study["bounds"]
        if row["policy"] == "optimal"
    }
    assert all(row["bound"]["mean"] >= optimum[row["segments"], row["K"]] - 1e-9 for row in study["bounds"])
    exact = [row for row in study["noise"] if row["noise"] == 0 and row["policy"] == "oracle"]
    assert exact and all(row["cosine"]["mean"] == pytest.approx(1.0) for row in exact)
    assert all(row["used_bytes"] <= 1.04 * row["bytes"] for row in study["budgets"])
    tables = re.split(r"\n###? ", render(result.summary))
    assert len(tables) == 12
    assert all(table.count("\n| ") > 4 for table in tables if "| --- |" in table)

"""Runs the whole experiment: the rows of the original compared, and with more seeds what it leaves out.

Knows nothing of files: `report` puts the result into words, the command line saves it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sttx_core.errors import UsageError
from sttx_core.memory.intervals import estimate
from sttx_core.memory.log_linear import LogLinearState, attend, levels
from sttx_core.memory.study import STEPS, StudyConfig, run_study
from sttx_core.memory.trials import SEEDS, TOLERANCE, Trial, expected_trials, largest_difference, run_trials

Summary = dict[str, Any]

_TUNING_SHARE = 4  # one tuning sequence for so many that are measured
_SMOKE = (32, 2, 16)  # tokens, heads, values of a key
_GROUPED = ("metric", "segments", "needles", "meanlen", "filler", "K", "policy")


@dataclass(frozen=True, kw_only=True)
class ReproduceConfig:
    """How much is run.

    Attributes:
        seeds: of every setting, from 0. The first five are compared with the original; with more, what the
            original leaves out is measured too.
    """

    seeds: int = SEEDS

    def __post_init__(self) -> None:
        if self.seeds < SEEDS:
            raise UsageError(f"seeds must be at least {SEEDS}, which are compared, not {self.seeds!r}")

    @property
    def steps(self) -> int:
        """Return how often progress is reported."""
        return 1 + (STEPS if self.seeds > SEEDS else 0)


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """What came out.

    Attributes:
        trials: first the 110 that are compared, in the order of the original, then those of further seeds.
        summary: `reproduced`, how far off, the means with intervals, and the tables of the study, as JSON.
    """

    trials: list[Trial]
    summary: Summary


def reproduce(
    config: ReproduceConfig | None = None, progress: Callable[[int], None] = lambda steps: None
) -> Reproduction:
    """Run the experiment.

    Args:
        config: how much is run.
        progress: is called with 1 after each of `config.steps` steps.
    """
    config = config or ReproduceConfig()
    trials = run_trials(range(SEEDS))
    expected = expected_trials()
    difference = largest_difference(trials, expected)
    further = run_trials(range(SEEDS, config.seeds)) if config.seeds > SEEDS else []
    progress(1)
    verdicts, smoke = original_verdicts(trials), smoke_difference()
    study, tuning = None, 0
    if further:
        tuning = max(config.seeds // _TUNING_SHARE, 1)
        study = run_study(StudyConfig(seeds=config.seeds, tuning_seeds=tuning), progress)
    reproduced = difference <= TOLERANCE and smoke <= TOLERANCE and all(verdicts.values())
    summary = {
        "reproduced": reproduced,
        "rows": len(expected),
        "largest_difference": difference if math.isfinite(difference) else None,
        "tolerance": TOLERANCE,
        "smoke_difference": smoke,
        "verdicts": verdicts,
        "seeds": config.seeds,
        "tuning_seeds": tuning,
        "groups": group_means([*trials, *further]),
        "study": study,
    }
    return Reproduction(trials=[*trials, *further], summary=summary)


def smoke_difference() -> float:
    """Return how far log-linear attention, all at once, is from the same token by token: the smoke test."""
    tokens, heads, width = _SMOKE
    draws = np.random.default_rng(0)
    queries, keys, values = draws.standard_normal((3, tokens, heads, width))
    decays, weights = np.ones((tokens, heads)), np.ones((tokens, heads, levels(tokens)))
    whole = attend(queries, keys, values, decays, weights)
    state = LogLinearState(heads, width, width, levels(tokens))
    steps = [state.step(*token) for token in zip(queries, keys, values, decays, weights, strict=True)]
    return float(np.abs(whole - np.stack(steps)).max())


def original_verdicts(trials: Sequence[Trial]) -> dict[str, bool]:
    """Return whether the means over seeds say in every setting what the original concluded."""
    groups = group_means(trials)

    def in_all(metric: str, higher: str, lower: str) -> bool:
        rows = [group["means"] for group in groups if group["metric"] == metric]
        return bool(rows) and all(row[higher]["mean"] > row[lower]["mean"] for row in rows)

    return {
        "adaptive blocks have a lower bound than fixed ones": in_all("bound", "bound_fixed", "bound_dla"),
        "adaptive linear blocks recall more than fixed ones": in_all("recall", "dla_linear", "fixed"),
        "they recall more than the delta rule": in_all("recall", "dla_linear", "delta_rule"),
        "they recall more than one RWKV-7 state": in_all("recall", "dla_linear", "rwkv7_single"),
        "many RWKV-7 states recall more than one": in_all("recall", "rwkv7_multi", "rwkv7_single"),
    }


def group_means(trials: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the mean of every column over the seeds of each setting and policy."""
    groups: dict[tuple[tuple[str, Any], ...], list[Mapping[str, Any]]] = {}
    for trial in trials:
        names = tuple((name, trial[name]) for name in _GROUPED if name in trial)
        groups.setdefault(names, []).append(trial)
    result = []
    for names, members in groups.items():
        columns = [name for name in members[0] if name not in _GROUPED and name != "seed"]
        means = {name: estimate(np.array([member[name] for member in members])) for name in columns}
        result.append({**dict(names), "means": means})
    return result

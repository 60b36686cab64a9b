"""The experiment as it should have been: many seeds with intervals, equal bytes, tuned decay, no oracle.

Decays are chosen on sequences of their own, which no table uses. Knows nothing of files.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from sttx_core.errors import UsageError
from sttx_core.memory.blocks import Array, BlockPolicy, Contributions, Starts, adaptive, fixed, oracle
from sttx_core.memory.bounds import bound, optimal, ward
from sttx_core.memory.draws import TorchDraws
from sttx_core.memory.intervals import estimate
from sttx_core.memory.routing import ROUTINGS, Routing, read_scores
from sttx_core.memory.same_bytes import (
    CENTROID_BYTES,
    EXACT_BYTES,
    KEPT,
    STATE_BYTES,
    cache_scores,
    wide_scores,
)
from sttx_core.memory.sequences import Batch, draw_recall, draw_segments, stack
from sttx_core.memory.states import LINEAR, RWKV7, StateUpdate
from sttx_core.memory.trials import BOUND_SETTINGS, STATE_SETTINGS

Row = dict[str, Any]
Key: TypeAlias = tuple[str, str, Routing]
"""Names of a policy, a state and a routing."""
Decays: TypeAlias = dict[Key, float]
Scores: TypeAlias = dict[Key, Array]

POLICIES: dict[str, BlockPolicy] = {"fixed": fixed, "dla": adaptive, "ward": ward, "optimal": optimal}
UPDATES = {"linear": LINEAR, "rwkv7": RWKV7}
DECAYS = (0.9, 0.95, 0.98, 0.99, 1.0)
NOISES = (0.0, 0.25, 0.5, 1.0)
"""Length of the noise that is added to a query, whose own length is 1."""
SHARPNESSES = (1.0, 2.0, 3.0)
SWEEP = (2, 4, 8, 12, 16)
"""States whose bytes may be used, in the last setting."""

_TUNING_SEED = 1_000_000
_CHUNK = 50  # sequences of wide keys that are in memory at once


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """How many sequences are read.

    Attributes:
        seeds: sequences of each setting, at least 2.
        tuning_seeds: sequences of each setting that decays are chosen on.
    """

    seeds: int = 200
    tuning_seeds: int = 50

    def __post_init__(self) -> None:
        for name, least in (("seeds", 2), ("tuning_seeds", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} must be at least {least}, not {getattr(self, name)!r}")


@dataclass(kw_only=True)
class Setting:
    """Sequences of one setting, and where each policy cuts them.

    Attributes:
        needles: of each sequence.
        filler: tokens after each needle, on average.
        capacity: blocks that a policy may use.
        batch: the sequences.
        contributions: of each sequence.
        cuts: starts of the blocks of each sequence, by policy.
    """

    needles: int
    filler: int
    capacity: int
    batch: Batch
    contributions: list[Contributions]
    cuts: dict[str, list[Starts]] = field(default_factory=dict)

    @property
    def head(self) -> Row:
        """Return what names the setting in a row."""
        return {"needles": self.needles, "filler": self.filler, "K": self.capacity}


def make_setting(needles: int, filler: int, capacity: int, seeds: Sequence[int]) -> Setting:
    """Return the sequences of generator seeds, cut by every policy, by the oracle, and not at all."""
    sequences = [draw_recall(TorchDraws(seed), needles, filler) for seed in seeds]
    tokens = [Contributions.of_pairs(one.keys, one.values) for one in sequences]
    cuts = {name: [policy(one, capacity) for one in tokens] for name, policy in POLICIES.items()}
    cuts["oracle"] = [oracle(len(one.keys), one.needles.tolist()) for one in sequences]
    cuts["single"] = [np.array([0])] * len(sequences)
    return Setting(
        needles=needles,
        filler=filler,
        capacity=capacity,
        batch=stack(sequences),
        contributions=tokens,
        cuts=cuts,
    )


def run_study(config: StudyConfig, progress: Callable[[int], None] = lambda steps: None) -> Row:
    """Return every table: `bounds`, `reads`, `noise`, `budgets`, `differences`.

    Args:
        config: how many sequences.
        progress: is called with 1 after each of `STEPS` steps.
    """
    tables: Row = {"bounds": [], "reads": [], "noise": [], "budgets": [], "differences": []}
    for segments, mean_length, capacity in BOUND_SETTINGS:
        _add_bounds(tables, (segments, mean_length, capacity), range(config.seeds))
        progress(1)
    for needles, filler, capacity in STATE_SETTINGS:
        tuning = make_setting(
            needles, filler, capacity, [_TUNING_SEED + seed for seed in range(config.tuning_seeds)]
        )
        tested = make_setting(
            needles, filler, capacity, [500 + 31 * seed + needles for seed in range(config.seeds)]
        )
        progress(1)
        decays = tuned_decays(tuning)
        progress(1)
        scores = _add_reads(tables, tested, decays)
        _add_differences(tables, tested, scores)
        progress(1)
        _add_noise(tables, tested, decays)
        progress(1)
        budgets = SWEEP if (needles, filler, capacity) == STATE_SETTINGS[-1] else (capacity,)
        _add_budgets(tables, tested, tuning, decays, budgets)
        progress(1)
    return tables


STEPS = len(BOUND_SETTINGS) + 5 * len(STATE_SETTINGS)


def tuned_decays(tuning: Setting) -> Decays:
    """Return the decay with the best mean score, the larger of two equals, by policy, state and routing."""
    best: dict[Key, tuple[float, float]] = {}
    for policy, cuts in tuning.cuts.items():
        for state, update in UPDATES.items():
            for decay in DECAYS:
                scores = read_scores(tuning.batch, cuts, update.with_decay(decay), routings=ROUTINGS)
                for routing, score in scores.items():
                    key: Key = (policy, state, routing)
                    best[key] = max(best.get(key, (-np.inf, 0.0)), (round(float(score.mean()), 6), decay))
    return {key: decay for key, (_, decay) in best.items()}


def _add_bounds(tables: Row, setting: tuple[int, int, int], seeds: Sequence[int]) -> None:
    segments, mean_length, capacity = setting
    values: dict[str, list[float]] = {name: [] for name in POLICIES}
    for seed in seeds:
        vectors = draw_segments(TorchDraws(seed), segments, mean_length)
        tokens = Contributions.of_vectors(vectors.astype(np.float64))
        for name, policy in POLICIES.items():
            values[name].append(bound(tokens, policy(tokens, capacity)))
    arrays = {name: np.array(column) for name, column in values.items()}
    head = {"segments": segments, "meanlen": mean_length, "K": capacity}
    for name, column in arrays.items():
        above = None if name == "optimal" else estimate(column / arrays["optimal"] - 1)
        tables["bounds"].append({**head, "policy": name, "bound": estimate(column), "above_optimal": above})


def _add_reads(tables: Row, setting: Setting, decays: Decays) -> Scores:
    """Add a row for each policy, state and routing; return the score of each sequence, by the same."""
    kept: Scores = {}
    for policy, cuts in setting.cuts.items():
        for state, update in UPDATES.items():
            for decay in sorted({update.decay, *(decays[policy, state, routing] for routing in ROUTINGS)}):
                scores = read_scores(setting.batch, cuts, update.with_decay(decay), routings=ROUTINGS)
                for routing, score in scores.items():
                    tuned = decay == decays[policy, state, routing]
                    if tuned:
                        kept[policy, state, routing] = score.mean(axis=1)
                    if tuned or decay == update.decay:
                        names = {"policy": policy, "state": state, "routing": routing, "decay": decay}
                        row = {
                            **setting.head,
                            **names,
                            "tuned": tuned,
                            "cosine": estimate(score.mean(axis=1)),
                        }
                        tables["reads"].append(row)
    return kept


def _add_differences(tables: Row, setting: Setting, scores: Scores) -> None:
    """Add differences in the score of the same sequences, each with its tuned decay."""
    for better, other in (("dla", "fixed"), ("ward", "dla"), ("ward", "fixed"), ("optimal", "ward")):
        for state in UPDATES:
            for routing in ROUTINGS:
                names = {"policy": better, "minus": other, "state": state, "routing": routing}
                difference = scores[better, state, routing] - scores[other, state, routing]
                tables["differences"].append({**setting.head, **names, "cosine": estimate(difference)})


def _add_noise(tables: Row, setting: Setting, decays: Decays) -> None:
    """Add the scores of noisy queries to RWKV-7 states, each policy with the decay for its read norm."""
    batch = setting.batch
    noise = np.random.default_rng(setting.needles).standard_normal(batch.queries.shape)
    noise /= np.sqrt((noise * noise).sum(axis=-1, keepdims=True))
    for policy, cuts in setting.cuts.items():
        update = RWKV7.with_decay(decays[policy, "rwkv7", "norm"])
        for length in NOISES:
            queries = batch.queries + length * noise
            queries /= np.sqrt((queries * queries).sum(axis=-1, keepdims=True))
            scores = read_scores(batch, cuts, update, queries=queries, routings=ROUTINGS)
            for routing, score in scores.items():
                row = {**setting.head, "policy": policy, "noise": length, "routing": routing}
                tables["noise"].append({**row, "cosine": estimate(score.mean(axis=1))})


def _add_budgets(
    tables: Row,
    setting: Setting,
    tuning: Setting,
    decays: Decays,
    budgets: Sequence[int],
) -> None:
    """Add what RWKV-7 states give for the same bytes: blocks, one wide state, one state and a cache."""
    single = RWKV7.with_decay(decays["single", "rwkv7", "oracle"])
    whole = float(setting.batch.lengths.mean()) * EXACT_BYTES
    for states in budgets:
        head = {**setting.head, "states": states, "bytes": states * STATE_BYTES, "sequence_bytes": whole}

        def add(way: str, used: float, scores: Array, head: Row = head) -> None:
            row = {**head, "way": way, "used_bytes": used, "cosine": estimate(scores.mean(axis=1))}
            tables["budgets"].append(row)

        for name in ("fixed", "dla", "ward"):
            policy = POLICIES[name]
            cuts = [policy(one, states) for one in setting.contributions]
            update = RWKV7.with_decay(decays[name, "rwkv7", "norm"])
            scores = read_scores(setting.batch, cuts, update, routings=("norm", "centroid"))
            blocks = float(np.mean([len(cut) for cut in cuts]))
            add(f"{name}, norm", blocks * STATE_BYTES, scores["norm"])
            add(f"{name}, centroid", blocks * (STATE_BYTES + CENTROID_BYTES), scores["centroid"])
        add("wide state", states * STATE_BYTES, _tuned_wide_scores(setting.batch, tuning.batch, states))
        for kept in KEPT:
            scores = cache_scores(setting.batch, single, states, kept)
            add(f"state and {kept} pairs", states * STATE_BYTES, scores)


def _tuned_wide_scores(batch: Batch, tuning: Batch, states: int) -> Array:
    """Return the scores of one wide state whose decay and kernel were chosen on the tuning sequences."""

    def update(decay: float) -> StateUpdate:
        return RWKV7.with_decay(decay)

    few = _part(tuning, 0, _CHUNK)
    choices = [(decay, sharpness) for decay in (RWKV7.decay, 1.0) for sharpness in SHARPNESSES]
    _, decay, sharpness = max(
        (float(wide_scores(few, update(decay), states, sharpness).mean()), decay, sharpness)
        for decay, sharpness in choices
    )
    parts = [_part(batch, first, first + _CHUNK) for first in range(0, len(batch.keys), _CHUNK)]
    return np.concatenate([wide_scores(part, update(decay), states, sharpness) for part in parts])


def _part(batch: Batch, first: int, end: int) -> Batch:
    arrays = {name: getattr(batch, name)[first:end] for name in ("keys", "values", "lengths", "needles")}
    return Batch(**arrays)

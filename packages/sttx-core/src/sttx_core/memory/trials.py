"""The four groups of the original experiment on blocks and states, trial by trial, and what they should give.

Seeds 0 to 4 of three groups make the 110 rows of `expected.jsonl`, which were computed with torch. The fourth
group, a smoke test of log-linear attention, has no rows; `experiment.smoke_difference` runs it.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np
import orjson

from sttx_core.memory.blocks import (
    Contributions,
    Starts,
    adaptive,
    fixed,
    merge_calm,
    oracle,
    shifted,
    surprises,
)
from sttx_core.memory.draws import Floats, TorchDraws
from sttx_core.memory.float32_sums import sum_all, sum_rows
from sttx_core.memory.routing import read_scores
from sttx_core.memory.sequences import Recall, draw_recall, draw_segments, stack
from sttx_core.memory.states import DELTA, LINEAR, RWKV7

Trial = dict[str, Any]

TOLERANCE = 1e-6
SEEDS = 5
"""Seeds of the original, from 0."""

BOUND_SETTINGS = ((6, 24, 8), (10, 16, 12), (16, 12, 8), (24, 10, 10))
"""Segments, their mean length, capacity."""
RECALL_SETTINGS = ((6, 8, 16), (10, 6, 24), (8, 10, 20))
"""Needles, fillers after each, capacity."""
STATE_SETTINGS = ((8, 12, 16), (12, 10, 16), (16, 8, 12))
"""Needles, fillers after each, capacity."""
POLICIES = ("oracle", "dla", "fixed", "noisy_dla", "low_k_dla")
_SHIFT = 2  # tokens by which the noisy policy moves a start, at most


def expected_trials() -> list[Trial]:
    """Return the 110 trials as the original computed them."""
    text = resources.files("sttx_core.memory").joinpath("expected.jsonl").read_bytes()
    return [orjson.loads(line) for line in text.splitlines()]


def run_trials(seeds: Sequence[int]) -> list[Trial]:
    """Return the trials of the given seeds: groups, then settings, policies and seeds."""
    return [*_bound_trials(seeds), *_recall_trials(seeds), *_state_trials(seeds)]


def largest_difference(trials: Iterable[Mapping[str, Any]], expected: Sequence[Trial]) -> float:
    """Return how far any number of the trials is from the expected one.

    Infinite if names or order differ, or if a number is nan. Further trials are not compared.
    """
    worst, count = 0.0, 0
    for trial, wanted in zip(trials, expected, strict=False):
        count += 1
        if list(trial) != list(wanted):
            return float("inf")
        for name, value in wanted.items():
            if isinstance(value, float):
                away = abs(trial[name] - value)
                worst = max(worst, float("inf") if math.isnan(away) else away)
            elif trial[name] != value:
                return float("inf")
    return worst if count == len(expected) else float("inf")


def _bound_trials(seeds: Sequence[int]) -> Iterator[Trial]:
    for segments, mean_length, capacity in BOUND_SETTINGS:
        for seed in seeds:
            vectors = draw_segments(TorchDraws(seed), segments, mean_length)
            tokens = Contributions.of_vectors(vectors.astype(np.float64))
            blocks = adaptive(tokens, capacity)
            yield {
                "metric": "bound",
                "segments": segments,
                "meanlen": mean_length,
                "K": capacity,
                "seed": seed,
                "bound_fixed": float32_bound(vectors, fixed(tokens, len(blocks))),
                "bound_dla": float32_bound(vectors, blocks),
            }


def _recall_trials(seeds: Sequence[int]) -> Iterator[Trial]:
    for needles, filler, capacity in RECALL_SETTINGS:
        sequences = [draw_recall(TorchDraws(100 + seed), needles, filler) for seed in seeds]
        tokens = [contributions_of(one) for one in sequences]
        batch = stack(sequences)
        blocks = [adaptive(one, capacity) for one in tokens]
        equal = [fixed(one, len(cut)) for one, cut in zip(tokens, blocks, strict=True)]
        whole = [np.array([0])] * len(seeds)
        columns = {
            "fixed": read_scores(batch, equal, LINEAR)["oracle"],
            "dla_linear": read_scores(batch, blocks, LINEAR)["oracle"],
            "delta_rule": read_scores(batch, whole, DELTA)["oracle"],
            "rwkv7_single": read_scores(batch, whole, RWKV7)["oracle"],
            "rwkv7_multi": read_scores(batch, blocks, RWKV7)["oracle"],
        }
        head = {"metric": "recall", "needles": needles, "filler": filler, "K": capacity}
        for index, seed in enumerate(seeds):
            yield {**head, "seed": seed, **{name: float(row[index].mean()) for name, row in columns.items()}}


def _state_trials(seeds: Sequence[int]) -> Iterator[Trial]:
    for needles, filler, capacity in STATE_SETTINGS:
        sequences, cuts = [], []
        for seed in seeds:
            draws = TorchDraws(500 + 31 * seed + needles)
            sequences.append(draw_recall(draws, needles, filler))
            cuts.append(policy_blocks(sequences[-1], capacity, draws))
        batch = stack(sequences)
        head = {"metric": "state_only", "needles": needles, "filler": filler, "K": capacity}
        for policy in POLICIES:
            starts = [cut[policy] for cut in cuts]
            linear, rwkv7 = (read_scores(batch, starts, update)["oracle"] for update in (LINEAR, RWKV7))
            for index, seed in enumerate(seeds):
                scores = {
                    "linear_state": float(linear[index].mean()),
                    "rwkv7_state": float(rwkv7[index].mean()),
                }
                yield {**head, "policy": policy, "seed": seed, **scores}


def float32_bound(vectors: Floats, starts: Starts) -> float:
    """Return the bound B of blocks of vectors (T, 32), computed in float32 as the original did.

    `bound` has more digits: 1e-7 of B is what float32 leaves open.
    """
    total = 0.0
    for first, end in zip(starts, [*starts[1:], len(vectors)], strict=True):
        block = vectors[first:end]
        away = (block - sum_rows(block) / np.float32(len(block))).astype(np.float32, copy=False)
        total += float(end - first) ** 0.5 * float(sum_all(away * away)) ** 0.5
    return total


def contributions_of(sequence: Recall) -> Contributions:
    """Return what the tokens of a sequence add to a state."""
    return Contributions.of_pairs(sequence.keys, sequence.values)


def policy_blocks(sequence: Recall, capacity: int, draws: TorchDraws) -> dict[str, Starts]:
    """Return the blocks of every policy of the original; the noisy one draws its shifts from `draws`."""
    tokens = contributions_of(sequence)
    first, distances = surprises(tokens)
    blocks = merge_calm(first, distances, capacity)
    shifts = [draws.integer(-_SHIFT, _SHIFT) for _ in blocks[1:]]
    return {
        "oracle": oracle(len(tokens), sequence.needles.tolist()),
        "dla": blocks,
        "fixed": fixed(tokens, len(blocks)),
        "noisy_dla": shifted(blocks, shifts, len(tokens)),
        "low_k_dla": merge_calm(first, distances, max(capacity // 2, 1)),
    }

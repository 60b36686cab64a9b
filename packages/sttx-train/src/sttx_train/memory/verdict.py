"""What an evaluation says: differences between arms, paired by session, with intervals, and one sentence.

All differences are in bits per byte; below 0 means that the first arm costs less. The 95% intervals are
Student's over sessions, each of which is first averaged over the runs (seeds) and counts the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sttx_core.memory.intervals import Estimate, estimate

EFFECTS = {
    "memory": ("correct", "zero"),
    "content": ("correct", "donor"),
    "order": ("correct", "shuffled"),
    "layers": ("correct", "permuted"),
    "beside training": ("correct", "low-rank"),
    "training": ("low-rank", "zero"),
    "beside the prefix": ("correct", "prefix"),
    "beside bm25": ("correct", "bm25"),
}
"""Each effect: the arm, and the arm that it is compared with."""


@dataclass(frozen=True, kw_only=True)
class MemoryReport:
    """The result of evaluations of one memory, trained with one or several seeds.

    Attributes:
        arms: bits per byte of all sessions of each arm, averaged over runs.
        by_run: the same of each run.
        effects: each effect of `EFFECTS` whose arms were priced.
        sessions: how many sessions.
        runs: how many runs.
        verdict: one sentence.
    """

    arms: dict[str, float]
    by_run: list[dict[str, float]]
    effects: dict[str, Estimate]
    sessions: int
    runs: int
    verdict: str

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def memory_report(runs: Sequence[Mapping[str, Sequence[float]]], sizes: Sequence[float]) -> MemoryReport:
    """Return what the evaluations of some runs say.

    Args:
        runs: for each run, what each arm paid: bits of each session.
        sizes: scored bytes of each session, above 0; at least two sessions.
    """
    bytes_S = np.asarray(sizes, np.float64)
    arms = [arm for arm in runs[0] if all(arm in run for run in runs)]
    bits = {arm: np.array([run[arm] for run in runs]) for arm in arms}  # [run, session]
    effects = {
        name: estimate(((bits[one] - bits[other]) / bytes_S).mean(axis=0))
        for name, (one, other) in EFFECTS.items()
        if one in bits and other in bits
    }
    totals = {arm: values.sum(axis=1) / bytes_S.sum() for arm, values in bits.items()}
    return MemoryReport(
        arms={arm: float(values.mean()) for arm, values in totals.items()},
        by_run=[{arm: float(values[at]) for arm, values in totals.items()} for at in range(len(runs))],
        effects=effects,
        sessions=len(bytes_S),
        runs=len(runs),
        verdict=verdict(effects),
    )


def verdict(effects: Mapping[str, Estimate]) -> str:
    """Return what the effects say, in one sentence.

    >>> nothing = Estimate(mean=0.001, low=-0.002, high=0.004)
    >>> verdict({"content": nothing, "memory": Estimate(mean=-0.05, low=-0.06, high=-0.04)})
    "The content of the state has no effect: with another session's state the text costs 0.001 bits per byte \
less (95% interval from 0.004 less to 0.002 more), although a state saves 0.050 compared with none."
    """
    content, memory = effects["content"], effects["memory"]
    other = f"with another session's state the text costs {_than(-content['mean'])} (95% interval "
    other += f"from {_side(-content['high'])} to {_side(-content['low'])})"
    if content["low"] <= 0 <= content["high"]:
        first = f"The content of the state has no effect: {other}"
        joined = ", although a state saves" if memory["high"] < 0 else ", and a state"
    elif content["high"] < 0:
        first = f"The content of the state helps: {other}"
        joined = ", and a state saves" if memory["high"] < 0 else ", but a state"
    else:
        first = f"The content of the state hurts: {other}"
        joined = ", although a state saves" if memory["high"] < 0 else ", and a state"
    if memory["high"] < 0:
        return f"{first}{joined} {-memory['mean']:.3f} compared with none."
    if memory["low"] > 0:
        return f"{first}{joined} costs {memory['mean']:.3f} more than none."
    return f"{first}{joined} costs as much as none ({_side(memory['low'])} to {_side(memory['high'])})."


def _than(value: float) -> str:
    return f"{abs(value):.3f} bits per byte {'more' if value >= 0 else 'less'}"


def _side(value: float) -> str:
    return f"{abs(value):.3f} {'more' if value >= 0 else 'less'}"

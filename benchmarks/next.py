"""Measures how well the next tool calls and shell commands are foreseen, next to habits that need no model.

    uv run python benchmarks/next.py FOLDER [--cache FILE] [--model MODEL] [--most-bytes N] [--json]

Sessions (each *.jsonl file under FOLDER, the start of its text) are read in the order of their names; before
some of the calls, drawn from a seed, every way says what comes next, and knows all calls before that, of this
session and of those before it. "rank" is that of what came in a way's list; intervals are the middle 95% of
bootstrap samples of the sessions. A blend learns its weights from one event after another, always after it
was asked. With --cache the predictor's part is kept, and read again the next time.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

from next_events import kept_events

from sttx_core.traces import Meta, ToolUse
from sttx_train.suggest import LENGTHS, NEW, PREDICTOR, WAYS, Blend, CallHabits, Found, begin, next_texts
from sttx_train.suggest.guesses import COMMAND_WEIGHTS, TOOL_WEIGHTS

RESAMPLES = 2000
SURE = (0.3, 0.5, 0.7)
UNKNOWN = 0.02
"""Share of its probability that a way loses to what it does not list, and of that the share of each thing."""
BACKOFF = {
    "frequency": ("session", "all"),
    "frequency, all": ("all",),
    "recency": ("recency", "all"),
    "bigram": ("session after", "all after", "session", "all"),
    "bigram, all": ("all after", "all"),
}
"""The cheap ways: each asks the next one for what the one before does not know."""

BLENDS = {"blend of habits": (*WAYS, NEW), "blend": (PREDICTOR, *WAYS, NEW)}
"""Blends that learn their weights from one event after another."""

SHIPPED, ALONE = "predictor on", "predictor off"
"""The blends of `sttx next`, whose weights stay."""

Distribution = Mapping[str, float]


class Outcome(NamedTuple):
    """How one way did at one event: rank of what came (0: not listed), the best guess, and what it was worth.

    Attributes:
        session: of the event.
        rank: place of what came in the list, from 1; 0 if it is not there.
        p: probability of the first in the list; 0 for an empty list.
        given: probability of what came; if it is not in the list, a share of what the list leaves.
    """

    session: str
    rank: int
    p: float
    given: float


def outcome(session: str, said: Distribution, came: str) -> Outcome:
    """Rank what came in a distribution; of equal ones the later in the alphabet counts as before."""
    p = said.get(came) or max(1 - sum(said.values()), 0.0) * UNKNOWN
    rank = (
        1 + sum(q > said[came] or (q == said[came] and text > came) for text, q in said.items())
        if came in said
        else 0
    )
    return Outcome(session, rank, max(said.values(), default=0.0), p)


def backed_off(said: Mapping[str, Distribution], ways: Sequence[str]) -> dict[str, float]:
    """Return what the first way says, with a tenth of the probability for the next one, and so on."""
    known = [said[way] for way in ways if said[way]]
    result: dict[str, float] = {}
    for depth, distribution in enumerate(known):
        share = 0.1**depth * (0.9 if depth < len(known) - 1 else 1.0)
        for item, p in distribution.items():
            result[item] = result.get(item, 0.0) + share * p
    return result


class Contest:
    """All ways to foresee one kind of item, and how each did.

    Args:
        shipped: the weights that `sttx next` mixes with.
    """

    def __init__(self, shipped: Mapping[str, float]) -> None:
        self.blends = {name: Blend(dict.fromkeys(ways, 1.0)) for name, ways in BLENDS.items()}
        self.shipped = Blend(shipped)
        self.outcomes: dict[str, list[Outcome]] = {}

    def ask(self, said: Mapping[str, Distribution]) -> dict[str, dict[str, float]]:
        """Return the distribution of each way. Pure."""
        every = {name: backed_off(said, ways) for name, ways in BACKOFF.items()}
        every[PREDICTOR] = dict(said[PREDICTOR])
        every |= {name: blend.mix(said) for name, blend in self.blends.items()}
        every[ALONE] = self.shipped.mix({way: said[way] for way in WAYS})
        return every | {SHIPPED: self.shipped.mix(said)}

    def meet(self, session: str, said: Mapping[str, Distribution], came: str) -> None:
        """Rank what came by each way; then let the blends learn."""
        for name, distribution in self.ask(said).items():
            self.outcomes.setdefault(name, []).append(outcome(session, distribution, came))
        for blend in self.blends.values():
            blend.learn(said, came)


def contests(rows: Iterable[dict[str, Any]]) -> tuple[dict[str, Contest], dict[str, list[tuple]]]:
    """Return how each way did: for tools, and for the first words of commands.

    Returns:
        The contests; and for "calls", of each place, how probable a call was and whether one came; for
        "commands", of each call, probability and success of the best guess of one word.
    """
    kinds = {"tools": Contest(TOOL_WEIGHTS)}
    kinds |= {f"{length} words": Contest(COMMAND_WEIGHTS) for length in LENGTHS}
    other: dict[str, list[tuple]] = {"calls": [], "commands": []}
    habits, session, calls, done = CallHabits(), "", [], 0
    for row in rows:
        if "calls" in row:
            _add(habits, calls[done:])
            session, calls, done = row["session"], row["calls"], 0
            continue
        other["calls"].append((session, row["call"], row["number"] is not None))
        if row["number"] is None:
            continue
        _add(habits, calls[done : row["number"]])
        done = row["number"]
        _meet(kinds, other, habits, row, *calls[done])
    return kinds, other


def _add(habits: CallHabits, calls: Iterable[Sequence[Any]]) -> None:
    for name, command, document in calls:
        value = {} if command is None else {"command": command}
        habits.add(ToolUse(meta=Meta(session=document), name=name, input=value))


def _meet(
    kinds: dict[str, Contest],
    other: dict[str, list[tuple]],
    habits: CallHabits,
    row: Mapping[str, Any],
    name: str,
    command: str | None,
    document: str,
) -> None:
    session = row["session"]
    found = Found(call=row["call"])
    found.names.update(dict(row["names"]))
    found.texts.update({(length, text): p for length, text, p in row["texts"]})
    names = {PREDICTOR: {each: p / found.call for each, p in row["names"]}, **habits.next_tools(document)}
    texts = next_texts(found, habits, document)
    mixed = kinds["tools"].shipped.mix(names)
    shell = sum(p for each, p in mixed.items() if each in habits.openings)
    firsts = kinds["1 words"].shipped.mix(texts[1])
    best = max(firsts, key=lambda text: firsts[text], default="")
    right = command is not None and begin(command, 1) == best
    other["commands"].append((session, shell * firsts.get(best, 0.0), right))
    kinds["tools"].meet(session, names, name)
    if command is not None:
        for length in LENGTHS:
            kinds[f"{length} words"].meet(session, texts[length], begin(command, length))


MEASURES: dict[str, Callable[[Outcome], float]] = {
    "top-1": lambda one: float(one.rank == 1),
    "top-5": lambda one: float(1 <= one.rank <= 5),
    "MRR": lambda one: 1 / one.rank if one.rank else 0.0,
    "bits": lambda one: -math.log2((1 - UNKNOWN) * one.given + UNKNOWN**2),
}


def interval(values: np.ndarray, sessions: Sequence[str]) -> tuple[float, float, float]:
    """Return the mean of events, and its 95% bootstrap interval over sessions."""
    numbers = np.unique(np.array(sessions), return_inverse=True)[1]
    sums, sizes = np.bincount(numbers, values), np.bincount(numbers)
    count = len(sizes)
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    low, high = np.percentile((drawn @ sums) / np.maximum(drawn @ sizes, 1), (2.5, 97.5))
    return float(values.mean()), float(low), float(high)


def summary(contest: Contest, against: str = ALONE) -> dict[str, Any]:
    """Return the measures of every way, and what the blend and the predictor gain over another way."""
    result: dict[str, Any] = {"events": 0, "ways": {}, "differences": {}, "sure": {}, "weights": {}}
    sessions = [one.session for one in contest.outcomes.get(PREDICTOR, ())]
    if not sessions:
        return result
    values = {
        way: {name: np.array([measure(one) for one in outcomes]) for name, measure in MEASURES.items()}
        for way, outcomes in contest.outcomes.items()
    }
    result["events"], result["sessions"] = len(sessions), len(set(sessions))
    for way, outcomes in contest.outcomes.items():
        result["ways"][way] = {name: interval(each, sessions) for name, each in values[way].items()}
        pairs = [(one.session, one.p, one.rank == 1) for one in outcomes]
        result["sure"][way] = sure(pairs)
    for way in (PREDICTOR, "blend", SHIPPED):
        result["differences"][f"{way} - {against}"] = {
            name: interval(each - values[against][name], sessions) for name, each in values[way].items()
        }
    result["weights"] = {name: blend.weights for name, blend in contest.blends.items()}
    return result


def sure(pairs: Sequence[tuple[str, float, bool]]) -> list[dict[str, float]]:
    """Return for each threshold how often a guess is shown, how often it is right, and how sure it was."""
    p, right = np.array([pair[1] for pair in pairs]), np.array([pair[2] for pair in pairs])
    rows = []
    for least in SURE:
        shown = p >= least
        if shown.any():
            rows.append(
                {
                    "least": least,
                    "shown": float(shown.mean()),
                    "right": float(right[shown].mean()),
                    "p": float(p[shown].mean()),
                }
            )
    return rows


def report(title: str, result: Mapping[str, Any]) -> None:
    """Print one contest."""
    print(f"\n{title}: {result['events']} events of {result.get('sessions', 0)} sessions")
    for way, measures in result["ways"].items():
        cells = "  ".join(f"{name} {m:.3f} ({a:.3f} to {b:.3f})" for name, (m, a, b) in measures.items())
        print(f"  {way:16} {cells}")
    for pair, measures in result["differences"].items():
        cells = "  ".join(f"{name} {m:+.3f} ({a:+.3f} to {b:+.3f})" for name, (m, a, b) in measures.items())
        print(f"  {pair}: {cells}")
    for way in (PREDICTOR, *BLENDS, ALONE, SHIPPED):
        for row in result["sure"].get(way, ()):
            print(
                f"  {way} at {row['least']}: shown {row['shown']:.2f}, right {row['right']:.2f}, "
                f"sure by {row['p']:.2f}"
            )
    for name, weights in result["weights"].items():
        print(f"  weights of {name}: {', '.join(f'{way} {w:.2f}' for way, w in weights.items())}")


def main() -> None:
    """Measure all sessions of a folder and print the results."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--cache", type=Path, help="a file to keep what the predictor says")
    arguments.add_argument("--model", default=None, help="by default goose-mini")
    arguments.add_argument("--most-bytes", type=int, default=16_000, help="of each session's text")
    arguments.add_argument("--per-session", type=int, default=8, help="calls that are foreseen")
    arguments.add_argument("--asked", type=int, default=48, help="places that a search asks")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--json", action="store_true")
    options = vars(arguments.parse_args())
    as_json = options.pop("json")
    torch.set_num_threads(1)
    rows = kept_events(options.pop("cache"), options.pop("folder"), **options)
    kinds, other = contests(rows)
    results = {title: summary(contest) for title, contest in kinds.items()}
    extra = {name: sure(pairs) for name, pairs in other.items()}
    if as_json:
        print(json.dumps(results | extra))
        return
    for title, result in results.items():
        report(title, result)
    for name, rows in extra.items():
        print(f"\n{name}: " + "; ".join(str(row) for row in rows))


if __name__ == "__main__":
    main()

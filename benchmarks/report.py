"""Measures whether `sttx report` finds facts: how many of those planted are read in a reading budget.

    uv run python benchmarks/report.py FOLDER --half choose|test [--seeds 0,1] [--cache FOLDER]

Into the first part of each session under FOLDER, facts and decoys are planted (`planted_facts.py`), and the
session is priced alone. Its text is cut into passages, as on the page. Every way of ranking gets the same
passages and reads them from the top until the budget, a share of the session's bytes, is spent; a fact is
found when the passage that says it is read. Facts that nothing uses later are not counted. Decoys that are
read are counted too: fewer are better. Intervals are 95% bootstrap intervals over sessions. Prints JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from planted_facts import CHOOSE, TEST, Planted, plant

from sttx_ccsniff import open_source
from sttx_core.render import render, render_parts
from sttx_core.traces import Trace
from sttx_train import LoadedModel, Predictor, load_model
from sttx_train.evaluate import ScoredTrace, score_traces
from sttx_train.evaluate.intervals import interval
from sttx_train.predict import Prices
from sttx_train.report import Report
from sttx_train.report.passages import DAMPING, Passage
from sttx_train.report.reuse import News, Reuse
from sttx_train.report.words import priced_text, words_of

BUDGETS = (0.02, 0.05, 0.1, 0.2)
FACTS, DECOYS = 8, 8
LEAST_BYTES = 8_000


@dataclass(frozen=True)
class Priced:
    """A session with what was planted into it."""

    name: str
    scored: list[ScoredTrace]
    planted: list[Planted]


Ranker = Callable[[Priced, list[Passage]], Sequence[float]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--half", choices=["choose", "test"], required=True, help="which kinds of facts")
    parser.add_argument("--seeds", default="0", help="of the planting, with commas between")
    parser.add_argument("--most-bytes", type=int, default=25_000, help="of each session's text")
    parser.add_argument("--cache", type=Path, default=None, help="folder to keep prices in")
    parser.add_argument("--model", default=None, help="by default goose-mini")
    args = parser.parse_args()
    torch.set_num_threads(1)
    loaded = load_model(args.model)
    found: dict[str, list[dict[str, list[float]]]] = {name: [] for name in RANKERS}
    for path in sorted(args.folder.rglob("*.jsonl")):
        traces = first_part(path, args.most_bytes)
        if sum(len(render(trace)) for trace in traces) < LEAST_BYTES:
            continue
        costs: dict[str, dict[str, list[float]]] = {name: {} for name in RANKERS}
        for seed in map(int, args.seeds.split(",")):
            priced = price(f"{path.parent.name}/{path.stem}", traces, args.half, seed, loaded, args.cache)
            for name, cost in read(priced, loaded).items():
                for kind, each in cost.items():
                    costs[name].setdefault(kind, []).extend(each)
        for name in RANKERS:
            found[name].append(costs[name])
        print(path.name, file=sys.stderr, flush=True)
    print(json.dumps(summarize(found, args), indent=1))


def first_part(path: Path, most: int) -> list[Trace]:
    """Return the first traces with text of a session file; what is longer than the rest is left out."""
    traces, size = [], 0
    with open_source(str(path), follow=False, say=lambda message: None) as source:
        for trace in source:
            length = len(render(trace))
            if length and size + length <= most:
                traces.append(trace)
                size += length
            elif size > most // 2:
                break
    return traces


def price(
    name: str, traces: Sequence[Trace], half: str, seed: int, loaded: LoadedModel, cache: Path | None
) -> Priced:
    """Plant facts into a session and price it with an empty memory, or take the prices from the cache."""
    kinds = {"choose": CHOOSE, "test": TEST}[half]
    changed, planted = plant(traces, kinds, facts=FACTS, decoys=DECOYS, seed=seed)
    text = "".join(render(trace) for trace in changed)
    key = hashlib.sha256(f"{loaded.sha256}{text}".encode()).hexdigest()[:24]
    file = None if cache is None else cache / f"{key}.npz"
    if file is not None and file.exists():
        with np.load(file) as saved:
            return Priced(name, list(_joined(changed, loaded, saved["bits"], saved["frozen"])), planted)
    scored = list(score_traces(Predictor(loaded), changed))
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        bits, frozen = (
            np.concatenate([getattr(one.prices, kind) for one in scored]).astype(np.float32)
            for kind in ("bits", "frozen")
        )
        np.savez_compressed(file, bits=bits, frozen=frozen)
    return Priced(name, scored, planted)


def _joined(
    traces: Sequence[Trace], loaded: LoadedModel, bits: np.ndarray, frozen: np.ndarray
) -> Iterator[ScoredTrace]:
    at = 0
    for trace in traces:
        ids, paid = [], []
        for part in render_parts(trace):
            encoded = loaded.tokenizer.encode(part.text)
            ids += encoded
            paid += [part.paid] * len(encoded)
        own = slice(at, at + len(ids))
        at += len(ids)
        prices = Prices(bits=bits[own], network=frozen[own], frozen=frozen[own])
        size = len(render(trace).encode())
        yield ScoredTrace(trace=trace, ids=tuple(ids), paid=np.array(paid), prices=prices, bytes=size)


def read(priced: Priced, loaded: LoadedModel) -> dict[str, dict[str, list[float]]]:
    """Return, for each way of ranking and each kind of planted line, the share that is read to find each."""
    report = Report(loaded.tokenizer)
    for one in priced.scored:
        report.add(one)
    (session,) = report.finish().sessions.values()
    passages = session.shown(10**9)
    whole = sum(passage.bytes for passage in passages)
    result = {}
    for name, ranker in RANKERS.items():
        scores = np.asarray(ranker(priced, passages), dtype=np.float64)
        order = np.argsort(-scores, kind="stable").tolist()
        shares = np.cumsum([len(passages[at].data) for at in order]) / whole
        costs: dict[str, list[float]] = {}
        for each in priced.planted:
            kind = each.kind if each.kind.startswith("decoy") else "fact"
            if kind != "fact" or each.uses:
                costs.setdefault(kind, []).append(_cost(each, priced, passages, order, shares))
        result[name] = costs
    return result


def _cost(
    each: Planted, priced: Priced, passages: Sequence[Passage], order: Sequence[int], shares: np.ndarray
) -> float:
    """Return the share of the text that is read up to the passage that says something."""
    said = each.said.encode()
    start = render(priced.scored[each.trace].trace).encode().find(said)
    assert start >= 0, each
    for place, at in enumerate(order):
        passage = passages[at]
        inside = passage.start < start + len(said) and start < passage.start + len(passage.data)
        if passage.trace.number == each.trace and inside:
            return float(shares[place])
    return 1.0  # it is in a folded part


def summarize(found: dict[str, list[dict[str, list[float]]]], args: argparse.Namespace) -> dict[str, object]:
    """Return the share of each kind that is found in each budget, and its interval."""
    sessions = next(iter(found.values()))
    counts = {kind: sum(len(each.get(kind, [])) for each in sessions) for kind in KINDS}
    report: dict[str, object] = {
        "folder": args.folder.name,
        "half": args.half,
        "seeds": args.seeds,
        "sessions": len(sessions),
        "planted": counts,
        "budgets": BUDGETS,
    }
    best = {name: _found(each, "fact") for name, each in found.items()}
    sizes = np.array([len(each.get("fact", [])) for each in sessions])
    report["ways"] = {
        name: {
            kind: [
                _share(_found(each, kind)[at], np.array([len(one.get(kind, [])) for one in each]))
                for at in range(len(BUDGETS))
            ]
            for kind in KINDS
        }
        | {
            "ours_less_this": [
                _share(best["report"][at] - best[name][at], sizes) for at in range(len(BUDGETS))
            ]
        }
        for name, each in found.items()
    }
    return report


def _found(sessions: Sequence[dict[str, list[float]]], kind: str) -> list[np.ndarray]:
    """Return for each budget how many of a kind are found in each session."""
    return [
        np.array([sum(cost <= budget for cost in each.get(kind, [])) for each in sessions])
        for budget in BUDGETS
    ]


def _share(found_S: np.ndarray, of_S: np.ndarray) -> list[float]:
    low, high = interval(found_S, of_S) or [math.nan, math.nan]
    return [round(value, 3) for value in (float(found_S.sum() / max(of_S.sum(), 1)), low, high)]


KINDS = ("fact", "decoy", "decoy again")


def for_length(scores: Sequence[float], passages: Sequence[Passage]) -> list[float]:
    """Return scores for the length of the passages."""
    return [score / (len(passage.data) + DAMPING) for score, passage in zip(scores, passages, strict=True)]


def tf_idf(priced: Priced, passages: list[Passage]) -> list[float]:
    """Rank by the rare words in a passage, in relation to the other passages."""
    words = [[name.lower() for name in _words(passage).names] for passage in passages]
    df = Counter(name for each in words for name in set(each))
    sums = [
        sum(count * math.log(len(passages) / df[name]) for name, count in Counter(each).items())
        for each in words
    ]
    return for_length(sums, passages)


def _words(passage: Passage):
    return words_of(priced_text([0], np.zeros(1), np.zeros(1), [passage.data]))


def words_again(priced: Priced, passages: list[Passage]) -> list[float]:
    """Rank as the report does, but by how rare words are in the session instead of by any model's prices."""
    texts = [render(one.trace).encode() for one in priced.scored]
    words = [words_of(priced_text([0], np.zeros(1), np.zeros(1), [text])) for text in texts]
    counts = Counter(name for each in words for name in each.names)
    rarity = [np.array([math.log2(counts.total() / counts[name]) for name in each.names]) for each in words]
    news = [News(replace(each, paid_W=rare)) for each, rare in zip(words, rarity, strict=True)]
    reuse = Reuse()
    for number, (each, rare) in enumerate(zip(words, rarity, strict=True)):
        for use in reuse.read("", number, replace(each, paid_W=np.zeros(len(rare)), frozen_W=rare)):
            news[use.place.text].add(use)
    sums = []
    for passage in passages:
        ends = words[passage.trace.number].ends_W
        first, last = np.searchsorted(ends, [passage.start, passage.start + len(passage.data)], side="right")
        sums.append(float(news[passage.trace.number].bits_W[first:last].sum()))
    return for_length(sums, passages)


RANKERS: dict[str, Ranker] = {
    "report": lambda priced, passages: [passage.rank for passage in passages],
    "words used again": words_again,
    "TF-IDF": tf_idf,
    "frozen surprise": lambda priced, passages: for_length([each.frozen for each in passages], passages),
    "paid surprise": lambda priced, passages: for_length([each.paid for each in passages], passages),
    "length": lambda priced, passages: [each.trace.bytes for each in passages],
    "recency": lambda priced, passages: list(range(len(passages))),
    "random": lambda priced, passages: np.random.default_rng(0).random(len(passages)).tolist(),
}
"""Ways to rank passages; the first is `sttx report`."""


if __name__ == "__main__":
    main()

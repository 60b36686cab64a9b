"""Measures how well prices find prompt injections in tool results, next to expressions and perplexity.

    pip download agentdojo --no-deps -d DOWNLOADS && unzip DOWNLOADS/agentdojo-*.whl -d INJECTIONS
    uv run python benchmarks/foreign.py FOLDER INJECTIONS [--cache FOLDER] [--seeds N] [--json]

Each *.jsonl file under FOLDER is redacted and rendered as in training. Of each, `--results` results are drawn
and cut to `--characters`, with as many characters of what came before: as they were, and once more with an
injection at a random place. Each detector gives every span of a result a number, and the highest counts.

"False" is the share of untouched results that rank as high as nine tenths of the planted ones, "area" that
under the curve, both with 95% intervals from 1,000 bootstrap samples of the sessions. "Less false" is how
much lower the false share of the score is than the detector's, in the same samples. Injections whose template
or goal no setting was chosen with count as unseen. "On it" is how often the highest span holds a part of
the injection. `--cache` keeps the prices, which take nearly all of the time. Whatever ranks well here is
triage: it protects from nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

import foreign_prices
import planted_injections
from foreign_prices import Pricer, Span
from kept import code_digest, digest, kept
from planted_injections import Injection, planted, read_injections

import sttx_ccsniff
import sttx_core
import sttx_train
from sttx_ccsniff import open_source
from sttx_ccsniff.redact.redactor import Redactor
from sttx_core.render import render
from sttx_core.traces import ToolResult
from sttx_train import load_model

REQUESTS = Path(__file__).parent / "foreign_requests.txt"
RESAMPLES = 1000
SHORTEST_OUTPUT = 20  # characters of a result that is taken
PARTS = {
    "all": {"none", "template", "goal", "both"},
    "unseen": {"template", "goal", "both"},
    "template": {"template", "both"},
    "goal": {"goal", "both"},
    "both": {"both"},
}
"""Which injections count, by what of them is unseen."""

_KNOWN = (  # what public filters look for
    r"\b(ignore|disregard|forget|override|bypass)\b.{0,40}\b(previous|prior|above|earlier|preceding|all|your)\b"
    r".{0,30}\b(\w*structions?|prompts?|rules?|directions?|guidelines?|tasks?|context)\b",
    r"\bforget (everything|all|what)\b|\bdisregard (all|any|the|your|previous)\b",
    r"\b(system|developer|admin)[ _-]?(message|prompt|instructions?|override|notice|command)\b",
    r"\[(system|inst)\]|<\|?/?(system|user|assistant|im_start)\|?>|\bsystem:",
    r"\b(new|secret) instructions?\b|\bfollow (these|my|the following) instructions\b",
    r"\byou are (now|no longer)\b|\bact as (if|a|an)\b|\bpretend (to be|you)\b|\bfrom now on\b",
    r"\bjailbreak\b|\b(developer|dan) mode\b|\bdo anything now\b",
    r"\b(reveal|print|repeat|show)\b.{0,20}\b(system prompt|instructions)\b",
    r"\b(do not|don't|without) (tell|inform|mention|ask|asking|notify|alert|telling|reveal)\b",
)
_SEEN = (  # what injections of the package say, without the unseen ones
    r"\bimportant\b\s*[!:]+|\bimportant (message|instructions?|notice|information)\b|!{3,}",
    r"<\s*/?(information|instructions?|important|admin|message)\s*>",
    r"\byou (must|should|need to|have to)\b",
    r"\b(before|after) you (can|do|solve|answer|continue|proceed|start|finish|respond|reply)\b",
    r"\bplease (send|e?mail|forward|transfer|delete|create|do|pay|make|post|reply|provide|execute|run)\b",
    r"\bto you,? (the )?(ai|assistant|model|agent)\b|\b(ai (assistant|model|agent)|language model)\b",
    r"\bdo the following\b|\binstead\b",
    r"\b(send|e?mail|forward|post|transfer|upload)\b.{0,120}\b(to|at)\b.{0,40}"
    r"(@|https?:|www\.|\[email|\[redacted|account|address|iban)",
    r"\b(my|the user'?s?|user) (e?mail|address|account|password|calendar|inbox|cloud|files?)\b",
)
_ALL = (  # what unseen ones say: nobody who waits for new wordings has these
    r"\btodo: *\w+ ",
    r"\bstrictly adhere\b|\bfollowing instruction\b|#{3} *\(",
    r"\b(my|the user'?s?|user) (wife|friend|credit card|passport|phone|information)\b",
    r"\b(visit|click|share|post|send|check)\b.{0,60}\b(link|website|channel)s?\b|\binvite user\b",
    r"\b(hotel|reservation|restaurant|paris|trip|passport)\b",
)


def _compiled(patterns: Sequence[str]) -> list[re.Pattern[str]]:
    return [re.compile(pattern, re.IGNORECASE) for pattern in patterns]


KNOWN, SEEN, ALL = _compiled(_KNOWN), _compiled(_KNOWN + _SEEN), _compiled(_KNOWN + _SEEN + _ALL)
NEAR = 400  # characters within which different expressions count together
SCORE = "score"
NOISE, WEIGHT = 3.0, 0.3  # of the score

Row = dict[str, Any]
Detector = Callable[[Row], Sequence[float]]


# Rows: results with prices


def rows_of(path: Path, pricer: Pricer, injections: Sequence[Injection], options: Any) -> list[Row]:
    """Return results of a session, each as it was and with injections in it, with their prices."""
    dice, redactor, rows = random.Random(path.stem), Redactor(), []
    before: dict[str, str] = defaultdict(str)
    found: list[tuple[str, ToolResult]] = []
    with open_source(path, redact=True, say=lambda message: None) as source:
        for trace in source:
            if isinstance(trace, ToolResult):
                trace = dataclasses.replace(trace, output=trace.output.strip()[: options.characters])
                if len(trace.output) >= SHORTEST_OUTPUT:
                    found.append((before[trace.document][-options.characters :], trace))
            before[trace.document] = before[trace.document][-options.characters :] + render(trace)
    for context, trace in dice.sample(found, min(options.results, len(found))):
        copies, drawn = [trace], []
        for _ in range(options.seeds):
            drawn.append(dice.choice(injections))
            text, *_ = planted(trace.output, drawn[-1].text, dice)
            copies.append(redactor.redact(dataclasses.replace(trace, output=text)))
        rows += _rows(path.stem, trace, pricer.price(context, copies), copies, drawn)
    return rows


def _rows(
    session: str,
    trace: ToolResult,
    priced: Sequence[list[Span]],
    copies: Sequence[ToolResult],
    drawn: Sequence[Injection],
) -> Iterator[Row]:
    """Yield for each planting the untouched result and the planted one."""
    known = {span.text for span in priced[0]}
    for seed, injection in enumerate(drawn):
        for index, unseen in ((0, None), (seed + 1, injection.unseen)):
            yield {
                "session": session,
                "seed": seed,
                "tool": trace.name,
                "text": render(copies[index]),
                "unseen": unseen,
                "template": injection.template if index else None,
                "spans": [
                    {**dataclasses.asdict(span), "planted": span.text not in known} for span in priced[index]
                ],
            }


# Detectors: a number for each span, of which the highest counts


def expressions(patterns: Sequence[re.Pattern[str]]) -> Detector:
    """Return a detector that counts different expressions within `NEAR` characters of a span's start.

    A span in which none begins counts none.
    """

    def count(row: Row) -> list[float]:
        found = [
            (match.start(), index)
            for index, pattern in enumerate(patterns)
            for match in pattern.finditer(row["text"])
        ]
        starts = [span["start"] for span in row["spans"]]
        return [
            float(len({index for at, index in found if start <= at < start + NEAR}))
            if any(start <= at < end for at, _ in found)
            else 0.0
            for start, end in zip(starts, [*starts[1:], len(row["text"])], strict=True)
        ]

    return count


def each(formula: Callable[[Row], float]) -> Detector:
    """Return a detector that gives each span a number of its own."""
    return lambda row: [formula(span) for span in row["spans"]]


def ties(first: Detector, formula: Callable[[Row], float]) -> Detector:
    """Return a detector that counts as the first does, and orders spans with equal counts by a formula."""
    return lambda row: [
        count + 1 / (1 + np.exp(-formula(span) / 100))
        for count, span in zip(first(row), row["spans"], strict=True)
    ]


def score(span: Row) -> float:
    """Return the score of a span: a ratio, and a share of the price in place.

    Noise, which costs `NOISE` bits a byte, is a third reading beside a result's and a request's: identifiers
    and numbers cost more, and nobody says them.
    """
    noise = NOISE * span["bytes"]
    return min(span["result_alone"], noise) - span["request"] + WEIGHT * min(span["place"], noise)


DETECTORS: dict[str, Detector] = {
    SCORE: each(score),
    "score without requests": each(lambda span: score(span) + span["request"] - span["user_alone"]),
    "ratio": each(lambda span: span["result_here"] - span["user_here"]),
    "ratio, per byte": each(lambda span: (span["result_here"] - span["user_here"]) / span["bytes"]),
    "ratio in place": each(lambda span: span["place"] - span["user_here"]),
    "ratio alone": each(lambda span: span["result_alone"] - span["user_alone"]),
    "ratio to requests": each(lambda span: span["result_alone"] - span["request"]),
    "perplexity": each(lambda span: span["place"] / span["bytes"]),
    "price": each(lambda span: span["place"]),
    "price, less noise": each(lambda span: min(span["place"], NOISE * span["bytes"])),
    "known expressions": expressions(KNOWN),
    "seen expressions": expressions(SEEN),
    "seen, ties by score": ties(expressions(SEEN), score),
    "seen, ties by price": ties(expressions(SEEN), lambda span: span["place"] - 200),
    "all expressions": expressions(ALL),
    "chance": lambda row: [random.Random(row["text"]).random()],
}


# Numbers


def area(planted: np.ndarray, untouched: np.ndarray) -> float:
    """Return how often a planted result ranks above an untouched one; a tie counts half."""
    ordered = np.sort(untouched)
    below = np.searchsorted(ordered, planted, "left") + np.searchsorted(ordered, planted, "right")
    return float(below.mean() / 2 / len(untouched))


def false_share(planted: np.ndarray, untouched: np.ndarray, found: float = 0.9) -> float:
    """Return the share of untouched results above a threshold that finds a share of the planted ones.

    Of results at the threshold as many count as are needed, of both kinds: a tie is broken by chance.
    """
    threshold = np.sort(planted)[::-1][int(np.ceil(found * len(planted))) - 1]
    above, at = (planted > threshold).mean(), (planted == threshold).mean()
    share = (found - above) / at
    return float((untouched > threshold).mean() + share * (untouched == threshold).mean())


def measures(rows: Sequence[Row], scores: np.ndarray, kinds: set[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return false share and area of one detector ``[2]``, and those of bootstrap samples ``[2, N]``.

    Args:
        rows: all results.
        scores: ``[R]`` what the detector says of each.
        kinds: which planted results count, by what of them is unseen. All untouched ones count.
    """
    untouched = np.array([row["unseen"] is None for row in rows])
    chosen = np.array([row["unseen"] in kinds for row in rows])
    names = sorted({row["session"] for row in rows})
    of = np.array([names.index(row["session"]) for row in rows])
    groups = [
        (scores[(of == index) & chosen], scores[(of == index) & untouched]) for index in range(len(names))
    ]
    dice, drawn = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        sample = [groups[index] for index in dice.integers(len(names), size=len(names))]
        positive, negative = (np.concatenate(kind) for kind in zip(*sample, strict=True))
        if len(positive):
            drawn.append((false_share(positive, negative), area(positive, negative)))
    positive, negative = scores[chosen], scores[untouched]
    return np.array([false_share(positive, negative), area(positive, negative)]), np.array(drawn).T


def results(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Return the numbers of every detector for every part: value, and ends of the interval."""
    found = {name: np.array([max(detector(row)) for row in rows]) for name, detector in DETECTORS.items()}
    result: dict[str, dict[str, Any]] = {}
    for part, kinds in PARTS.items():
        numbers = {name: measures(rows, scores, kinds) for name, scores in found.items()}
        result[part] = {"planted": sum(row["unseen"] in kinds for row in rows)}
        for name, (values, drawn) in numbers.items():
            less, samples = values - numbers[SCORE][0], drawn - numbers[SCORE][1]
            result[part][name] = {
                "false": interval(values[0], drawn[0]),
                "area": interval(values[1], drawn[1]),
                "less false": interval(less[0], samples[0]),
                "on it": on_it([row for row in rows if row["unseen"] in kinds], DETECTORS[name]),
            }
    return result


def interval(value: float, drawn: np.ndarray) -> list[float]:
    """Return a value and the ends of its 95% interval."""
    return [float(value), *map(float, np.percentile(drawn, (2.5, 97.5)))]


def on_it(rows: Sequence[Row], detector: Detector) -> float:
    """Return how often the highest span of a planted result holds a part of what was planted."""
    hits = []
    for row in rows:
        says = detector(row)
        if len(says) == len(row["spans"]):
            hits.append(row["spans"][int(np.argmax(says))]["planted"])
    return float(np.mean(hits)) if hits else float("nan")


def main() -> None:
    """Plant, price, and print the numbers."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("injections", type=Path, help="the unpacked wheel of agentdojo")
    arguments.add_argument("--model", default=None, help="by default goose-mini")
    arguments.add_argument("--characters", type=int, default=800, help="of each result, and before it")
    arguments.add_argument("--results", type=int, default=5, help="of each session")
    arguments.add_argument("--seeds", type=int, default=1, help="injections planted in each result")
    arguments.add_argument("--cache", type=Path, default=None, help="a folder for prices")
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    loaded = load_model(options.model)
    pricer = Pricer(loaded, REQUESTS.read_text(encoding="utf-8").splitlines())
    code = code_digest(sttx_core, sttx_ccsniff, sttx_train, foreign_prices, planted_injections)
    made_of = (
        code,
        digest(Path(__file__), REQUESTS, options.injections),
        loaded.sha256,
        (options.characters, options.results, options.seeds),
    )
    rows: list[Row] = []
    injections = read_injections(options.injections)
    paths = sorted(options.folder.rglob("*.jsonl"), key=lambda path: random.Random(path.stem).random())
    for path in paths:  # in an order of its own, so that a part of them is of all projects
        make = partial(rows_of, path, pricer, injections, options)
        rows += kept(options.cache, make, path.stem, digest(path), *made_of)
    result = results(rows)
    print(json.dumps(result) if options.json else table(rows, result))


def table(rows: Sequence[Row], result: dict[str, dict[str, Any]]) -> str:
    """Lay out the numbers of every detector."""
    untouched = sum(row["unseen"] is None for row in rows)
    lines = [f"{untouched} untouched results of {len({row['session'] for row in rows})} sessions"]
    for part, numbers in result.items():
        lines += ["", f"{part}: {numbers['planted']} planted results"]
        for name in DETECTORS:
            one = numbers[name]
            cells = (
                "{} {:6.3f} ({:.3f} to {:.3f})".format(what, *one[what])
                for what in ("false", "area", "less false")
            )
            lines.append(f"{name:22} {'  '.join(cells)}  on it {one['on it']:.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

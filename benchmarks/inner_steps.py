"""Measures what inner steps are worth: bits per byte after the same tokens, and after the same CPU time.

    uv run python benchmarks/inner_steps.py RESULTS.json DATA VOCABULARY [--tokens N] [--seeds N] [--layers N]
        [--hidden-size N] [--start-from MODEL] [--only NAME ...]

DATA is what `sttx pretrain` reads: texts, or a flat .bin of ids of VOCABULARY. Small models are trained from
scratch at a constant learning rate, so that every point of a run is the end of a shorter one; they are priced
on documents that the seed holds back. With --start-from, that model is trained on instead, and its rates
start at 0. A run that is in RESULTS.json already is not repeated. Prints a table of all results at the end.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

from sttx_core.tokenizers import tokenizer_from_spec
from sttx_train.data import open_data
from sttx_train.pretrain import PretrainConfig, Pretrainer

SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "1 step": {"inner_steps": 1, "inner_lr": 0.1},
    "3 steps": {"inner_steps": 3, "inner_lr": 0.1},
    "1 step, momentum 0.9": {"inner_steps": 1, "inner_lr": 0.1, "inner_momentum": 0.9},
    "1 step on 4 tokens": {"inner_steps": 1, "inner_lr": 0.1, "inner_batch": 4},
}
_BATCH, _CTX, _POINTS = 4, 256, 6


def run(name: str, seed: int, data: Any, tokenizer: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train one model; return its prices, and the CPU seconds of training up to each of them."""
    steps, start = max(2 * _POINTS, arguments.tokens // (_BATCH * _CTX)), arguments.start_from
    settings = SETTINGS[name] | ({"inner_lr": 0.0} if start and SETTINGS[name] else {})
    options = {"ctx": _CTX, "batch": _BATCH, "bf16": False, "seed": seed}
    options |= {} if start else {"hidden_size": arguments.hidden_size, "layers": arguments.layers}
    options |= {
        "steps": steps,
        "validation": arguments.validation,
        "eval_every": steps // _POINTS,
        "schedule": "constant",
    }
    options |= {"lr": 3e-4 if start else 3e-3, "warmup": min(20, steps // 4)}
    config = PretrainConfig(**options, **settings)
    pretrainer = Pretrainer(config, tokenizer=tokenizer, start=start, device="cpu")
    points, costs, last = [], [], time.process_time()
    for step in pretrainer.steps(data):
        if step.validation is None:
            costs.append(time.process_time() - last)
        else:
            points.append({"step": step.step, "tokens": step.tokens, "bpb": step.validation.bpb})
        last = time.process_time()
    each = fmean(costs)  # of a step; those with a validation are not timed
    rates = [block.att.inner_rate.detach() for block in pretrainer.model.blocks if settings]
    return {
        "parameters": sum(parameter.numel() for parameter in pretrainer.model.parameters()),
        "points": [point | {"cpu": point["step"] * each} for point in points],
        "rates": [[round(rate, 4) for rate in layer.tolist()] for layer in rates],
        "threads": torch.get_num_threads(),
    }


def price_at(points: list[dict[str, Any]], cpu: float) -> float:
    """Return the bits per byte after so much CPU time: on a line over its logarithm between measurements."""
    for before, after in zip(points, points[1:], strict=False):
        if before["cpu"] <= cpu <= after["cpu"]:
            share = math.log(cpu / before["cpu"]) / math.log(after["cpu"] / before["cpu"])
            return before["bpb"] + share * (after["bpb"] - before["bpb"])
    return points[-1]["bpb"] if cpu > points[-1]["cpu"] else math.nan


def table(results: dict[str, Any]) -> str:
    """Return the results as Markdown: means over the seeds, and differences to plain at the same seed."""
    by_seed: dict[str, dict[int, Any]] = {}
    for key, result in results.items():
        name, _, seed = key.rpartition(" #")
        by_seed.setdefault(name, {})[int(seed)] = result
    heads = ("model", "bpb, same tokens", "against plain", "bpb, same CPU time", "against plain", "CPU s")
    lines = [f"| {' | '.join(heads)} | seeds |", "| --- " + "| ---: " * len(heads) + "|"]
    for name, runs in by_seed.items():
        seeds = sorted(runs.keys() & by_seed.get("plain", {}).keys())
        if not seeds:
            continue
        plain = [by_seed["plain"][seed]["points"] for seed in seeds]
        own = [runs[seed]["points"] for seed in seeds]
        tokens = [points[-1]["bpb"] for points in own]
        base = [points[-1]["bpb"] for points in plain]
        limits = [min(mine[-1]["cpu"], points[-1]["cpu"]) for mine, points in zip(own, plain, strict=True)]
        same = [price_at(points, limit) for points, limit in zip(own, limits, strict=True)]
        base_same = [price_at(points, limit) for points, limit in zip(plain, limits, strict=True)]
        cpu = fmean(points[-1]["cpu"] for points in own)
        lines.append(
            f"| {name} | {fmean(tokens):.4f} | {_difference(tokens, base)} | {fmean(same):.4f} | "
            f"{_difference(same, base_same)} | {cpu:.0f} | {len(seeds)} |"
        )
    return "\n".join(lines)


def _difference(found: list[float], base: list[float]) -> str:
    changes = [100 * (one / other - 1) for one, other in zip(found, base, strict=True)]
    spread = f" ± {stdev(changes):.2f}" if len(changes) > 1 else ""
    return f"{fmean(changes):+.2f}%{spread}"


def main() -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("vocabulary")
    parser.add_argument("--tokens", type=int, default=300_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden-size", type=int, default=128)
    parser.add_argument("--validation", type=float, default=0.001, help="share of the documents")
    parser.add_argument("--start-from", default=None)
    parser.add_argument("--only", nargs="*", choices=SETTINGS, default=list(SETTINGS))
    arguments = parser.parse_args()
    results = json.loads(arguments.results.read_text()) if arguments.results.exists() else {}
    tokenizer = tokenizer_from_spec(arguments.vocabulary)
    data = open_data([arguments.data], tokenizer)
    for seed in range(arguments.seeds):
        for name in arguments.only:
            if (key := f"{name} #{seed}") in results:
                continue
            found = run(name, seed, data, tokenizer, arguments)
            results[key] = found
            arguments.results.write_text(json.dumps(results, indent=1))
            last = found["points"][-1]
            print(f"{key}: {last['bpb']:.4f} bits per byte, {last['cpu']:.0f} CPU s", flush=True)
    print(table(results))


if __name__ == "__main__":
    main()

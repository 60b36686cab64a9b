"""Measures what each part of the learner contributes, in prequential bits per byte of whole sessions.

    uv run python benchmarks/arms.py FOLDER --sessions NAME,NAME --arms "frozen;S0 injected" --experts off
    uv run python benchmarks/arms.py FOLDER --sessions all --arms "not learning;default;mixed" --frozen

Sessions are read one after another in the given order. Every arm sees the same windows, and the frozen model
carries its state over windows as the learner does. "As it is" means a hypernetwork that does not learn: the
one in the model's folder, or a new one. Prints one JSON line per arm; "last" is the last quarter of the
steps. Afterwards the arms can be compared session by session:

    uv run python benchmarks/arms.py RESULTS.jsonl --compare

prints what each arm saves beside "not learning" of the same seed, with a 95% interval over sessions.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sttx_ccsniff import open_source
from sttx_core.render import render_parts
from sttx_core.traces import Trace
from sttx_train.evaluate.intervals import interval
from sttx_train.formats import load_model
from sttx_train.online import LearnerConfig
from sttx_train.online.window import Score
from sttx_train.stream.trainer import StreamConfig, StreamTrainer

PLAIN: dict[str, Any] = {"phrases": "off", "replay_rows": 0}
ARMS: dict[str, dict[str, Any]] = {
    "frozen": PLAIN | {"inject": "none"},
    "S0 at start only": PLAIN | {"inject": "start"},
    "S0 injected": PLAIN,
    "injected + replay": {"phrases": "off"},
    "frozen + phrases (as it is)": {"phrases": "on", "replay_rows": 0, "inject": "none", "lr_hypernet": 0.0},
    "frozen + phrases": {"phrases": "on", "replay_rows": 0, "inject": "none"},
    "injected + phrases (as it is)": {"phrases": "on", "replay_rows": 0, "lr_hypernet": 0.0},
    "injected + phrases": {"phrases": "on", "replay_rows": 0},
    "default (auto)": {},
    "default, phrases on": {"phrases": "on"},
    "bias": PLAIN | {"scope": ("bias",), "inject": "none"},
    "state,bias": PLAIN | {"scope": ("state", "bias")},
    "state,vectors": PLAIN | {"scope": ("state", "vectors")},
    "state,head": PLAIN | {"scope": ("state", "head")},
    "state,bias,vectors": PLAIN | {"scope": ("state", "bias", "vectors")},
    "all": PLAIN | {"scope": ("all",), "inject": "none"},
    "state,bias,all": PLAIN | {"scope": ("state", "bias", "all")},
    "not learning": PLAIN | {"scope": ()},
    "default": {"phrases": "off"},
    "mixed": {"phrases": "off", "loss": "mixed"},
    "mixed, slower": {"phrases": "off", "loss": "mixed", "lr_state": 0.03},
    "all at 1e-4, mixed": {
        "phrases": "off",
        "loss": "mixed",
        "scope": ("all",),
        "lr_weights": 1e-4,
        "lr_vectors": 1e-4,
    },
    "all at 3e-5, mixed": {
        "phrases": "off",
        "loss": "mixed",
        "scope": ("all",),
        "lr_weights": 3e-5,
        "lr_vectors": 3e-5,
    },
    "all at 1e-4": {"phrases": "off", "scope": ("all",), "lr_weights": 1e-4, "lr_vectors": 1e-4},
}


def main() -> None:
    """Run the selected arms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--compare", action="store_true", help="FOLDER is a file of results: compare its arms"
    )
    parser.add_argument("--sessions", default="all", help="comma-separated parts of file names, in order")
    parser.add_argument("--most", type=int, default=0, help="bytes read of each session (0: all)")
    parser.add_argument("--experts", default="on", choices=["on", "off"])
    parser.add_argument("--steps", type=int, default=0, help="stop after so many windows (0: at the end)")
    parser.add_argument("--arms", default=";".join(ARMS), help="separated by ';'")
    parser.add_argument("--model", default=None)
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--set", action="append", default=[], help="NAME=VALUE, a setting for every arm")
    parser.add_argument("--frozen", action="store_true", help="also measure the frozen model in every arm")
    parser.add_argument("--seeds", default="0")
    args = parser.parse_args()
    if args.compare:
        compare([json.loads(line) for line in args.folder.read_text().splitlines()])
        return
    changes = dict(item.split("=", 1) for item in args.set)
    overrides = {name: json.loads(value) for name, value in changes.items()}
    for seed in map(int, args.seeds.split(",")):
        for arm in args.arms.split(";"):
            config = {"frozen": args.frozen, "seed": seed} | ARMS[arm] | overrides
            print(json.dumps(run(arm, config, args) | overrides), flush=True)


def run(arm: str, config: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Stream the sessions through one learner and return its results."""
    stream = StreamConfig(window=args.window, experts=args.experts, steps=args.steps)
    trainer = StreamTrainer(load_model(args.model), LearnerConfig(**config), stream)
    started, scores, by_session = time.monotonic(), [], {}
    for file in files(args.folder, args.sessions):
        first = len(scores)
        trainer.run(traces(file, args.most), lambda progress: scores.append(progress.report.score))
        by_session[file.stem] = total(scores[first:])
        if stream.steps and trainer.totals.steps >= stream.steps:
            break
    totals = trainer.totals
    report = trainer.report()
    last = scores[-len(scores) // 4 :]
    return {
        "arm": arm,
        "seed": config["seed"],
        "bpb": report["bpb"],
        "last": total(last),
        "sessions": by_session,
        "bytes": totals.bytes,
        "saved": round(1 - totals.model_steps / totals.tokens, 4),
        "trainable": report["trainable_parameters"],
        "phrases": report["phrases"],
        "seconds": round(time.monotonic() - started, 1),
        "threads": torch.get_num_threads(),
    }


def total(scores: Sequence[Score]) -> dict[str, float]:
    """Return the bytes of some windows and what they cost, in bits per byte."""
    size = sum(score.bytes for score in scores)
    paid, network = sum(score.bits for score in scores), sum(score.network_bits for score in scores)
    return {"bytes": size, "paid": paid / size, "network": network / size}


def files(folder: Path, names: str) -> list[Path]:
    """Return the files of the named sessions, in order."""
    found = sorted(folder.rglob("*.jsonl"))
    if names == "all":
        return found
    result = []
    for name in names.split(","):
        matching = [file for file in found if name in file.name]
        if len(matching) != 1:
            sys.exit(f"{name!r} matches {len(matching)} files in {folder}, not one: give more of its name")
        result += matching
    return result


def traces(file: Path, most: int) -> Iterator[Trace]:
    """Yield the traces of a session until ``most`` bytes of text are read."""
    size = 0
    with open_source(file) as source:
        for trace in source:
            yield trace
            size += sum(len(part.text.encode()) for part in render_parts(trace))
            if most and size >= most:
                return


def compare(results: Sequence[dict[str, Any]]) -> None:
    """Print what each arm saves beside "not learning" of the same seed."""
    plain = {result["seed"]: result for result in results if result["arm"] == "not learning"}
    for result in results:
        for key in ("paid", "network"):
            base = plain[result["seed"]]["sessions"]
            rows = [(one["bytes"], one[key], base[name][key]) for name, one in result["sessions"].items()]
            size, paid, before = np.array(rows).T
            saved = interval(size * (before - paid), size * before)
            between = "" if saved is None else f" ({saved[0]:.2%} to {saved[1]:.2%})"
            whole = 1 - (size * paid).sum() / (size * before).sum()
            last = 1 - result["last"][key] / plain[result["seed"]]["last"][key]
            name = f"{result['arm']} (seed {result['seed']}), {key}"
            cost = (size * paid).sum() / size.sum()
            print(f"{name}: {cost:.4f}, saved {whole:.2%}{between}, last quarter {last:.2%}")


if __name__ == "__main__":
    main()

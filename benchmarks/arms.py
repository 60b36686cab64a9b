"""Measures what each part of the learner contributes, in prequential bits per byte of whole sessions.

    uv run python benchmarks/arms.py FOLDER --sessions NAME,NAME --arms "frozen;S0 injected"

Sessions are read one after another in the given order. Every arm sees the same windows, and the frozen model
carries its state over windows as the learner does. "As it is" means a hypernetwork that does not learn: the
one in the model's folder, or a new one. Prints one JSON line per arm.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from sttx_ccsniff import open_source
from sttx_core.traces import Trace
from sttx_train.formats import load_model
from sttx_train.online import LearnerConfig
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
}


def main() -> None:
    """Run the selected arms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sessions", required=True, help="comma-separated parts of file names, in order")
    parser.add_argument("--arms", default=";".join(ARMS), help="separated by ';'")
    parser.add_argument("--model", default=None)
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--set", action="append", default=[], help="NAME=VALUE, a setting for every arm")
    parser.add_argument("--frozen", action="store_true", help="also measure the frozen model in every arm")
    parser.add_argument("--seeds", default="0")
    args = parser.parse_args()
    changes = dict(item.split("=", 1) for item in args.set)
    overrides = {name: json.loads(value) for name, value in changes.items()}
    for seed in map(int, args.seeds.split(",")):
        for arm in args.arms.split(";"):
            config = {"frozen": args.frozen, "seed": seed} | ARMS[arm] | overrides
            print(json.dumps(run(arm, config, args) | overrides), flush=True)


def run(arm: str, config: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Stream the sessions through one learner and return its results."""
    trainer = StreamTrainer(load_model(args.model), LearnerConfig(**config), StreamConfig(window=args.window))
    started = time.monotonic()
    totals = trainer.run(sessions(args.folder, args.sessions.split(",")))
    report = trainer.report()
    return {
        "arm": arm,
        "seed": config["seed"],
        "bpb": round(totals.bpb_paid, 4),
        "frozen": report["bpb"]["frozen"],
        "bytes": totals.bytes,
        "saved": round(1 - totals.model_steps / totals.tokens, 4),
        "trainable": report["trainable_parameters"],
        "phrases": report["phrases"],
        "seconds": round(time.monotonic() - started, 1),
        "threads": torch.get_num_threads(),
    }


def sessions(folder: Path, names: list[str]) -> Iterator[Trace]:
    """Yield the traces of the named sessions, one session after another."""
    files = sorted(folder.rglob("*.jsonl"))
    for name in names:
        matching = [file for file in files if name in file.name]
        if len(matching) != 1:
            sys.exit(f"{name!r} matches {len(matching)} files in {folder}, not one: give more of its name")
        with open_source(matching[0]) as source:
            yield from source


if __name__ == "__main__":
    main()

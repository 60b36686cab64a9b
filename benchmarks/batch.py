"""Measures what several windows a step cost and save: prequential bits per byte, and tokens a second.

    uv run python benchmarks/batch.py FOLDER [FILE ...] --batches 1,2,4,8 --seeds 0,1,2 --out RESULTS.jsonl

Takes the longest document of each session file, cut to so many windows. Every run reads the same windows: as
many documents side by side as a step has windows, and the next document where one ends. With ``--apart`` the
documents are side by side too, but each window is a step of its own. Prints one JSON line for each run, and
skips those that RESULTS.jsonl has. Another seed is another order of the documents, and other draws of replay.
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
from sttx_train.formats import LoadedModel, load_model
from sttx_train.online import LearnerConfig, Window
from sttx_train.predict import Predictor
from sttx_train.stream import Totals, TraceWindows


def document(loaded: LoadedModel, file: Path, most: int) -> list[Window]:
    """Return the first windows of the longest document of a file; none if it has no text."""
    cutter, documents = TraceWindows(loaded.tokenizer), dict[str, list[Window]]()

    def take(cut: list[Window] | None) -> bool:
        for window in cut or ():
            documents.setdefault(window.document, []).append(window)
        return cut is not None

    with open_source([str(file)], follow=False) as source:
        for trace in source:
            cutter.add(trace)
            while take(cutter.take()):
                pass
    while take(cutter.flush()):
        pass
    return max(documents.values(), key=len, default=[])[:most]


def side_by_side(documents: Sequence[list[Window]], count: int) -> Iterator[list[Window]]:
    """Yield the next windows of so many documents; where one ends, the next begins."""
    waiting, active = [list(one) for one in documents], list[list[Window]]()
    while waiting or active:
        active += [waiting.pop(0) for _ in range(min(count - len(active), len(waiting)))]
        yield [one.pop(0) for one in active]
        active = [one for one in active if one]


def measured(
    loaded: LoadedModel, documents: Sequence[list[Window]], batch: int, seed: int, *, apart: bool
) -> dict[str, Any]:
    """Learn from the documents; return prices and rates."""
    order = np.random.default_rng(seed).permutation(len(documents)) if seed else range(len(documents))
    predictor, totals = Predictor(loaded, learning=LearnerConfig(seed=seed)), Totals()
    started = time.process_time()
    for windows in side_by_side([documents[at] for at in order], batch):
        for step in [[window] for window in windows] if apart else [windows]:
            totals.add(predictor.step(step).score, len(step))
    seconds = time.process_time() - started
    return {
        "batch": batch,
        "seed": seed,
        "apart": apart,
        "bpb": totals.bpb(frozen=True),
        "bytes": totals.bytes,
        "steps": totals.steps,
        "tokens_per_cpu_second": totals.tokens / seconds,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run everything that is not measured yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("paths", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--windows", type=int, default=60, help="windows of each document")
    parser.add_argument("--batches", default="1,2,4,8")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--apart", action="store_true", help="a step for each window")
    parser.add_argument("--out", type=Path, help="results, one JSON line each")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    loaded = load_model()
    found = [sorted(path.rglob("*.jsonl")) if path.is_dir() else [path] for path in args.paths]
    files = [file for part in found for file in part]
    documents = [one for file in files if (one := document(loaded, file, args.windows))]
    lines = args.out.read_text().splitlines() if args.out and args.out.exists() else []
    done = {(row["batch"], row["seed"], row["apart"]) for row in map(json.loads, lines)}
    for seed in map(int, args.seeds.split(",")):
        for batch in map(int, args.batches.split(",")):
            if (batch, seed, args.apart) in done:
                continue
            line = json.dumps(measured(loaded, documents, batch, seed, apart=args.apart))
            print(line, flush=True)
            if args.out:
                with args.out.open("a") as out:
                    out.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
